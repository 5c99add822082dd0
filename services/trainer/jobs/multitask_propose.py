"""The job `multitask.propose`: a shared adapter against each label's own, and the release that it is good for."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from services.trainer.context import TrainingContext
from services.trainer.data.task_rows import as_training
from services.trainer.evaluation.answers import exact_matches
from services.trainer.evaluation.bootstrap import estimate
from shared.contracts.entries import entry_of
from shared.contracts.manifests import AdapterManifest, Release, ReleaseLabel, Verdict
from shared.contracts.multitask import QUALIFIED, MultitaskPropose, is_qualified, overhead
from shared.contracts.rows import Row
from shared.contracts.times import utc_now
from shared.errors import Conflict, Invalid
from shared.registry.adapters import check_same_base
from shared.registry.ended import ended_result

if TYPE_CHECKING:
    from services.trainer.evaluation.reference import AdapterSwitch

ProposeContext = TrainingContext[MultitaskPropose]


class Measured(NamedTuple):
    """A label's answers by its own adapter and by the shared one: 1 for each right one, row by row."""

    single: list[float]
    shared: list[float]

    @property
    def is_qualified(self) -> bool:
        """Whether the shared adapter reaches its share of the label's own, by the point estimates (section 3.2)."""
        return is_qualified(sum(self.shared), sum(self.single))

    def as_report(self) -> dict[str, Any]:
        """Return plain values: both scores and their difference, each with its interval."""
        difference = [one - other for one, other in zip(self.shared, self.single, strict=True)]
        found = {"single": self.single, "shared": self.shared, "difference": difference}
        scores = {name: [round(number, 4) for number in estimate([values])] for name, values in found.items()}
        single = sum(self.single)
        ratio = round(sum(self.shared) / single, 4) if single else None
        return {"rows": len(self.single), **scores, "ratio": ratio, "qualified": self.is_qualified}


def propose_shared(context: ProposeContext) -> dict[str, Any]:
    """Measure every label under both adapters; where some are qualified, store the candidate that shares them."""
    context = context.settled()
    pinned = context.checkpoints().once("proposal", lambda: _pinned(context))
    release = context.registry.releases.get(context.job.tenant_id, pinned["release"])
    versions = _versions(context, context.registry.adapters.get(context.job.tenant_id, pinned["adapter"]))
    _check(context, release, versions)
    rows = {label: _rows(context, label, dataset) for label, dataset in context.body.validation.items()}
    measured = _measured(context, release, versions, rows)
    qualified = [label for label, own in measured.items() if own.is_qualified]
    table = {label: own.as_report() for label, own in measured.items()}
    candidate = _candidate(context, release, {label: versions[label] for label in qualified}, table, pinned["at"])
    return {
        "adapter": pinned["adapter"],
        "parent": release.id,
        "tasks": table,
        "qualified_labels": qualified,
        "overhead": overhead([len(qualified)]),
        **_saved(context, release, candidate),
        "release": candidate.id if candidate else "",
        "notes": [_how(candidate)],
    }


def _pinned(context: ProposeContext) -> dict[str, Any]:
    """What the first attempt builds on: the current release, and the weights that the job names."""
    body, registry, tenant_id = context.body, context.registry, context.job.tenant_id
    release = registry.releases.current_id(tenant_id)
    if not release:
        raise Conflict("no_release", "there is no current release to compare with: promote one with single adapters")
    if body.job:
        adapter = str(ended_result(context.clients.ledger, tenant_id, body.job, "multitask.train")["adapter"])
    else:
        adapter = registry.adapters.get(tenant_id, body.adapter).digest
    return {"release": release, "adapter": adapter, "at": utc_now()}


def _versions(context: ProposeContext, shared: AdapterManifest) -> dict[str, AdapterManifest]:
    """The newest version of each label that names the weights."""
    if not shared.labels:
        raise Invalid(
            "adapter_unshared", f"adapter {shared.ref} serves one label: name one that `multitask.train` has made"
        )
    own = context.registry.adapters.list_all
    found = {
        label: [one for one in own(context.job.tenant_id, label) if one.digest == shared.digest]
        for label in context.body.validation
    }
    if unknown := sorted(label for label, versions in found.items() if not versions):
        raise Invalid(
            "label_unshared",
            f"the shared adapter has no version of {', '.join(unknown)}; it serves {', '.join(sorted(shared.labels))}: "
            "name validation rows of these alone",
        )
    return {label: versions[-1] for label, versions in found.items()}


