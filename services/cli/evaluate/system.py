"""`signalbox evaluate system`: a release measured end to end on labelled rows, as in the last lines of table 1."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from services.cli.bars import counted
from services.cli.evaluate.labelled_rows import LabelledRow, read_labelled
from services.cli.evaluate.reference import open_reference
from services.cli.local.run_state import current_settings
from services.trainer.evaluation.answers import Judged, TaskKind, lines, task_kinds
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release
from shared.contracts.selection import Outcome, rule
from shared.errors import Invalid

if TYPE_CHECKING:
    from services.trainer.evaluation.reference import Reference
    from services.trainer.evaluation.text_scores import TextScorer


class Answered(NamedTuple):
    """A row with the predicted label and the answers; a background row has no answers."""

    label: str
    input: str
    expected: str
    predicted: str
    oracle: str
    routed: str


class EvaluationPlan(NamedTuple):
    """The options of an evaluation."""

    data: list[Path]
    release: str = ""
    classification: Collection[str] = ()
    generation: Collection[str] = ()
    limit: int | None = None
    """Rows of each label; None for all."""
    max_new_tokens: int = 128
    rows_file: Path | None = None
    """Write each row with its answers to this file, as JSON lines."""
    label: str = ""
    """Of rows that carry none; by default that of their file's name."""


def evaluate_system(plan: EvaluationPlan) -> dict[str, Any]:
    """Answer every row with its own label's adapter and with the selected one, one by one on the reference path; score.

    Raises `Invalid` for rows without an output and for labels that the release lacks.
    """
    from services.trainer.evaluation.text_scores import scorers_of

    settings = current_settings()
    rows = read_labelled(plan.data, plan.label)
    reference = open_reference(settings, plan.release)
    check_rows(rows, reference.release)
    kinds = task_kinds(_outputs(rows), plan.classification, plan.generation)
    scorers = scorers_of(kinds, settings.encoder)
    answered = answer_rows(reference, _first(rows, plan.limit), plan.max_new_tokens)
    judged = judge(answered, scorers)
    if plan.rows_file:
        write_rows(plan.rows_file, answered, judged)
    return {
        "release": reference.release.id,
        "tasks": _tasks(judged, kinds, scorers),
        **_estimates(judged),
        "background": _background(answered),
        "parameters": _parameters(reference),
    }


def check_rows(rows: Sequence[LabelledRow], release: Release) -> None:
    """Raise `Invalid`, with what to do, if a row cannot be judged."""
    unknown = sorted({row.label for row in rows} - {*release.labels, BACKGROUND})
    if unknown:
        raise Invalid(
            "label_unknown",
            f"release {release.id} has no {', '.join(unknown)}: leave these rows out, name a release "
            "that has them, or say with --label what rows without a label of their own are",
        )
    lacking = sorted({row.label for row in rows if row.label != BACKGROUND and not row.row.output})
    if lacking:
        raise Invalid(
            "outputs_missing",
            f"rows of {', '.join(lacking)} have no output to compare with: add it, or measure the selector alone with "
            "`signalbox evaluate selector`",
        )
    if all(row.label == BACKGROUND for row in rows):
        raise Invalid("rows_missing", f"all rows are {BACKGROUND}: give rows of the release's labels")


def answer_rows(reference: "Reference", rows: Sequence[LabelledRow], max_new_tokens: int) -> list[Answered]:
    """Answer each row both ways, with at most one token more than the label's longest expected output, or the limit."""
    limits = _limits(reference, rows, max_new_tokens)
    return [_answer(reference, row, limits[row.label]) for row in counted(rows, "rows answered")]


def _answer(reference: "Reference", labelled: LabelledRow, limit: int) -> Answered:
    row, label = labelled.row, labelled.label
    selection, outcome = rule(reference.release, reference.select(row.input, row.instruction))
    predicted = selection.label or BACKGROUND
    if label == BACKGROUND:
        return Answered(label, row.input, row.output, predicted, "", "")
    entry = reference.release.labels[label]
    oracle = reference.generate(entry, row.input, row.instruction, max_new_tokens=limit, turns=row.messages)
    routed = oracle if predicted == label else _misrouted(reference, labelled, predicted, outcome, limit)
    return Answered(label, row.input, row.output, predicted, oracle, routed)


