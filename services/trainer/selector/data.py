"""The rows of a selector job: read from data sets, split, chosen as representatives, or taken from a release."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from services.trainer.context import AnyContext, NewLabelsContext, TrainingContext
from services.trainer.data.report import LabelData, data_report, is_blank
from services.trainer.data.split import same_text, split_by_text
from services.trainer.selector.feedback import judged_by_feedback, labels_of_feedback
from services.trainer.selector.retention import retain
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release
from shared.contracts.reading import SelectorText
from shared.contracts.rows import Row
from shared.contracts.selection import selection_text
from shared.contracts.training import SelectorAdd, SelectorBalance, SelectorTrain
from shared.contracts.training_settings import RepresentationSettings
from shared.contracts.training_tasks import MIN_ROWS
from shared.errors import Invalid

Rows = Mapping[str, Sequence[Row]]
"""By label. A row's input is what a selector reads; background may carry the label of a deleted task."""
ChoiceContext = TrainingContext[SelectorTrain | SelectorAdd | SelectorBalance]
"""Of a job that chooses a representation set."""


MOST_WARNINGS = 100
"""Of each kind: a job's result and its events hold them."""


class Split(NamedTuple):
    """Rows of data sets, as they were uploaded."""

    train: Rows
    validation: Rows
    of_feedback: frozenset[str] = frozenset()
    """Labels whose rows come from feedback."""


class Sets(NamedTuple):
    """The rows that a selector is trained on, and those that it is judged on."""

    representation: Rows
    validation: Rows

    def without(self, labels: Iterable[str]) -> Self:
        """The rows that do not belong to these labels; background rows that came from them are left out, too."""
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
        """The rows of these labels as background, without texts that another label has as well."""
        gone = sorted(labels)
        return self._replace(
            representation=_as_background(self.representation, gone), validation=_as_background(self.validation, gone)
        )


@dataclass(frozen=True, slots=True)
class SelectorData:
    """The rows of a job, by label, and where they come from."""

    sets: Sets
    """What the release keeps. The light selector is fitted on all of its representation set."""
    full: Rows
    """What the language model is trained on in full."""
    retained: Rows
    """What the language model is trained on in the retained share only."""
    datasets: Mapping[str, str]
    """Data set that each label's rows came from, as far as it is known."""
    kept_validation: Rows = field(default_factory=dict)
    """Validation rows of labels that the parent has too, as the parent's selector reads them."""
    deleted: Rows = field(default_factory=dict)
    """Validation rows of labels that the parent has and the candidate has not."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What the report says about the choice of rows."""
    from_feedback: Mapping[str, int] = field(default_factory=dict)
    """Rows of the representation set, by label, that come from feedback."""

    @property
    def labels(self) -> list[str]:
        """Every label that the selector scores, in a stable order."""
        return sorted(self.sets.representation)

    def llm_rows(self, retention: float, seed: int) -> dict[str, list[Row]]:
        """What the language model is trained on at a retention ratio (paper, section 3.4)."""
        return joined(self.full, retain(self.retained, retention, seed))


def stored_sets(context: AnyContext, release: Release) -> Sets:
    """The sets that a release keeps in the store."""
    read = context.registry.datasets.get_rows
    return Sets(
        {label: read(key) for label, key in release.representation.items()},
        {label: read(key) for label, key in release.validation.items()},
    )


def split_rows(
    context: NewLabelsContext, text_fields: SelectorText, held_out: Rows, *, fewest: int = MIN_ROWS
) -> Split:
    """Training and validation rows of every data set that the job names; no text is on both sides.

    Of fewer than `MIN_ROWS` rows none is for validation, and of rows that come from feedback none where `held_out`,
    the validation rows of the release before, has some of their label: whoever sends requests chooses no row that
    judges. Raises `Invalid` for a data set of fewer than `fewest`.
    """
    body, train, validation = context.body, dict[str, list[Row]](), dict[str, list[Row]]()
    of_feedback = labels_of_feedback(context, body.datasets)

    def text_of(row: Row) -> str:
        return selection_text(text_fields, row.input, row.instruction)

    for label, rows in _rows_of_all(context, fewest).items():
        if label in of_feedback and held_out.get(label):
            judging = {same_text(row.input) for row in held_out[label]}
            train[label], validation[label] = [row for row in rows if same_text(text_of(row)) not in judging], []
            continue
        parts = split_by_text(rows, text_of, body.selection.validation_share, body.settings.seed)
        train[label], validation[label] = (parts.train, parts.validation) if len(rows) >= MIN_ROWS else (rows, [])
    return Split(train, validation, of_feedback)


def _rows_of_all(context: NewLabelsContext, fewest: int) -> dict[str, list[Row]]:
    """The rows of each label; data sets that many labels share are read once."""
    labels_of: dict[str, list[str]] = {}
    for label, dataset in context.body.datasets.items():
        labels_of.setdefault(dataset, []).append(label)
    found = {}
    for dataset, labels in labels_of.items():
        for label, rows in context.rows_of_labels(dataset, labels).items():
            found[label] = context.enough(rows, dataset, label, fewest)
    return dict(sorted(found.items()))


def choose_sets(context: NewLabelsContext, split: Split, text_fields: SelectorText) -> Sets:
    """The representation set of the training rows, and all validation rows; raises `Invalid` `inputs_empty`."""
    train = selector_rows(split.train, text_fields)
    blank = sorted(label for label, rows in train.items() if not rows)
    if blank:
        raise Invalid("inputs_empty", f"every input of {', '.join(blank)} is empty; give texts that can be read")
    return Sets(choose_representation(context, train), selector_rows(split.validation, text_fields))