def _check(context: ProposeContext, release: Release, versions: Mapping[str, AdapterManifest]) -> None:
    base = context.clients.base_model
    for label, version in versions.items():
        check_same_base(version, base)
        entry = release.labels.get(label)
        if entry is None or not entry.adapter:
            raise Invalid(
                "label_unknown",
                f"release {release.id} has no adapter of {label} to compare with: train and promote one, or leave the "
                "label out",
            )
        if release.base_of(label) != base:
            raise Invalid(
                "adapter_base_mismatch",
                f"{label} is answered on base model {release.base_of(label)}, the shared adapter is for {base}: labels "
                "of different base models cannot share one; leave the label out, or rebase the release",
            )


def _rows(context: ProposeContext, label: str, dataset: str) -> list[Row]:
    rows = [row for row in context.rows_of(dataset, label) if row.output][: context.body.evaluate_rows]
    return context.enough(rows, dataset, label, fewest=2)


def _measured(
    context: ProposeContext,
    release: Release,
    versions: Mapping[str, AdapterManifest],
    rows: Mapping[str, Sequence[Row]],
) -> dict[str, Measured]:
    """Every label under both adapters; what an earlier attempt has measured is not measured again."""
    from services.trainer.evaluation.reference import AdapterSwitch
    from services.trainer.training.base import load_base

    clients, body = context.clients, context.body
    switch = AdapterSwitch(load_base(clients.base_folder, body.settings), context.registry.weights)
    found = {}
    for label, own in rows.items():
        entries = {"single": release.labels[label], "shared": entry_of(label, versions[label])}

        def measure(entries: Mapping[str, ReleaseLabel] = entries, own: Sequence[Row] = own) -> dict[str, list[float]]:
            return {name: _matches(context, switch, entry, own) for name, entry in entries.items()}

        context.report("measuring", label=label, rows=len(own))
        found[label] = Measured(**context.checkpoints().once(f"measured-{label}", measure))
    return found


def _matches(context: ProposeContext, switch: "AdapterSwitch", entry: ReleaseLabel, rows: Sequence[Row]) -> list[float]:
    """1 for each row that is answered exactly under a release's entry, as it is served there."""
    from services.trainer.evaluation.generate import answer_rows

    context.check()
    instructed = [row.model_copy(update={"instruction": row.instruction or entry.instruction}) for row in rows]
    with switch.to(entry.adapter) as model:
        answers = answer_rows(
            model,
            context.clients.tokenizer,
            as_training(instructed, entry.prefix),
            template=context.template(entry.template),
            max_tokens=context.body.settings.max_length,
            should_stop=lambda: context.lease.must_stop,
        )
    context.check()
    return exact_matches(answers, [row.output for row in rows])


def _candidate(
    context: ProposeContext,
    release: Release,
    shared: Mapping[str, AdapterManifest],
    table: Mapping[str, Mapping[str, Any]],
    at: str,
) -> Release | None:
    """The release that sends labels to their shared versions and leaves all else; None where none is to send."""
    changed = {label: entry_of(label, version, release.labels[label]) for label, version in shared.items()}
    if all(release.labels[label] == entry for label, entry in changed.items()):
        return None
    reasons = [
        f"{label}: {table[label]['shared'][0]:.3f} by the shared adapter, {table[label]['single'][0]:.3f} by its own."
        for label in changed
    ]
    candidate = release.model_copy(
        update={
            "parent": release.id,
            "labels": {**release.labels, **changed},
            "report": {**release.report, "multitask": dict(table)},
            "verdict": Verdict(passed=True, reasons=(*reasons, "No label of the current release goes.")),
            "created_at": at,
            "made_by": context.job.id,
        }
    )
    context.check()
    context.registry.releases.add(candidate)
    return candidate


def _how(candidate: Release | None) -> str:
    decided = f"a label is qualified by its point estimates: at least {QUALIFIED:.0%} of its own adapter's"
    return decided if candidate else f"{decided}; nothing would change, so that no release is proposed"


def _saved(context: ProposeContext, release: Release, candidate: Release | None) -> dict[str, Any]:
    """How many adapters, each of which takes a slot and memory, the candidate needs fewer."""
    before = {entry.adapter for entry in release.labels.values() if entry.adapter}
    after = {entry.adapter for entry in (candidate or release).labels.values() if entry.adapter}
    return {
        "slots_before": len(before),
        "slots_after": len(after),
        "bytes_before": _bytes(context, before),
        "bytes_after": _bytes(context, after),
    }


def _bytes(context: ProposeContext, digests: set[str]) -> int:
    fetch = context.registry.weights.fetch
    return sum(file.stat().st_size for digest in digests for file in fetch(digest).iterdir() if file.is_file())
