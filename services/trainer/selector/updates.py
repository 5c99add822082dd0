"""The data of each kind of selector job: labels trained from nothing, added, balanced or deleted (paper, section 3.4).

Each kind answers the same questions: which rows the release keeps, which of them the language model sees in full, and
of which it sees the retained share.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from services.trainer.context import SelectorContext, TrainingContext
from services.trainer.selector.data import (
    Rows,
    SelectorData,
    Sets,
    choose_sets,
    joined,
    report_data,
    selector_rows,
    split_rows,
    stored_sets,
    unseen_rows,
    with_descriptions,
    with_held_out,
)
from services.trainer.selector.difficulty import Difficulty, sort_by_accuracy
from services.trainer.selector.feedback import feedback_counts, judged_by_feedback, labels_of_feedback
from services.trainer.selector.inputs import Base, Inputs, base_of_update, kind_of_update
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release
from shared.contracts.training import SelectorAdd, SelectorBalance, SelectorDelete, SelectorTrain, SelectorUpdate
from shared.contracts.training_tasks import MIN_ROWS
from shared.errors import Invalid


def select_data(context: SelectorContext, inputs: Inputs) -> SelectorData:
    """Select the rows that the selector is trained and judged on (paper, sections 3.3 and 3.4).

    Raises `Invalid`, and `Conflict` where there is no release that the update could start from.
    """
    body = context.body
    if isinstance(body, SelectorTrain):
        return _train(context.with_body(body), inputs.parent)
    base = base_of_update(context.with_body(body), inputs.parent)
    data = _learnable(_update(context, base))
    return _grown(data, base, body) if base.selector.prototypes else data


def _update(context: SelectorContext, base: Base) -> SelectorData:
    body = context.body
    if isinstance(body, SelectorAdd):
        return _add(context.with_body(body), base)
    if isinstance(body, SelectorBalance):
        return _balance(context.with_body(body), base)
    assert isinstance(body, SelectorDelete)
    return _delete(context.with_body(body), base)


def _grown(data: SelectorData, base: Base, body: SelectorUpdate) -> SelectorData:
    """The data of an update of prototypes, which may become another kind: a language model starts from nothing."""
    described = {label: entry.description for label, entry in base.release.labels.items()}
    added = body.descriptions if isinstance(body, SelectorAdd) else {}
    sets = with_held_out(data.sets, {**described, **added}, body.settings.seed)
    fed = {label for label, count in data.from_feedback.items() if count and not data.sets.validation.get(label)}
    warnings = [*judged_by_feedback(sets.validation, fed), *data.notes.get("warnings", ())]
    notes = {**data.notes, "warnings": warnings} if warnings else data.notes
    return replace(data, sets=sets, full=sets.representation, retained={}, notes=notes)


def _train(context: TrainingContext[SelectorTrain], parent: Release | None) -> SelectorData:
    """All labels in full; validation rows of labels that the parent has serve to compare the two."""
    body = context.body
    if len({*body.datasets, *body.descriptions}) < 2:
        raise Invalid("labels_too_few", "a selector needs two labels, or one label and a background data set")
    held_out = _held_out(context, parent)
    split = split_rows(context, body.text, held_out, fewest=1 if body.may_take_prototypes else MIN_ROWS)
    chosen = choose_sets(context, split, body.text)
    sets = with_descriptions(chosen, body.descriptions).joined(Sets({}, held_out))
    before = parent.selector if parent and _is_read_here(context, parent) else None
    known = set(before.labels) - {BACKGROUND} if before else set()
    kept = {label: rows for label, rows in joined(split.validation, held_out).items() if label in known}
    return SelectorData(
        sets,
        full=sets.representation,
        retained={},
        datasets=body.datasets,
        kept_validation=selector_rows(kept, before.text) if before else {},
        notes=report_data(context, split, chosen, {}, body.text),
        from_feedback=_counts(chosen.representation, split.of_feedback),
    )


def _held_out(context: TrainingContext[SelectorTrain], parent: Release | None) -> Rows:
    """The parent's validation rows of labels of feedback, where the job's selector reads the same of a request."""
    if parent is None or parent.selector is None or parent.selector.text != context.body.text:
        return {}
    read, keys = context.registry.datasets.get_rows, parent.validation
    return {label: read(keys[label]) for label in labels_of_feedback(context, context.body.datasets) if label in keys}


def _counts(rows: Rows, labels: Iterable[str]) -> dict[str, int]:
    return {label: len(rows[label]) for label in labels if label in rows}


def _is_read_here(context: SelectorContext, parent: Release) -> bool:
    """Whether this trainer's base model can score with the release's selector; some selectors need no base model."""
    needs_base = parent.selector is not None and parent.selector.needs_base
    return not needs_base or parent.base_model == context.clients.base_model


def _add(context: TrainingContext[SelectorAdd], base: Base) -> SelectorData:
    """New labels in full, and a share of the old ones; background rows of a new label become rows of that label."""
    body, old = context.body, stored_sets(context, base.release)
    split = split_rows(context, base.selector.text, old.validation, fewest=fewest_rows(body, base))
    chosen = choose_sets(context, split, base.selector.text)
    new = with_descriptions(chosen, body.descriptions)
    kept = old.without(body.labels)
    known = joined(kept.representation, kept.validation)
    return SelectorData(
        kept.joined(new),
        full=new.representation,
        retained=kept.representation,
        datasets={**base.release.datasets, **body.datasets},
        kept_validation=old.validation,
        notes=report_data(context, split, chosen, known, base.selector.text),
        from_feedback=_together(feedback_counts(base.release), _counts(chosen.representation, split.of_feedback)),
    )


def _together(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


def _balance(context: TrainingContext[SelectorBalance], base: Base) -> SelectorData:
    """All labels but the easy ones in full, with new rows of the hard ones, and a share of the easy ones."""
    body, old = context.body, stored_sets(context, base.release)
    easy, hard = _difficulty(body, base.release)
    datasets = {**base.release.datasets, **body.labels}
    chosen = _datasets_of(hard, datasets)
    of_feedback = labels_of_feedback(context, chosen)
    new = Sets(unseen_rows(context, chosen, old, base.selector.text), {})  # no new row judges
    others = {label: rows for label, rows in old.representation.items() if label not in easy}
    return SelectorData(
        old.joined(new),
        full=joined(others, new.representation),
        retained={label: rows for label, rows in old.representation.items() if label in easy},
        datasets=datasets,
        kept_validation=old.validation,
        notes={"easy": easy, "hard": {label: len(new.representation.get(label, ())) for label in hard}},
        from_feedback=_together(feedback_counts(base.release), _counts(new.representation, of_feedback)),
    )


def _delete(context: TrainingContext[SelectorDelete], base: Base) -> SelectorData:
    """A share of the labels that stay; rows of deleted labels are background where their texts are to be rejected."""
    body, old = context.body, stored_sets(context, base.release)
    kept = old.without(body.labels)
    if body.deleted_texts == "reject":
        kept = kept.joined(old.as_background(body.labels))
    fed = Counter(feedback_counts(base.release))
    moved = sum(fed.pop(label, 0) for label in body.labels)
    fed[BACKGROUND] += moved if body.deleted_texts == "reject" else 0
    return SelectorData(
        kept,
        full={},
        retained=kept.representation,
        datasets={label: ref for label, ref in base.release.datasets.items() if label not in body.labels},
        kept_validation=old.validation,
        deleted={label: rows for label, rows in old.validation.items() if label in body.labels},
        from_feedback=fed,
    )


def fewest_rows(body: SelectorAdd, base: Base) -> int:
    """The fewest rows of a new label, by the kind of selector that it joins; raises `Invalid` where it has none."""
    if kind_of_update(body, base) in ("prototypes", "auto"):
        return 1
    bare = sorted(set(body.labels) - set(body.datasets))
    if bare:
        raise Invalid(
            "dataset_missing",
            f"a selector of kind {base.selector.kind} needs rows, and {', '.join(bare)} has only a description; "
            f"give at least {MIN_ROWS}, or take selector `prototypes`",
        )
    return MIN_ROWS


def _learnable(data: SelectorData) -> SelectorData:
    """The data, without validation rows of labels that have no training rows; raises `Invalid` `labels_too_few`."""
    labels = data.sets.representation
    if len(labels) < 2:
        raise Invalid("labels_too_few", f"only {', '.join(labels) or 'nothing'} would be left to select; train anew")
    # A selector without background rows to learn from cannot be judged on background rows.
    validation = {label: rows for label, rows in data.sets.validation.items() if label in labels}
    return replace(data, sets=data.sets._replace(validation=validation))


def _difficulty(body: SelectorBalance, release: Release) -> Difficulty:
    """Easy and hard labels: those that the body names, or else by the accuracies of the release; raises `Invalid`."""
    measured = sort_by_accuracy(release.accuracy_of, hard_below=body.hard_below, easy_from=body.easy_from)
    hard = sorted(body.named_hard) or measured.hard
    if not hard:
        raise Invalid(
            "nothing_to_balance",
            f"no label of release {release.id} is under {body.hard_below:g} on validation; name the hard ones, "
            "or raise hard_below",
        )
    easy = sorted(body.easy) or [label for label in measured.easy if label not in hard]
    return Difficulty(easy, hard)


def _datasets_of(labels: list[str], datasets: dict[str, str]) -> dict[str, str]:
    missing = [label for label in labels if label not in datasets]
    if missing:
        raise Invalid("dataset_missing", f"the release names no data set of {', '.join(missing)}; name one in labels")
    return {label: datasets[label] for label in labels}
