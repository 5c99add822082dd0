"""The adapters of a release's labels: those that were there when the job began, and those trained meanwhile."""

from collections.abc import Iterable, Mapping
from typing import Any

from services.trainer.context import TrainingContext
from shared.contracts.jobs import Job, JobKind, JobState
from shared.contracts.labels import parse_label
from shared.contracts.manifests import ReleaseLabel
from shared.contracts.training import SelectorAdd, SelectorTrain
from shared.errors import NotFound
from shared.ledger import calls
from shared.registry.adapters import check_same_base
from shared.worker.leases import HeldJob

RETRY_SECONDS = 3.0
Bringing = SelectorTrain | SelectorAdd
"""The bodies that bring new labels."""


def known_adapters(job: Job, body: Bringing, context: TrainingContext) -> dict[str, str]:
    """The version (`label@n`) that each label's adapter has now; labels without one are left out.

    Raises `NotFound` where such a label's adapter is not being trained either, and none is needed.
    """
    found = {label: _ref(job, body, label, context) for label in sorted(body.labels)}
    if body.missing_adapters == "refuse":
        _require_coming(job, [label for label, ref in found.items() if not ref], context)
    return {label: ref for label, ref in found.items() if ref}


def release_labels(
    job: Job, held: HeldJob, body: Bringing, known: Mapping[str, str], context: TrainingContext
) -> dict[str, ReleaseLabel]:
    """What the release does with each label; while an adapter is still being trained, the job waits in its queue.

    Raises `NotFound`, and `Cancelled` where the job is given back: it then goes on from its last checkpoint.
    """
    if body.missing_adapters == "allow":
        return {x: _release_label(job, body, x, known.get(x, ""), context) for x in sorted(body.labels)}
    refs = {**known_adapters(job, body, context), **known}
    missing = sorted(set(body.labels) - set(refs))
    if missing:
        context.report(job, "waiting_for_adapters", labels=missing)
        held.wait(RETRY_SECONDS)
        held.release_unfinished()  # not waited for here: there may be one trainer alone
    return {label: _release_label(job, body, label, ref, context) for label, ref in sorted(refs.items())}


def _ref(job: Job, body: Bringing, label: str, context: TrainingContext) -> str:
    try:
        return context.registry.adapters.get(job.tenant_id, body.adapters.get(label, label)).ref
    except NotFound:
        if label in body.adapters:
            raise
        return ""


def _require_coming(job: Job, missing: Iterable[str], context: TrainingContext) -> None:
    coming = _labels_in_training(job, context) if missing else set()
    lost = sorted(set(missing) - coming)
    if lost:
        raise NotFound(
            "adapter_not_found", f"no adapter of {', '.join(lost)} is there or being trained; train or upload it first"
        )


def _labels_in_training(job: Job, context: TrainingContext) -> set[Any]:
    """Labels of adapters that unfinished training jobs of this tenant make."""
    unfinished = [
        other
        for state in (JobState.QUEUED, JobState.RUNNING)
        for other in context.ledger.do(calls.list_jobs(job.tenant_id, limit=200, state=state, kind=JobKind.TRAIN)).jobs
    ]
    return {other.body.get("label") for other in unfinished if other.body.get("kind") == "adapter.train"}


def _release_label(job: Job, body: Bringing, label: str, ref: str, context: TrainingContext) -> ReleaseLabel:
    group = body.groups.get(label, parse_label(label).domain)
    if not ref:
        return ReleaseLabel(adapter="", ref="", group=group, template="chatml", instruction="")
    manifest = context.registry.adapters.get(job.tenant_id, ref)
    check_same_base(manifest, context.base_model)
    return ReleaseLabel(
        adapter=manifest.digest,
        ref=manifest.ref,
        group=group,
        template=manifest.template,
        instruction=manifest.instruction,
    )
