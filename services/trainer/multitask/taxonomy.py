"""What a task is, found from its rows, and which may share an adapter ("Multi-task Online Server", section 4.1)."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from services.trainer.data.split import same_text
from services.trainer.evaluation.answers import ROWS_PER_ANSWER
from shared.contracts.multitask import InputForm, OutputForm, SplitBy, TaskKind, TaskOverride
from shared.contracts.rows import Row

_MOST_ROWS = 0.9
"""Share of a task's rows that have to be of a form: a few are always written otherwise."""
_MARKER = re.compile(r"^[ \t]*([^\s:：。，,?？!！][^:：\n。？?!！]{0,30})[:：]", re.MULTILINE)  # noqa: RUF001
_OPTION = re.compile(r"(option|choice|选项)\b.*|[a-z]", re.IGNORECASE)
_PLACE = re.compile(r"[（(\[].*?[)）\]]")  # noqa: RUF001
"""What stands in brackets behind a mention, such as its place in the text."""
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?\s*(?:stars?|points?|星|分)?", re.IGNORECASE)
_SCALES = (
    ("very negative", "negative", "neutral", "positive", "very positive"),
    ("very bad", "bad", "average", "fair", "good", "very good", "excellent"),
    ("none", "very low", "low", "medium", "moderate", "high", "very high"),
    ("strongly disagree", "disagree", "neutral", "agree", "strongly agree"),
    ("never", "rarely", "sometimes", "often", "usually", "always"),
    ("很差", "差", "一般", "中", "中等", "良", "好", "很好", "优"),
    ("很低", "低", "中", "中等", "高", "很高"),
    ("负面", "消极", "中性", "积极", "正面"),
    ("非常不满意", "不满意", "一般", "满意", "非常满意"),
    ("muy malo", "malo", "regular", "bueno", "muy bueno"),
    ("negativo", "neutro", "neutral", "positivo"),
    ("bajo", "medio", "alto"),
)


class Task(NamedTuple):
    """A task's forms, and why it is taken to have each."""

    kind: TaskKind
    input: InputForm
    output: OutputForm
    reasons: tuple[str, ...]


def task_of(rows: Sequence[Row], said: TaskOverride | None = None) -> Task:
    """Find the forms of a task's inputs and outputs; what is `said` of them stands."""
    said = said or TaskOverride()
    answers = Counter(same_text(row.output) for row in rows)
    kind, why_kind = (said.kind, _said(said.kind)) if said.kind else _kind(answers)
    inputs, why_input = (said.input, _said(said.input)) if said.input else _input([row.input for row in rows])
    outputs, why_output = (said.output, _said(said.output)) if said.output else _output(kind, answers)
    return Task(kind, inputs, outputs, (why_kind, why_input, why_output))


def groups_of(
    tasks: Mapping[str, Task], split_by: SplitBy, overrides: Mapping[str, TaskOverride]
) -> dict[str, list[str]]:
    """Return the labels that may share an adapter, by the name of their group."""
    groups: dict[str, list[str]] = {}
    for label, task in tasks.items():
        parts: list[str] = [task.kind]
        parts += [task.input] if split_by in ("input", "both") else []
        parts += [task.output] if split_by in ("output", "both") and task.kind == "classification" else []
        own = overrides[label].group if label in overrides else None
        groups.setdefault(own or ", ".join(parts), []).append(label)
    return groups


def _said(form: str) -> str:
    return f"{form}: said in the overrides"


def _kind(answers: Counter[str]) -> tuple[TaskKind, str]:
    rows, distinct = answers.total(), len(answers)
    told = f"{distinct} different answers in {rows} rows"
    if distinct * ROWS_PER_ANSWER <= rows:
        return "classification", f"classification: {told}, each in {rows / distinct:.0f} on average"
    return "generation", f"generation: {told}, fewer than {ROWS_PER_ANSWER} rows for each"


def _output(kind: TaskKind, answers: Counter[str]) -> tuple[OutputForm, str]:
    if kind == "generation":
        return "text", "text: its answers are free"
    if len(answers) <= 2:
        return "binary", f"binary: its answers are {' and '.join(sorted(answers))}"
    if all(_NUMBER.fullmatch(answer) for answer in answers):
        return "ordinal", f"ordinal: its {len(answers)} answers are numbers"
    for scale in _SCALES:
        if set(answers) <= set(scale):
            return (
                "ordinal",
                f"ordinal: its answers are steps of a scale, {', '.join(a for a in scale if a in answers)}",
            )
    return "multi-class", f"multi-class: {len(answers)} answers without an order"


def _input(texts: Sequence[str]) -> tuple[InputForm, str]:
    found = Counter(name for text in texts for name in dict.fromkeys(_parts(text)))
    names = [name for name, count in found.most_common() if count >= _MOST_ROWS * len(texts)]
    if len(names) >= 2:
        return "pair", f"pair: its inputs have the parts {', '.join(name or 'text before them' for name in names[:4])}"
    two_lines = sum(len([line for line in text.splitlines() if line.strip()]) == 2 for text in texts)
    if two_lines >= _MOST_ROWS * len(texts):
        return "pair", "pair: its inputs are two lines"
    return "single", "single: its inputs are one text"


def _parts(text: str) -> Iterator[str]:
    """The names of an input's marked parts, empty for text before them; options to choose from are none.

    A part that only names a piece of another one, such as the pronoun that a question is about, is none either.
    """
    marks = [mark for mark in _MARKER.finditer(text) if not _OPTION.fullmatch(mark[1].strip())]
    starts = [(0, 0, ""), *((mark.start(), mark.end(), mark[1].strip().casefold()) for mark in marks)]
    ends = [*(start for start, _, _ in starts[1:]), len(text)]
    parts = [(name, text[begin:end].strip()) for (_, begin, name), end in zip(starts, ends, strict=True)]
    parts = [(name, content) for name, content in parts if content]
    for name, content in parts:
        mention = _PLACE.sub("", content).strip()
        if not any(mention in other for own, other in parts if own != name and len(other) > len(content)):
            yield name
