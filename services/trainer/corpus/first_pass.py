"""The first three modules, over all files: what is read once, in the order of the files."""

import heapq
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, Any, NamedTuple

from services.trainer.corpus import batches
from services.trainer.corpus.batches import Rules, Seen
from services.trainer.corpus.exact import Seen as Digests
from services.trainer.corpus.exact import digest_of
from services.trainer.corpus.parts import Parts
from services.trainer.corpus.readers import Document, FileUnreadable, Read, Reading, documents_of
from services.trainer.corpus.tally import Tally
from shared.contracts.corpora import CorpusFile
from shared.contracts.corpus_clean import CorpusClean

PART_BYTES = 16 << 20
"""Of texts that are read: what a killed attempt does again."""
_BATCH_DOCUMENTS, _BATCH_BYTES = 500, 1 << 20
_POOLED_BYTES = 8 << 20
"""Of a corpus: below it, processes would take longer to start than to help."""
_REJECTED = 50
"""Texts that each part keeps for the quality filter."""
_FILTER, _CORRECTION, _EXACT = "document_filter", "line_correction", "exact_deduplication"


class Job(NamedTuple):
    """What the passes work with."""

    body: CorpusClean
    files: tuple[CorpusFile, ...]
    fetch: Callable[[CorpusFile, Path], None]
    """Writes a file's content to a path."""
    folder: Path
    """Of this attempt, on the disk."""
    check: Callable[[], None]
    """Raises where the job has to stop."""
    report: Callable[..., None]
    """Publishes how far the job is."""


def first_pass(job: Job, parts: Parts) -> list[dict[str, Any]]:
    """Read, filter, correct and deduplicate; returns what is noted of each part, the last one's `is_last` set."""
    noted: list[dict[str, Any]] = []
    digests = Digests(job.folder / "seen.sqlite")
    is_large = sum(file.size_bytes for file in job.files) >= _POOLED_BYTES
    with batches.in_processes(batches.PROCESSES if is_large else 0) as pool:
        rules = Rules(job.body.document_filter, job.body.line_correction)
        work = partial(batches.all_seen, pool, rules)
        going: _Going | None = None
        for number in count():
            going = going or _Going(job, noted[-1]["next"] if noted else (0, 0), work)
            part, was_done = parts.done(number, partial(_part, job, going, digests))
            noted.append(part)
            if was_done:
                going = None  # nothing was read yet: it begins after what was done
                _remember(parts, number, digests)
            job.report("reading_corpus", part=number + 1, files=len(job.files), file=part["next"][0])
            if part["is_last"]:
                break
    digests.close()
    return noted


def _remember(parts: Parts, number: int, digests: Digests) -> None:
    for line in parts.lines(number):
        digests.add(digest_of(line["text"]))


class _Going:
    """What is read from a place among the files on: it starts when the first document is asked for."""

    def __init__(self, job: Job, after: tuple[int, int], work: Callable[..., Any]) -> None:
        self._job = job
        self._after = tuple(after)
        self.tally = Tally([])
        self.done = work(_in_batches(self._reads()))

    def _reads(self) -> Iterator[Read]:
        start, skipped = self._after
        for place in range(start, len(self._job.files)):
            self._job.check()
            yield from self._of_file(place, skipped if place == start else 0)

    def _of_file(self, place: int, skipped: int) -> Iterator[Read]:
        job, file = self._job, self._job.files[place]
        path = job.folder / "file"
        job.fetch(file, path)
        number = 0
        reading = Reading(job.body.field, job.body.encoding, job.folder / "pages", job.check, self._note)
        try:
            for number, document in enumerate(documents_of(path, file, reading), 1):
                if number > skipped:
                    yield Read(document, place, number)
        except FileUnreadable as error:
            rest = f" (read up to there, {number} documents)" if number else ""
            self.tally.unreadable.append(f"{file.name} {error}{rest}")
        path.unlink()

    def _note(self, text: str) -> None:
        self.tally.notes.append(text)


def _in_batches(reads: Iterator[Read]) -> Iterator[list[Read]]:
    batch: list[Read] = []
    size = 0
    for read in reads:
        batch.append(read)
        size += len(read.document.text)
        if len(batch) >= _BATCH_DOCUMENTS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _part(job: Job, going: _Going, digests: Digests, out: IO[bytes]) -> dict[str, Any]:
    """Do one part: it ends with the batch that fills it."""
    modules = [module for module in job.body.modules if module in (_FILTER, _CORRECTION, _EXACT)]
    tally = Tally(modules)
    rejected: list[tuple[bytes, str]] = []
    size, after, documents = 0, (0, 0), 0
    for reads, found in going.done:
        job.check()
        for read, one in zip(reads, found, strict=True):
            size += one.bytes_in
            documents += 1
            if line := _settled(read.document, one, tally, digests if job.body.exact_deduplication else None):
                out.write(line)
            elif one.reason and len(one.text) > 1:
                rejected.append((one.digest, one.text))
        rejected = heapq.nsmallest(_REJECTED, rejected)
        after = (reads[-1].file, reads[-1].number)
        if size >= PART_BYTES:
            break
    is_last = size < PART_BYTES
    told, going.tally = going.tally, Tally([])
    tally.notes, tally.unreadable = told.notes, told.unreadable
    texts = [text for _, text in rejected]
    return {"next": after, "is_last": is_last, "documents": documents, "rejected": texts, **tally.report()}


def _settled(document: Document, one: Seen, tally: Tally, digests: Digests | None) -> bytes | None:
    """Count a document in each module; returns its line where it stays."""
    if one.reason:
        tally.took(_FILTER, one.bytes_in, one.reason, document.source, document.text)
        return None
    tally.passed(_FILTER, one.bytes_in)
    if one.changes:
        tally.mended(_CORRECTION, one.changes, document.source, document.text)
    if not one.bytes_out and _CORRECTION in tally.modules:
        tally.took(_CORRECTION, one.bytes_in, "nothing left", document.source, document.text)
        return None
    tally.passed(_CORRECTION, one.bytes_in, one.bytes_out)
    if digests and not digests.add(one.digest):
        tally.took(_EXACT, one.bytes_out, "equal to one before", document.source, one.text)
        return None
    tally.passed(_EXACT, one.bytes_out)
    return one.line
