"""`signalbox run-reference`: the inference order of section 3.5 in this process, over a release in the registry."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from services.cli.evaluate.labelled_rows import read_plain
from shared.errors import Invalid

if TYPE_CHECKING:
    from services.trainer.evaluation.reference import Answer, Reference


class Question(NamedTuple):
    """One text to answer, unchanged; without an instruction the adapter's own applies."""

    input: str
    instruction: str = ""


def read_questions(texts: Sequence[str], instruction: str, data: Path | None) -> list[Question]:
    """The texts, then a file's rows, whose white space is stripped as in any data set; raises `Invalid`."""
    if any(not text.strip() for text in texts):
        raise Invalid("input_blank", "a text is blank: give one in which something can be read")
    rows = read_plain(data) if data else []
    return [Question(text, instruction) for text in texts] + [Question(row.input, row.instruction) for row in rows]


def run_reference(
    reference: "Reference", questions: Iterable[Question], max_new_tokens: int
) -> Iterator[dict[str, Any]]:
    """One record per question, in order."""
    for question in questions:
        answer = reference.answer(question.input, question.instruction, max_new_tokens=max_new_tokens)
        yield record(question.input, answer)


def record(text: str, answer: "Answer") -> dict[str, Any]:
    """An answer as one line of JSON; `label` is null for a rejected text, `text` if there is no answer."""
    selection, entry = answer.selection, answer.entry
    return {
        "input": text,
        "label": selection.label or None,
        "probability": round(selection.best.probability, 6),
        "best_label": selection.best.label,
        "by": selection.by,
        "adapter": entry.adapter if entry else None,
        "adapter_ref": entry.ref if entry else None,
        "text": answer.text,
    }
