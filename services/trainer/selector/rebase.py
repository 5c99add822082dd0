"""A release on another base model: its adapters there, and what stays as it was (decision 53)."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from services.trainer.context import SelectorContext
from shared.contracts.entries import prefix_of
from shared.contracts.manifests import AdapterManifest, Release, ReleaseLabel
from shared.contracts.rebase import Rebase
from shared.contracts.training import SelectorTrain
from shared.errors import Invalid, NotFound
from shared.ledger import calls

_PARTS = ("labels", "descriptions", "adapters", "groups", "templates", "instructions")
"""What a body says of each label."""


def rebase_of(context: SelectorContext) -> Rebase | None:
    """What the job says of the release that it moves; None for any other job."""
    return context.body.rebase if isinstance(context.body, SelectorTrain) else None


def moved_adapters(context: SelectorContext, rebase: Rebase, parent: Release | None) -> dict[str, str]:
    """The version of each label's adapter; a label whose training failed has none unless it keeps the parent's.

    Raises `Suspended` until each training has ended, and `Invalid` where too few labels are left for a selector.
    """
    if parent is None:
        raise Invalid("rebase_malformed", "a rebase needs the release that it moves: name it as `parent`")
    if unfinished := list(_unfinished(context, rebase.jobs.values())):
        context.report("waiting_for_adapters", labels=sorted(rebase.jobs))
        context.attempt.wait_for(unfinished)
    kept = {label: parent.labels[label].ref for label in rebase.kept if label in parent.labels}
    trained = {label: _made_by(context, label, job) for label, job in rebase.jobs.items()}
    if rebase.failed == "keep":
        kept |= {label: parent.labels[label].ref for label, made in trained.items() if made is None}
    found = kept | {label: made.ref for label, made in trained.items() if made}
    left = [label for label in context.body.labels if label in found]
    has_background = isinstance(context.body, SelectorTrain) and context.body.background is not None
    if len(left) + has_background < 2:
        failed = ", ".join(sorted(set(rebase.jobs) - set(found))) or "none"
        raise Invalid(
            "labels_too_few",
            f"{len(left)} labels have an adapter on the new base model, a selector needs two (failed: {failed}); look "
            "at the jobs of the others, then start the rebase again",
        )
    return dict(sorted(found.items()))


def moved_body(body: SelectorTrain, labels: Collection[str]) -> SelectorTrain:
    """The body with those of its labels that have an adapter."""
    kept = {part: {label: value for label, value in getattr(body, part).items() if label in labels} for part in _PARTS}
    return body.model_copy(update=kept)


def moved_labels(context: SelectorContext, parent: Release, refs: Mapping[str, str]) -> dict[str, ReleaseLabel]:
    """The entries of the parent with their new adapters; one that stays names the base model that it was made for."""
    return {label: _moved(context, parent, label, ref) for label, ref in refs.items() if label in parent.labels}


def report_of_move(context: SelectorContext, parent: Release | None, refs: Mapping[str, str]) -> dict[str, Any]:
    """What the candidate's report says of labels that were not trained anew; empty for a job that moves no release."""
    rebase = rebase_of(context)
    if rebase is None or parent is None:
        return {}
    kept = sorted(label for label, ref in refs.items() if ref == parent.labels[label].ref)
    return {"rebase": {"kept": kept, "left_out": sorted(set(parent.labels) - set(refs))}}


def _moved(context: SelectorContext, parent: Release, label: str, ref: str) -> ReleaseLabel:
    entry, base = parent.labels[label], parent.base_of(label)
    if ref == entry.ref:
        return entry.model_copy(update={"base_model": "" if base == context.clients.base_model else base})
    made = context.registry.adapters.get(context.job.tenant_id, ref)
    return entry.model_copy(
        update={
            "adapter": made.digest,
            "ref": made.ref,
            "template": made.template,
            "prefix": prefix_of(label, made),
            "base_model": "",
        }
    )


def _made_by(context: SelectorContext, label: str, job_id: str) -> AdapterManifest | None:
    # The registry, since the ledger forgets a job long before a rebase of many labels has ended.
    versions = context.registry.adapters.list_all(context.job.tenant_id, label)
    return next((made for made in versions if made.made_by == job_id), None)


def _unfinished(context: SelectorContext, job_ids: Iterable[str]) -> Iterable[str]:
    for job_id in job_ids:
        try:
            job = context.clients.ledger.do(calls.get(job_id, context.job.tenant_id))
        except NotFound:  # it has ended, and was forgotten
            continue
        if not job.state.is_final:
            yield job_id
