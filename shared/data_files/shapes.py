"""The shapes in which people keep examples, and the row that each record makes."""

from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from shared.data_files.columns import its_names, mapped
from shared.data_files.dialogues import dialogue_of
from shared.data_files.objects import Number

MAX_LISTED = 20
"""Items of a list that is an answer."""
INSTRUCTION_AS_INPUT = "the instruction was taken as the input, which was empty"
_JUDGED = {"input", "instruction", "output", "label"}
"""Fields that a row checks itself."""
_NO_INPUT = "field input: Field required"
_NAME_THEM = "say which is which by columns (`--columns input=…,output=…`)"


class Shape(NamedTuple):
    """A shape: its name, the fields that it is known by, and how it is read."""

    name: str
    fields: frozenset[str]
    read: Callable[[Mapping[str, Any], Counter[str]], dict[str, Any]]


def shape_of(fields: AbstractSet[str]) -> Shape | None:
    """Return the shape of a record with these fields, None for an unknown one."""
    return next((shape for shape in SHAPES if shape.fields <= fields), None)


def row_fields(
    fields: Mapping[str, Any], columns: Mapping[str, str], notes: Counter[str]
) -> tuple[str, dict[str, Any]]:
    """Return the shape's name and the fields of the row; raises `ValueError` with the reason.

    `notes` counts what was changed on the way.
    """
    if columns:
        return "named columns", _plain(_instructed(mapped(fields, columns), notes))
    if None in fields.values():  # an export of several shapes has a field of each in every record
        fields = {name: value for name, value in fields.items() if value is not None or name in _JUDGED}
    shape = shape_of(fields.keys())
    if shape is None:
        raise ValueError(f"{_NO_INPUT}; {its_names(fields)}: {_NAME_THEM}" if fields else _NO_INPUT)
    row = shape.read(fields, notes)
    if "label" in fields:
        row["label"] = fields["label"]
    return shape.name, _plain(row)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The same with its answer as a text, and without numbers where texts belong."""
    if "output" in row:
        row["output"] = answer_text(row["output"])
    if isinstance(row.get("label"), Number | bool):
        row["label"] = answer_text(row["label"])
    return {name: 0 if type(value) is Number else value for name, value in row.items()}


def answer_text(value: Any) -> Any:
    """Return an answer as a text where there is one way to write it: numbers as they were written, `true`, `a, b`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return str(value)
    return _listed(value) if isinstance(value, list) else value


def _listed(items: list[Any]) -> str:
    texts = [answer_text(item) for item in items if not isinstance(item, list)]
    if len(texts) < len(items) or not all(isinstance(text, str) for text in texts):
        raise ValueError("field output: a list of more than texts, numbers and booleans; write the answer as one text")
    if not texts or len(texts) > MAX_LISTED:
        raise ValueError(f"field output: a list of {len(texts)} items; write the answer as one text")
    if len(texts) > 1 and any("," in text or "\n" in text for text in texts):
        raise ValueError("field output: a list whose items hold commas or line ends; write the answer as one text")
    return ", ".join(texts)


def _instructed(fields: Mapping[str, Any], notes: Counter[str]) -> dict[str, Any]:
    """An instruction with its input; where it is all there is, it is the input."""
    if fields.get("history"):
        raise ValueError("field history: write the turns before as `messages`, or leave them out")
    row = {name: fields[name] for name in ("instruction", "input", "output", "label") if name in fields}
    instruction, text = row.get("instruction"), row.get("input")
    if _says(instruction) and (text is None or (type(text) is str and not _says(text))):
        notes[INSTRUCTION_AS_INPUT] += 1
        return {**row, "instruction": "", "input": instruction}
    return row


def _says(value: Any) -> bool:
    return type(value) is str and bool(value.strip())


def _messages(fields: Mapping[str, Any], notes: Counter[str]) -> dict[str, Any]:
    _refuse_two(fields, "messages")
    return dialogue_of(fields["messages"], fields.get("system"), notes)


def _conversations(fields: Mapping[str, Any], notes: Counter[str]) -> dict[str, Any]:
    _refuse_two(fields, "conversations")
    return dialogue_of(fields["conversations"], fields.get("system"), notes)


def _refuse_two(fields: Mapping[str, Any], own: str) -> None:
    beside = sorted(({"messages", "conversations", "input", "output"} - {own}) & fields.keys())
    if beside:
        raise ValueError(f"it has {own} and {beside[0]}; leave one of them out")


def _completion(fields: Mapping[str, Any], notes: Counter[str]) -> dict[str, Any]:
    prompt, completion = fields["prompt"], fields["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return dialogue_of([*prompt, *completion], fields.get("system"), notes)
    return {"input": prompt, "output": completion}


def _answer(fields: Mapping[str, Any], notes: Counter[str]) -> dict[str, Any]:  # noqa: ARG001
    if fields.get("context"):
        raise ValueError(
            "field context: it stands beside a question; name all by columns "
            "(`--columns instruction=question,input=context,output=answer`)"
        )
    answer = fields["answer"]
    if isinstance(answer, list):
        different = list(dict.fromkeys(answer_text(item) for item in answer if not isinstance(item, list | dict)))
        if len(different) != 1:
            raise ValueError(f"field answer: {len(different)} different answers; keep the one to be learnt")
        answer = different[0]
    return {"input": fields["question"], "output": answer}


SHAPES = (
    Shape("messages", frozenset({"messages"}), _messages),
    Shape("sharegpt", frozenset({"conversations"}), _conversations),
    Shape("alpaca", frozenset({"instruction", "output"}), _instructed),
    Shape("input/output", frozenset({"input"}), _instructed),
    Shape("prompt/completion", frozenset({"prompt", "completion"}), _completion),
    Shape("question/answer", frozenset({"question", "answer"}), _answer),
)
