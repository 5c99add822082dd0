"""What an update of a selector works on: labels added, balanced or deleted (paper, section 3.4)."""

from dataclasses import replace
from typing import NamedTuple

from services.trainer.context import TrainingContext
from services.trainer.selector.data import Rows, Sets, data_notes, fresh_rows, joined, sets_of, split_rows, stored_sets
from services.trainer.selector.difficulty import Difficulty, sort_by_accuracy
from services.trainer.selector.plan import Inputs, Plan
from shared.contracts.jobs import Job
from shared.contracts.manifests import Release, ReleaseSelector
from shared.contracts.training import SelectorAdd, SelectorBalance, SelectorDelete, SelectorUpdate
from shared.errors import Conflict, Invalid
from shared.worker.leases import HeldJob


class Base(NamedTuple):
    """What an update starts from."""

    release: Release
    selector: ReleaseSelector
    sets: Sets


def plan_update(job: Job, held: HeldJob, body: SelectorUpdate, inputs: Inputs, context: TrainingContext) -> Plan:
    """Plan a second fine-tuning; raises `Conflict`, and `Invalid` where the labels do not fit the release."""
    base = _base(body, inputs.parent, context)
    if isinstance(body, SelectorAdd):
        return _addition(job, held, body, base, inputs, context)
    if isinstance(body, SelectorBalance):
        return _balance(job, held, body, base, context)
    return _deletion(body, base)


def _base(body: SelectorUpdate, parent: Release | None, context: TrainingContext) -> Base:
    if parent is None:
        raise Conflict("no_release", "there is no current release to update; run selector.train first")
    if parent.selector is None:
        raise Conflict("selector_missing", "the current release has no selector to update; run selector.train first")
    if parent.base_model != context.base_model:
        raise Conflict(
            "base_model_changed",
            f"release {parent.id} belongs to base model {parent.base_model}, not to {context.base_model}; "
            "run selector.train first",
        )
    lacking = sorted(set(parent.labels) - set(parent.representation))
    if lacking:
        raise Conflict(
            "representation_missing", f"release {parent.id} keeps no rows of {', '.join(lacking)}; train anew"
        )
    body.check_against(parent)
    return Base(parent, parent.selector, stored_sets(parent, context))


def _addition(job: Job, held: HeldJob, body: SelectorAdd, base: Base, inputs: Inputs, context: TrainingContext) -> Plan:
    """New labels in full beside a share of the old ones; what was background and is a label again is no background."""
    split = split_rows(job, body, base.selector.text, context)
    new = sets_of(job, held, body, split, base.selector.text, context)
    old = base.sets.without(body.labels)
    plan = _plan(base, old.joined(new), fresh=new.representation, old=old.representation)
    known = joined(old.representation, old.validation)
    notes = data_notes(job, split, new, known, base.selector.text, body.selection, context)
    return replace(plan, adapters=inputs.adapters, datasets={**plan.datasets, **body.datasets}, notes=notes)


def _balance(job: Job, held: HeldJob, body: SelectorBalance, base: Base, context: TrainingContext) -> Plan:
    """A share of the easy labels' rows, all of the others', and more for the hard ones."""
    easy, hard = _difficulty(body, base.release)
    datasets = {**base.release.datasets, **body.labels}
    extra = fresh_rows(
        job, held, _only(datasets, hard), base.sets, base.selector.text, body.selection, body.settings.seed, context
    )
    old = base.sets.representation
    plan = _plan(
        base,
        base.sets.joined(Sets(extra, {})),
        fresh=joined({label: rows for label, rows in old.items() if label not in easy}, extra),
        old={label: rows for label, rows in old.items() if label in easy},
    )
    added = {label: len(extra.get(label, ())) for label in hard}
    return replace(plan, datasets=datasets, notes={"easy": easy, "hard": added})


def _deletion(body: SelectorDelete, base: Base) -> Plan:
    """A share of the labels that stay, and of the deleted ones' rows as background where they are to be rejected."""
    kept = base.sets.without(body.labels)
    if body.deleted_texts == "reject":
        kept = kept.joined(base.sets.as_background(body.labels))
    plan = _plan(base, kept, fresh={}, old=kept.representation)
    return replace(
        plan,
        datasets={label: ref for label, ref in plan.datasets.items() if label not in body.labels},
        deleted={label: rows for label, rows in base.sets.validation.items() if label in body.labels},
    )


def _plan(base: Base, sets: Sets, *, fresh: Rows, old: Rows) -> Plan:
    """What every update takes over from the release it starts from; raises `Invalid` `labels_too_few`."""
    scored = sets.representation
    if len(scored) < 2:
        raise Invalid("labels_too_few", f"only {', '.join(scored) or 'nothing'} would be left to select; train anew")
    return Plan(
        # Background rows to be judged by mean nothing to a selector that has none to learn from.
        sets._replace(validation={label: rows for label, rows in sets.validation.items() if label in scored}),
        fresh=fresh,
        old=old,
        datasets=base.release.datasets,
        adapters={},
        kind=base.selector.kind,
        readout="auto",
        text=base.selector.text,
        reject_policy=base.release.reject_policy,
        parent=base.release,
        start_from=base.selector,
        kept_validation=base.sets.validation,
    )


def _difficulty(body: SelectorBalance, release: Release) -> Difficulty:
    """Easy and hard labels: those the body names, else by what the release reached; raises `Invalid`."""
    measured = sort_by_accuracy(
        release.report.get("per_label", {}), hard_below=body.hard_below, easy_from=body.easy_from
    )
    hard = sorted(body.named_hard) or measured.hard
    if not hard:
        raise Invalid(
            "nothing_to_balance",
            f"no label of release {release.id} is under {body.hard_below:g} on validation; name the hard ones, "
            "or raise hard_below",
        )
    easy = sorted(body.easy) or [label for label in measured.easy if label not in hard]
    return Difficulty(easy, hard)


def _only(datasets: dict[str, str], labels: list[str]) -> dict[str, str]:
    missing = [label for label in labels if label not in datasets]
    if missing:
        raise Invalid("dataset_missing", f"the release names no data set of {', '.join(missing)}; name one in labels")
    return {label: datasets[label] for label in labels}
