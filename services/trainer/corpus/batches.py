"""The modules that look at one document alone, over batches of them: in this process, or in two beside it."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from services.trainer.corpus.document_filter import judged
from services.trainer.corpus.exact import digest_of
from services.trainer.corpus.line_correction import NO_CHANGES, Keys, corrected
from services.trainer.corpus.lines import line_of
from services.trainer.corpus.readers import Read
from shared.contracts.corpus_clean import DocumentFilter, LineCorrection

PROCESSES = 2
_AHEAD = 2
"""Batches that wait for each process: they are held in memory."""
MAX_REJECTED_CHARS = 2000
"""Of a rejected text: enough for a sample, and for the quality filter to learn from."""
_SAMPLE_CHARS = 200


class Rules(NamedTuple):
    """The settings of the modules that look at one document alone; None where one is off."""

    document_filter: DocumentFilter | None
    line_correction: LineCorrection | None


Work = tuple[list[tuple[Any, ...]], Rules]
"""The documents of a batch, and the rules."""


class Seen(NamedTuple):
    """What became of a document in these modules."""

    text: str
    """Its beginning."""
    line: bytes
    """Of what is stored, where the filter let it through."""
    reason: str
    """Why the filter took it out; empty for one that stayed."""
    changes: Mapping[str, int]
    """By the correction, by kind."""
    bytes_in: int
    bytes_out: int
    """After the correction; 0 where nothing is left."""
    digest: bytes


def work_on(reads: Sequence[Read], rules: Rules) -> Work:
    """Return what a process is sent: plain tuples, which take a third of the time of named ones."""
    return [tuple(read.document) for read in reads], rules


def seen(work: Work) -> list[tuple[Any, ...]]:
    """Filter and correct documents, and name what is left by its digest; the fields of `Seen` for each."""
    documents, rules = work
    return [_seen(text, source, page_lines, rules) for text, source, page_lines in documents]


def _seen(text: str, source: dict[str, Any], page_lines: Keys, rules: Rules) -> tuple[Any, ...]:
    size = len(text.encode("utf-8", "surrogatepass"))
    reason, liking = judged(text, rules.document_filter) if rules.document_filter else ("", 0.0)
    if reason:
        return text[:MAX_REJECTED_CHARS], b"", reason, {}, size, 0, digest_of(text)
    after, changes = text, NO_CHANGES
    if rules.line_correction:
        after, changes = corrected(text, rules.line_correction, page_lines, source.get("page", 0))
    after_size = size if after is text else len(after.encode("utf-8", "surrogatepass"))
    line = line_of(text=after, source=source, liking=round(liking, 4))
    return after[:_SAMPLE_CHARS], line, "", changes, size, after_size, digest_of(after)


@contextmanager
def in_processes(count: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes that end with this one, however it ends; none where `count` is 0."""
    if not count:
        yield None
        return
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def all_seen(
    pool: ProcessPoolExecutor | None, rules: Rules, batches: Iterable[list[Read]]
) -> Iterator[tuple[list[Read], list[Seen]]]:
    """Yield each batch with what became of its documents, in the order of the batches."""
    for reads, found in _in_order(pool, lambda reads: work_on(reads, rules), batches):
        yield reads, [Seen(*one) for one in found]


def _in_order(
    pool: ProcessPoolExecutor | None, work: Callable[[list[Read]], Work], batches: Iterable[list[Read]]
) -> Iterator[tuple[list[Read], list[tuple[Any, ...]]]]:
    if pool is None:
        yield from ((reads, seen(work(reads))) for reads in batches)
        return
    waiting: deque[tuple[list[Read], Future[list[tuple[Any, ...]]]]] = deque()
    for reads in batches:
        waiting.append((reads, pool.submit(seen, work(reads))))
        if len(waiting) > PROCESSES * _AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
