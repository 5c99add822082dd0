"""The modules that look at one document alone, over batches of them: in this process, or in two beside it."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from services.trainer.corpus.document_filter import judged
from services.trainer.corpus.exact import digest_of
from services.trainer.corpus.line_correction import corrected
from services.trainer.corpus.lines import line_of
from services.trainer.corpus.readers import Document, Read
from shared.contracts.corpus_clean import DocumentFilter, LineCorrection

PROCESSES = 2
_AHEAD = 2
"""Batches that wait for each process: they are held in memory."""
MAX_REJECTED_CHARS = 2000
"""Of a rejected text: enough for a sample, and for the quality filter to learn from."""
T = TypeVar("T")
R = TypeVar("R")


class Rules(NamedTuple):
    """The settings of the modules that look at one document alone; None where one is off."""

    document_filter: DocumentFilter | None
    line_correction: LineCorrection | None


class Seen(NamedTuple):
    """What became of a document in these modules."""

    text: str
    """Its beginning."""
    line: bytes
    """Of what is stored, where the filter let it through."""
    reason: str
    """Why the filter took it out; empty for one that stayed."""
    changes: dict[str, int]
    """By the correction, by kind."""
    bytes_in: int
    bytes_out: int
    """After the correction; 0 where nothing is left."""
    digest: bytes


def seen(reads: list[Read], rules: Rules) -> list[Seen]:
    """Filter and correct documents, and name what is left by its digest."""
    return [_seen(read.document, rules) for read in reads]


def _seen(document: Document, rules: Rules) -> Seen:
    text, source, page_lines = document
    size = len(text.encode("utf-8", "surrogatepass"))
    reason, liking = judged(text, rules.document_filter) if rules.document_filter else ("", 0.0)
    if reason:
        return Seen(text[:MAX_REJECTED_CHARS], b"", reason, {}, size, 0, digest_of(text))
    changes: dict[str, int] = {}
    after = text
    if rules.line_correction:
        after, counted = corrected(text, rules.line_correction, page_lines, source.get("page", 0))
        changes = dict(counted)
    after_size = size if after is text else len(after.encode("utf-8", "surrogatepass"))
    line = line_of(text=after, source=source, liking=round(liking, 4))
    return Seen(after[:MAX_REJECTED_CHARS], line, "", changes, size, after_size, digest_of(after))


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


def in_order(pool: ProcessPoolExecutor | None, work: Callable[[T], R], parts: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Yield each part with what `work` makes of it, in the order of the parts."""
    if pool is None:
        yield from ((part, work(part)) for part in parts)
        return
    waiting: deque[tuple[T, Future[R]]] = deque()
    for part in parts:
        waiting.append((part, pool.submit(work, part)))
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
