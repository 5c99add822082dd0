"""The rows of a selector job: read from data sets, split, chosen among, or taken over from a release."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from services.trainer.context import TrainingContext
from services.trainer.data.report import LabelData, data_report, is_blank
from services.trainer.data.split import same_text, split_by_text
from shared.contracts.jobs import Job
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release, SelectorText
from shared.contracts.rows import Row
from shared.contracts.selection import selection_text
from shared.contracts.training import RepresentationSettings, SelectorAdd, SelectorTrain
from shared.errors import Invalid
from shared.worker.leases import HeldJob

Rows = Mapping[str, Sequence[Row]]
"""By label. A row's input is what a selector reads; background may carry the label of a deleted task."""


class Split(NamedTuple):
    """Rows of data sets, as they were uploaded."""

    train: Rows
    validation: Rows


class Sets(NamedTuple):
    """The rows that a selector learns from, and those that it is judged on."""

    representation: Rows
    validation: Rows

    def without(self, labels: Iterable[str]) -> Self:
        """What is left when these labels go, as labels and as the origin of background rows."""
        gone = set(labels)
        return self._replace(
            representation=_without(self.representation, gone), validation=_without(self.validation, gone)
        )

    def joined(self, other: Self) -> Self:
        """The rows of both."""
        return self._replace(
            representation=joined(self.representation, other.representation),
            validation=joined(self.validation, other.validation),
        )

    def as_background(self, labels: Iterable[str]) -> Self:
        """The rows of these labels as background, but for texts that another label has, too."""
        gone = sorted(labels)
        return self._replace(
            representation=_as_background(self.representation, gone), validation=_as_background(self.validation, gone)
        )


def stored_sets(release: Release, context: TrainingContext) -> Sets:
    """The sets that a release keeps in the store."""
    read = context.registry.datasets.get_rows
    return Sets(
        {label: read(key) for label, key in release.representation.items()},
        {label: read(key) for label, key in release.validation.items()},
    )


def split_rows(job: Job, body: SelectorTrain | SelectorAdd, reading: SelectorText, context: TrainingContext) -> Split:
    """Training and validation rows of every data set the job names; no text is on both sides."""
    train, validation = {}, {}
    for label, dataset in sorted(body.datasets.items()):
        parts = split_by_text(
            context.rows(job, dataset, label),
            lambda row: selection_text(reading, row.input, row.instruction),
            body.selection.validation_share,
            body.settings.seed,
        )
        train[label], validation[label] = parts.train, parts.validation
    return Split(train, validation)


def sets_of(
    job: Job,
    held: HeldJob,
    body: SelectorTrain | SelectorAdd,
    split: Split,
    reading: SelectorText,
    context: TrainingContext,
) -> Sets:
    """The representation set of the training rows, and all validation rows."""
    train = as_read(split.train, reading)
    blank = sorted(label for label, rows in train.items() if not rows)
    if blank:
        raise Invalid("inputs_empty", f"every input of {', '.join(blank)} is empty; give texts that can be read")
    chosen = representation(job, held, train, body.selection, body.settings.seed, context)
    return Sets(chosen, as_read(split.validation, reading))


def fresh_rows(
    job: Job,
    held: HeldJob,
    datasets: Mapping[str, str],
    known: Sets,
    reading: SelectorText,
    selection: RepresentationSettings,
    seed: int,
    context: TrainingContext,
) -> dict[str, list[Row]]:
    """The representative rows of data sets among those whose text is in no set yet; labels without any are left out."""
    seen = {same_text(row.input) for rows in known for own in rows.values() for row in own}
    rows = as_read({label: context.rows_of(job, ref, label) for label, ref in datasets.items()}, reading)
    unseen = {label: [row for row in own if same_text(row.input) not in seen] for label, own in rows.items()}
    return representation(job, held, {n: own for n, own in unseen.items() if own}, selection, seed, context)


def data_notes(
    job: Job,
    split: Split,
    sets: Sets,
    known: Rows,
    reading: SelectorText,
    selection: RepresentationSettings,
    context: TrainingContext,
) -> dict[str, Any]:
    """What the report says of new labels' data, and of texts that they share with `known` ones.

    The job's readers hear the warnings before anything is trained.
    """
    available = texts_of(as_read(split.train, reading))
    data = {}
    for label, train in split.train.items():
        rows = [*train, *split.validation[label]]
        data[label] = LabelData(
            [selection_text(reading, row.input, row.instruction) for row in rows],
            [row.output for row in rows],
            len(set(available[label])),
            len(sets.representation[label]),
        )
    notes = data_report(data, texts_of(known), selection.rows_per_label)
    context.report(job, "data_selected", rows=sum(map(len, sets.representation.values())), warnings=notes["warnings"])
    return notes


def representation(
    job: Job, held: HeldJob, train: Rows, selection: RepresentationSettings, seed: int, context: TrainingContext
) -> dict[str, list[Row]]:
    """The real rows nearest to the k-means centroids of each label's vectors (paper, section 3.3)."""
    from services.trainer.data.embedders import embedder
    from services.trainer.data.representation import representation_set

    context.report(job, "selecting_data", rows=sum(map(len, train.values())))
    chosen = representation_set(
        texts_of(train),
        embedder(
            selection,
            context.base_folder,
            context.tokenizer,
            encoder_folder=context.encoder_folder,
            check=held.check,
        ),
        selection,
        seed=seed,
        check=held.check,
    )
    return {label: [Row(input=text, label=label) for text in own] for label, own in chosen.items()}


def as_read(rows: Rows, reading: SelectorText) -> dict[str, list[Row]]:
    """The rows as a selector meets them, each with the label it is for; empty ones are left out."""
    return {
        label: [
            Row(input=text, label=label)
            for row in own
            if not is_blank(text := selection_text(reading, row.input, row.instruction))
        ]
        for label, own in rows.items()
    }


def texts_of(rows: Rows) -> dict[str, list[str]]:
    """The texts alone, by label."""
    return {label: [row.input for row in own] for label, own in rows.items()}


def joined(one: Rows, other: Rows) -> dict[str, list[Row]]:
    """The rows of both by label; a label without rows is none."""
    both = {label: [*one.get(label, ()), *other.get(label, ())] for label in sorted({*one, *other})}
    return {label: rows for label, rows in both.items() if rows}


def _without(rows: Rows, gone: set[str]) -> dict[str, list[Row]]:
    kept = {label: [row for row in own if row.label not in gone] for label, own in rows.items() if label not in gone}
    return {label: own for label, own in kept.items() if own}


def _as_background(rows: Rows, gone: Sequence[str]) -> dict[str, list[Row]]:
    elsewhere = {same_text(row.input) for label, own in rows.items() if label not in (*gone, BACKGROUND) for row in own}
    moved = [row for label in gone for row in rows.get(label, ()) if same_text(row.input) not in elsewhere]
    return {BACKGROUND: moved} if moved else {}