def _misrouted(reference: "Reference", labelled: LabelledRow, predicted: str, outcome: Outcome, limit: int) -> str:
    """The answer of the selected adapter; for a rejected row the base model's, or none, as the release says."""
    release, row = reference.release, labelled.row
    if outcome in ("reject", "choices"):
        return ""
    return reference.generate(
        release.labels.get(predicted), row.input, row.instruction, max_new_tokens=limit, turns=row.messages
    )


def _limits(reference: "Reference", rows: Sequence[LabelledRow], max_new_tokens: int) -> dict[str, int]:
    from shared.model.tokens import encode_text

    lengths: dict[str, int] = {}
    for row in rows:
        length = 1 + len(encode_text(reference.tokenizer, row.row.output))
        lengths[row.label] = min(max_new_tokens, max(lengths.get(row.label, 0), length))
    return lengths


def judge(answered: Iterable[Answered], scorers: Mapping[str, "TextScorer"]) -> dict[str, list[Judged]]:
    """Score the rows of each label by its own measure, background excluded."""
    answered = list(answered)
    return {label: _judged([row for row in answered if row.label == label], own) for label, own in scorers.items()}


def _judged(rows: Sequence[Answered], scorer: "TextScorer") -> list[Judged]:
    expected = [row.expected for row in rows]
    oracle = scorer.score([row.oracle for row in rows], expected)
    routed = scorer.score([row.routed for row in rows], expected)
    return [Judged(r.label, r.predicted, *scores) for r, *scores in zip(rows, oracle, routed, strict=True)]


def write_rows(file: Path, answered: Iterable[Answered], judged: Mapping[str, Sequence[Judged]]) -> None:
    """Write each row with its answers and their scores."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scores = {label: iter(rows) for label, rows in judged.items()}
    with file.open("w") as stream:
        for row in answered:
            own = next(scores[row.label]) if row.label in scores else None
            found = {"oracle_score": own.oracle, "routed_score": own.routed} if own else {}
            stream.write(json.dumps(row._asdict() | found, ensure_ascii=False) + "\n")


def _outputs(rows: Sequence[LabelledRow]) -> dict[str, list[str]]:
    labels = sorted({row.label for row in rows} - {BACKGROUND})
    return {label: [row.row.output for row in rows if row.label == label] for label in labels}


def _first(rows: Sequence[LabelledRow], limit: int | None) -> list[LabelledRow]:
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        seen[row.label] += 1
        if limit is None or seen[row.label] <= limit:
            kept.append(row)
    return kept


def _tasks(
    judged: Mapping[str, Sequence[Judged]], kinds: Mapping[str, TaskKind], scorers: Mapping[str, "TextScorer"]
) -> dict[str, Any]:
    return {
        label: {"n": len(judged[label]), "kind": kind, "measure": scorers[label].name} for label, kind in kinds.items()
    }


def _estimates(judged: Mapping[str, Sequence[Judged]]) -> dict[str, Any]:
    """The three lines of the table: the mean over tasks and each task's value, with intervals."""
    from services.trainer.evaluation.bootstrap import estimate

    found = lines([row for rows in judged.values() for row in rows])
    return {
        "lines": {
            line: {
                "mean": estimate(list(tasks.values()))._asdict(),
                "tasks": {label: estimate([values])._asdict() for label, values in tasks.items()},
            }
            for line, tasks in found.items()
        }
    }


def _background(answered: Iterable[Answered]) -> dict[str, Any]:
    """The share of background rows that are rejected; they have no expected answer."""
    own = [row for row in answered if row.label == BACKGROUND]
    rejected = sum(row.predicted == BACKGROUND for row in own)
    return {"n": len(own), "rejected": rejected / len(own) if own else None}


def _parameters(reference: "Reference") -> dict[str, Any]:
    from services.trainer.evaluation.parameters import adapter_parameters, base_count, selector_parameters

    base = base_count(reference.base_folder)
    selector = selector_parameters(reference.weights, reference.selector, base)
    adapters = adapter_parameters(reference.weights, reference.release, base)
    return {
        "base": base,
        "selector": {part: trained._asdict() for part, trained in selector.items()},
        "adapters": {label: trained._asdict() for label, trained in adapters.items()},
    }
