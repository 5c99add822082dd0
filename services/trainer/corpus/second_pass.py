"""The last two modules, over what the first three let through: what takes a fit, or the documents before."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from services.trainer.corpus.exact import digest_of
from services.trainer.corpus.first_pass import Job
from services.trainer.corpus.fuzzy import Near
from services.trainer.corpus.lines import line_of
from services.trainer.corpus.parts import Parts
from services.trainer.corpus.quality import CHARS, LEAST_TEXTS, MOST_TEXTS, Quality, fit
from services.trainer.corpus.tally import Tally

_BATCH_DOCUMENTS, _BATCH_CHARS = 256, 1 << 20
_LEAST_CHARS = 100
"""Of a good text: a shorter one shows little."""
_FILTER, _FUZZY = "quality_filter", "fuzzy_deduplication"
Lines = list[dict[str, Any]]


class Sample(NamedTuple):
    """What the quality filter is fitted on."""

    good: list[str]
    rejected: list[str]


def sample_of(good: Iterable[tuple[str, float]], rejected: Iterable[str], *, liked: float) -> Sample:
    """Choose the texts of a fit: of those of the smallest digests, in whatever order, the share that is liked best.

    `good` has each text with how much the rules like it.
    """
    long_ones = ((digest_of(text), liking, text[:CHARS]) for text, liking in good if len(text) >= _LEAST_CHARS)
    chosen = heapq.nsmallest(int(MOST_TEXTS / liked), long_ones)
    number = max(int(len(chosen) * liked), min(len(chosen), LEAST_TEXTS))
    best = sorted(chosen, key=lambda one: (-one[1], one[0]))[:number]
    return Sample([text for _, _, text in sorted(best)], sorted(rejected, key=digest_of)[:MOST_TEXTS])


def fitted(sample: Sample) -> Quality | None:
    """Fit the quality filter; None where there are too few good texts."""
    return fit(*sample) if len(sample.good) >= LEAST_TEXTS else None


def second_pass(
    job: Job, numbers: Sequence[int], before: Parts, parts: Parts, quality: Quality | None
) -> list[dict[str, Any]]:
    """Score and compare what each part of the first pass holds; returns what is noted of each."""
    near = Near(job.folder / "near.sqlite", job.body.fuzzy_deduplication) if job.body.fuzzy_deduplication else None
    noted = []
    for number in numbers:
        part, was_done = parts.done(number, partial(_part, job, before, number, near, quality))
        if was_done and near:
            for lines in _in_batches(parts.lines(number)):
                near.add([line["text"] for line in lines], is_known_new=True)
        before.drop(number)
        noted.append(part)
        job.report("comparing_documents", part=len(noted), parts=len(numbers))
    if near:
        near.close()
    return noted


def joined(numbers: Sequence[int], parts: Parts, into: Path) -> None:
    """Write all parts into one file."""
    with into.open("wb") as out:
        for number in numbers:
            with parts.path(number).open("rb") as lines:
                while piece := lines.read(1 << 20):
                    out.write(piece)
            parts.drop(number)


def _part(
    job: Job, before: Parts, number: int, near: Near | None, quality: Quality | None, out: IO[bytes]
) -> dict[str, Any]:
    tally = Tally([module for module in job.body.modules if module in (_FILTER, _FUZZY)])
    scored = partial(_scored, quality, job.body.quality_filter.threshold if job.body.quality_filter else 0.0, tally)
    for lines in _in_batches(before.lines(number)):
        job.check()
        for line in _compared(near, tally, scored(lines)):
            out.write(line_of(text=line["text"], source=line["source"]))
    return tally.report()


def _scored(quality: Quality | None, threshold: float, tally: Tally, lines: Lines) -> Lines:
    probabilities = quality.probabilities([line["text"] for line in lines]) if quality else [1.0] * len(lines)
    kept = []
    for line, probability in zip(lines, probabilities, strict=True):
        size = len(line["text"].encode())
        if probability < threshold:
            tally.took(_FILTER, size, "poor", line["source"], f"{probability:.3f}: {line['text']}")
        else:
            tally.passed(_FILTER, size)
            kept.append(line)
    return kept


def _compared(near: Near | None, tally: Tally, lines: Lines) -> Iterator[dict[str, Any]]:
    found = near.add([line["text"] for line in lines]) if near else [-1] * len(lines)
    for line, kept in zip(lines, found, strict=True):
        size = len(line["text"].encode())
        if kept < 0:
            tally.passed(_FUZZY, size)
            yield line
        else:
            like = f"like line {kept + 1} of the result: {line['text']}"
            tally.took(_FUZZY, size, "nearly another", line["source"], like)


def _in_batches(lines: Iterable[dict[str, Any]]) -> Iterator[Lines]:
    batch: Lines = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line["text"])
        if len(batch) >= _BATCH_DOCUMENTS or size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
