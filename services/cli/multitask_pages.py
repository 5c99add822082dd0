"""Prints what came of jobs on several tasks, for people: a plan, a shared adapter, a proposal; and what to do next."""

from collections.abc import Mapping
from typing import Any

from services.cli import output, training_pages

_PLANNED = ("label", "rows", "group", "kind", "input", "output", "resource")
_MEASURED = ("label", "rows", "single", "shared", "difference", "interval", "qualified")


def has_page(job: Mapping[str, Any]) -> bool:
    """Whether a job that has ended is one of those that `page` prints."""
    marks = {"groups", "prefixes", "qualified_labels"}
    return job.get("state") == "succeeded" and not marks.isdisjoint(job["result"] or {})


def page(result: Mapping[str, Any]) -> None:
    """Print the result of a job that has succeeded, and on standard error its reasons and what to do next."""
    if "groups" in result:
        _plan(result)
    elif "prefixes" in result:
        _trained(result)
    else:
        _proposal(result)
    training_pages.warn(result)


def _plan(result: Mapping[str, Any]) -> None:
    rows = [{"label": label, **task} for label, task in result["tasks"].items()]
    output.table(rows, _PLANNED, as_json=False)
    for row in rows:
        for reason in (*row["reasons"], row["resource_reason"]):
            _say(f"{row['label']}: {reason}")


def _trained(result: Mapping[str, Any]) -> None:
    refs = result["refs"]
    stages = "; ".join(f"{one['stage']}: {one['steps']} steps, {one['sampler']}" for one in result["stages"])
    scores = training_pages.some([f"{label} {score:.3f}" for label, score in result["exact_match"].items()])
    versions = training_pages.some(list(refs.values()))
    output.record(
        {"adapter": result["adapter"], "versions": versions, "stages": stages, "exact match": scores}, as_json=False
    )
    one = next(iter(refs.values()))
    _say(
        f"`signalbox multitask propose --adapter {one} --validation LABEL=DATASET` measures it against single adapters"
    )


def _proposal(result: Mapping[str, Any]) -> None:
    output.table([_measured(label, own) for label, own in result["tasks"].items()], _MEASURED, as_json=False)
    saved = result["bytes_before"] - result["bytes_after"]
    slots = f"slots: {result['slots_before']} before, {result['slots_after']} after"
    _say(f"{len(result['qualified_labels'])} qualified; {slots}")
    _say(f"{saved / 2**20:.1f} MiB of adapters saved; overhead: {result['overhead'] or 'not known'}")
    if result["release"]:
        _say(f"`signalbox releases promote {result['release']}` makes it current")


def _measured(label: str, own: Mapping[str, Any]) -> dict[str, Any]:
    value, low, high = own["difference"]
    return {
        "label": label,
        "rows": own["rows"],
        "single": f"{own['single'][0]:.3f}",
        "shared": f"{own['shared'][0]:.3f}",
        "difference": f"{value:+.3f}",
        "interval": f"{low:+.3f} to {high:+.3f}",
        "qualified": own["qualified"],
    }


def _say(text: str) -> None:
    output.err.print(text, markup=False, highlight=False, soft_wrap=True)
