"""A selector at another threshold, judged anew on the rows that its release keeps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from services.api.infra.clients import Clients
from shared.contracts import gate
from shared.contracts.judged import report_at, routed
from shared.contracts.manifests import Release, ReleaseSelector
from shared.contracts.routing import measure


class JudgedAnew(NamedTuple):
    """What a release is at another threshold: the fields that change, and what the gate says against it."""

    fields: dict[str, Any]
    faults: Sequence[str]


def judged_anew(
    clients: Clients, before: Release, selector: ReleaseSelector, threshold: float, *, is_current: bool
) -> JudgedAnew:
    """Judge the selector of the current release, or of a candidate to replace it, at another threshold; blocking.

    The gate compares with what the current release reaches on the same rows, whatever thresholds lay between. It
    refuses a release that is older than the rows that it would need.
    """
    changed = selector.model_copy(update={"threshold": threshold})
    rows = clients.registry.datasets.judged_rows(before)
    if not rows:
        return JudgedAnew(
            {"selector": changed},
            [f"Release {before.id} keeps no rows to judge its threshold on: train the selector anew."],
        )
    report = report_at(rows, threshold)
    old = measure(routed(rows, selector.threshold)).per_label if is_current else before.report.get("before")
    verdict = gate.judge(old, report["per_label"])
    known = {**before.report, **report, "before": old}
    return JudgedAnew({"selector": changed, "report": known}, () if verdict.passed else verdict.sentences)
