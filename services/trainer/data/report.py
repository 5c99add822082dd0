"""Counts, overlaps and warnings about a selector's data, for its user to read before the training."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from services.trainer.data.split import same_text

EXAMPLE_CHARS = 80


class LabelData(NamedTuple):
    """One label's rows and the representation set chosen among those that are not for validation."""

    texts: Sequence[str]
    """Texts of all rows, as the selector reads them."""
    outputs: Sequence[str]
    available: int
    """Number of different texts to choose from."""
    chosen: int
    """Number of chosen texts."""


class Overlap(NamedTuple):
    """Number of texts that both labels have, up to case and white space, and one of them."""

    labels: tuple[str, str]
    texts: int
    example: str


def data_report(data: Mapping[str, LabelData], others: Mapping[str, Sequence[str]], k: int) -> dict[str, Any]:
    """Return counts by label, overlaps and warnings; `others` are the texts of labels that the selector has already."""
    shared = overlaps({**others, **{label: own.texts for label, own in data.items()}})
    counts = {
        label: {"rows": len(own.texts), "available": own.available, "chosen": own.chosen}
        for label, own in sorted(data.items())
    }
    return {
        "data": {"rows_per_label": k, "labels": counts, "overlaps": [overlap._asdict() for overlap in shared]},
        "warnings": [
            *(warning for label, own in sorted(data.items()) for warning in _warnings(label, own, k)),
            *(_overlap_warning(overlap) for overlap in shared),
        ],
    }


def overlaps(texts: Mapping[str, Sequence[str]]) -> list[Overlap]:
    """Return the pairs of labels that share texts, the largest overlap first."""
    labels_of: dict[str, set[str]] = {}
    for label, own in texts.items():
        for text in own:
            if not is_blank(text):
                labels_of.setdefault(same_text(text), set()).add(label)
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for text, labels in labels_of.items():
        for one, other in combinations(sorted(labels), 2):
            counts[one, other] += 1
            examples.setdefault((one, other), text[:EXAMPLE_CHARS])
    return [Overlap(pair, count, examples[pair]) for pair, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]


def only_output(outputs: Sequence[str]) -> str:
    """Return the answer that all rows share, empty where there are several answers or fewer than two rows."""
    return outputs[0] if len(outputs) > 1 and len(set(outputs)) == 1 else ""


def one_output_warning(label: str, outputs: Sequence[str]) -> str:
    """Return a warning about a task whose rows all have the same answer, empty for any other task."""
    answer = only_output(outputs)[:EXAMPLE_CHARS]
    return f"{label}: all {len(outputs)} rows have the answer {answer!r}; this task cannot be learnt" if answer else ""


def several_answers_warning(label: str, rows: Sequence[tuple[str, str]]) -> str:
    """Return a warning about questions (instruction and input) with different answers; empty where there are none."""
    answers: dict[str, set[str]] = {}
    for question, answer in rows:
        answers.setdefault(same_text(question), set()).add(answer)
    unclear = {question: len(own) for question, own in answers.items() if len(own) > 1}
    if not unclear:
        return ""
    example = max(unclear, key=lambda question: unclear[question])
    texts = "1 text has" if len(unclear) == 1 else f"{len(unclear)} texts have"
    return (
        f"{label}: {texts} several different answers, {example[:EXAMPLE_CHARS]!r} {unclear[example]} of them; "
        "an adapter learns one of them by chance"
    )


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it has only white space, control and zero-width characters."""
    return not any(char.isprintable() and not char.isspace() for char in text)


def _warnings(label: str, own: LabelData, k: int) -> Iterator[str]:
    blank = sum(map(is_blank, own.texts))
    if blank:
        yield f"{label}: {blank} empty inputs are left out"
    if own.available < k:
        yield f"{label}: all {own.available} different inputs are taken, fewer than the {k} asked for"
    elif own.chosen < k:
        yield f"{label}: {own.chosen} different inputs are nearest to {k} centroids; the label has no more"
    one_output = one_output_warning(label, own.outputs)
    if one_output:
        yield one_output


def _overlap_warning(overlap: Overlap) -> str:
    texts = "text stands" if overlap.texts == 1 else "texts stand"
    return f"{overlap.texts} {texts} under both {' and '.join(overlap.labels)}; no selector can tell them apart"
