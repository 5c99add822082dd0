"""Which rows of a selector come from feedback: they teach, and judge only where a label has no others."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from services.trainer.context import AnyContext
from shared.contracts.manifests import Release
from shared.contracts.rows import Row


def labels_of_feedback(context: AnyContext, datasets: Mapping[str, str]) -> frozenset[str]:
    """The labels whose data set is made of feedback."""
    is_of_feedback = cache(lambda ref: context.registry.datasets.is_of_feedback(context.job.tenant_id, ref))
    return frozenset(label for label, ref in datasets.items() if is_of_feedback(ref))


def feedback_counts(release: Release) -> dict[str, int]:
    """How many representation rows of each label of a release came from feedback; none in a release older than this."""
    noted = release.report.get("feedback_rows", {})
    return {label: counts["from_feedback"] for label, counts in noted.items() if counts["from_feedback"]}


def judged_by_feedback(validation: Mapping[str, Sequence[Row]], of_feedback: Iterable[str]) -> list[str]:
    """A warning for each label whose validation rows come from feedback, because there are no others."""
    return [
        f"{label}: it is judged by rows of feedback, since the release before has none to judge it by: add rows that "
        "do not come from requests"
        for label in sorted(of_feedback)
        if validation.get(label)
    ]
