"""The adapters of a release's labels: those that exist when the job begins, and those trained in the meantime."""

from collections.abc import Iterable, Mapping
from typing import NoReturn

from services.trainer.context import AnyContext, NewLabelsContext
from shared.contracts.entries import prefix_of
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.labels import parse_label, short_form
from shared.contracts.manifests import Release, ReleaseLabel
from shared.errors import NotFound
from shared.ledger import calls
from shared.registry.adapters import check_same_base


def named_adapters(parent: Release) -> dict[str, str]:
    """The versions that a release has for labels that its selector does not know yet."""
    return {label: parent.labels[label].ref for label in parent.named_labels}


def known_adapters(context: NewLabelsContext, named: Mapping[str, str]) -> dict[str, str]:
    """The version (`label@n`) that each label's adapter has now; labels without an adapter are left out.

    Where the job names no adapter for a label, that of `named` is taken before the label's newest. Raises `NotFound`
    where the job needs an adapter that does not exist and that no job trains.
    """
    served = {label: ref for label, ref in named.items() if label not in context.body.adapters}
    found = {label: served.get(label) or _ref(context, label) for label in sorted(context.body.labels)}
    if context.body.missing_adapters == "refuse":
        _jobs_in_training(context, [label for label, ref in found.items() if not ref])
    return {label: ref for label, ref in found.items() if ref}


def release_labels(context: NewLabelsContext, known: Mapping[str, str]) -> dict[str, ReleaseLabel]:
    """The release's entry for each new label; `known` holds the versions that were there when the job began.

    Raises `NotFound`, and `Suspended` where the job has to wait for an adapter: see `wait_for_adapters`.
    """
    labels = sorted(context.body.labels)
    if context.body.missing_adapters == "allow":
        return {label: _release_label(context, label, known.get(label, "")) for label in labels}
    refs = {label: known.get(label) or _ref(context, label) for label in labels}
    missing = [label for label, ref in refs.items() if not ref]
    if missing:
        wait_for_adapters(context, missing)
    return {label: _release_label(context, label, ref) for label, ref in refs.items()}


def wait_for_adapters(context: NewLabelsContext, missing_labels: Iterable[str]) -> NoReturn:
    """Let the job wait for those that train its adapters; its next attempt resumes from the checkpoints.

    Raises `Suspended`, and `NotFound` where no job trains one of them.
    """
    missing = list(missing_labels)
    jobs = _jobs_in_training(context, missing)
    context.report("waiting_for_adapters", labels=missing)
    context.attempt.wait_for(sorted(jobs.values()))  # the trainer is free meanwhile: it may be the only one


def _ref(context: NewLabelsContext, label: str) -> str:
    adapters = context.body.adapters
    try:
        return context.registry.adapters.get(context.job.tenant_id, adapters.get(label, label)).ref
    except NotFound:
        if label in adapters:
            raise
        return ""


def _jobs_in_training(context: NewLabelsContext, missing: Iterable[str]) -> dict[str, str]:
    """The unfinished job that trains each missing adapter, by label; raises `NotFound` where there is none."""
    labels = list(missing)
    training = _adapter_trainings(context) if labels else {}
    # The registry once more: a training may have ended after the adapters were looked up.
    lost = [label for label in labels if label not in training and not _ref(context, label)]
    if lost:
        raise NotFound(
            "adapter_not_found", f"no adapter of {', '.join(lost)} is there or being trained; train or upload it first"
        )
    return {label: training[label] for label in labels if label in training}


def _adapter_trainings(context: AnyContext) -> dict[str, str]:
    """Ids of the tenant's unfinished jobs that train an adapter, by the adapter's label."""
    tenant, ledger = context.job.tenant_id, context.clients.ledger
    unfinished = [
        job
        for state in (JobState.QUEUED, JobState.RUNNING)
        for job in ledger.do(
            calls.list_jobs(tenant, limit=200, only=calls.JobFilter(state=state, kind=JobKind.TRAIN), include=["body"])
        ).jobs
    ]
    bodies = [(job.body or {}, job.id) for job in unfinished]
    return {
        short_form(str(body.get("label"))): job_id for body, job_id in bodies if body.get("kind") == "adapter.train"
    }


def _release_label(context: NewLabelsContext, label: str, ref: str) -> ReleaseLabel:
    body = context.body
    group = body.groups.get(label, parse_label(label).domain)
    description = body.descriptions.get(label, "")
    template, instruction = body.templates.get(label), body.instructions.get(label)
    if not ref:
        return ReleaseLabel(
            adapter="",
            ref="",
            group=group,
            template=template or "chatml",
            instruction=instruction or "",
            description=description,
        )
    manifest = context.registry.adapters.get(context.job.tenant_id, ref)
    check_same_base(manifest, context.clients.base_model)
    return ReleaseLabel(
        adapter=manifest.digest,
        ref=manifest.ref,
        group=group,
        template=template or manifest.template,
        instruction=instruction or manifest.instruction,
        description=description,
        constraint=manifest.constraint,
        prefix=prefix_of(label, manifest),
    )