def with_descriptions(sets: Sets, descriptions: Mapping[str, str]) -> Sets:
    """The sets with each label's description as the first of its texts to learn from."""
    texts = {label: [Row(input=text, label=label)] for label, text in descriptions.items()}
    return sets._replace(representation=joined(texts, sets.representation))


def with_held_out(sets: Sets, descriptions: Mapping[str, str], seed: int) -> Sets:
    """The sets with validation rows for labels that had too few rows for any, and have more now."""
    train, validation = dict(sets.representation), dict(sets.validation)
    for label, rows in sets.representation.items():
        own = [row for row in rows if row.input != descriptions.get(label)]
        if not validation.get(label) and len(own) >= MIN_ROWS:
            parts = split_by_text(own, lambda row: row.input, RepresentationSettings().validation_share, seed)
            train[label] = [row for row in rows if row not in parts.validation]
            validation[label] = parts.validation
    return Sets(train, validation)


def unseen_rows(
    context: ChoiceContext, datasets: Mapping[str, str], known: Sets, text_fields: SelectorText
) -> dict[str, list[Row]]:
    """Representatives of the data sets' rows whose text is in no set yet; labels without such rows are left out."""
    seen = {same_text(row.input) for rows in known for own in rows.values() for row in own}
    rows = selector_rows({label: context.rows_of(ref, label) for label, ref in datasets.items()}, text_fields)
    unseen = {label: [row for row in own if same_text(row.input) not in seen] for label, own in rows.items()}
    return choose_representation(context, {label: own for label, own in unseen.items() if own})


def choose_representation(context: ChoiceContext, rows: Rows) -> dict[str, list[Row]]:
    """The real rows nearest to the k-means centroids of each label's vectors (paper, section 3.3)."""
    from services.trainer.data.embedders import embedder
    from services.trainer.data.representation import representation_set

    body, clients = context.body, context.clients
    context.report("selecting_data", rows=sum(map(len, rows.values())))
    embed = embedder(
        body.selection,
        clients.base_folder,
        clients.tokenizer,
        encoder_folder=clients.encoder_folder,
        check=context.check,
    )
    chosen = representation_set(texts_of(rows), embed, body.selection, seed=body.settings.seed, check=context.check)
    return {label: [Row(input=text, label=label) for text in own] for label, own in chosen.items()}


def report_data(
    context: NewLabelsContext, split: Split, sets: Sets, known: Rows, text_fields: SelectorText
) -> dict[str, Any]:
    """Describe the new labels' data, and the texts that they share with `known` labels, for the release's report.

    The warnings are published at once, before anything is trained.
    """
    available = texts_of(selector_rows(split.train, text_fields))
    data = {}
    for label, train in split.train.items():
        rows = [*train, *split.validation[label]]
        data[label] = LabelData(
            [selection_text(text_fields, row.input, row.instruction) for row in rows],
            [row.output for row in rows],
            len(set(available[label])),
            len(sets.representation[label]),
        )
    notes = data_report(data, texts_of(known), context.body.selection.rows_per_label)
    notes["warnings"] = [
        *judged_by_feedback(split.validation, split.of_feedback),
        *_first(notes["warnings"]),
        *_first(_paraphrase_warnings(context, sets)),
    ]
    context.report("data_selected", rows=sum(map(len, sets.representation.values())), warnings=notes["warnings"])
    return notes


def _first(warnings: list[str]) -> list[str]:
    """As many warnings as somebody may read, and how many there are more."""
    more = len(warnings) - MOST_WARNINGS
    return warnings if more <= 0 else [*warnings[:MOST_WARNINGS], f"{more} more warnings of this kind are left out"]


def _paraphrase_warnings(context: NewLabelsContext, sets: Sets) -> list[str]:
    """Empty where the trainer has no sentence encoder; one that cannot be read stops no job that did not ask for it."""
    from services.trainer.data.embedders import embedder
    from services.trainer.data.paraphrases import paraphrase_warnings

    clients = context.clients
    if clients.encoder_folder is None:
        return []
    encoder = context.body.selection.model_copy(update={"embedder": "sentence-transformers"})
    try:
        embed = embedder(
            encoder, clients.base_folder, clients.tokenizer, encoder_folder=clients.encoder_folder, check=context.check
        )
    except Invalid as error:
        return [f"validation rows were not compared with training rows: {error.detail}"]
    return list(paraphrase_warnings(texts_of(sets.representation), texts_of(sets.validation), embed))


def selector_rows(rows: Rows, text_fields: SelectorText) -> dict[str, list[Row]]:
    """The rows as a selector reads them, each with its label; rows whose text is blank are left out."""
    return {
        label: [
            Row(input=text, label=label)
            for row in own
            if not is_blank(text := selection_text(text_fields, row.input, row.instruction))
        ]
        for label, own in rows.items()
    }


def texts_of(rows: Rows) -> dict[str, list[str]]:
    """The texts of the rows, by label."""
    return {label: [row.input for row in own] for label, own in rows.items()}


def joined(one: Rows, other: Rows) -> dict[str, list[Row]]:
    """The rows of both by label; labels without rows are left out."""
    both = {label: [*one.get(label, ()), *other.get(label, ())] for label in sorted({*one, *other})}
    return {label: rows for label, rows in both.items() if rows}


def _without(rows: Rows, gone: set[str]) -> dict[str, list[Row]]:
    kept = {label: [row for row in own if row.label not in gone] for label, own in rows.items() if label not in gone}
    return {label: own for label, own in kept.items() if own}


def _as_background(rows: Rows, gone: Sequence[str]) -> dict[str, list[Row]]:
    elsewhere = {same_text(row.input) for label, own in rows.items() if label not in (*gone, BACKGROUND) for row in own}
    moved = [row for label in gone for row in rows.get(label, ()) if same_text(row.input) not in elsewhere]
    return {BACKGROUND: moved} if moved else {}
