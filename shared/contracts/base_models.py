"""Compares the base model that a release needs with those that are served, and says what to do where they differ."""

from collections.abc import Mapping, Sequence


def other_base(release_id: str, needed: str, served: Mapping[str, Sequence[str]]) -> str:
    """Return the sentence about a release and the base models that the live workers of some queues serve instead."""
    instead = "; ".join(f"{queue}: {', '.join(sorted(bases))}" for queue, bases in served.items())
    return (
        f"release {release_id} needs base model {needed}, and its live workers serve another one ({instead}): "
        "set SIGNALBOX_BASE_MODEL of workers to the model that it was made for, or promote a release made for theirs; "
        "with force, its jobs wait for such workers"
    )


def not_served(serves: str, needed: Sequence[str]) -> str:
    """Return the sentence about a process whose base model none of the current releases was made for."""
    return (
        f"serves {serves}, and the current releases need {', '.join(needed)}: set SIGNALBOX_BASE_MODEL to the model "
        f"that they were made for, or promote a release made for {serves}"
    )
