"""Micro-batching: requests that arrive within a few milliseconds share one forward pass."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from services.selector import metrics
from shared.contracts.manifests import ReleaseSelector

ScoreMany = Callable[[ReleaseSelector, Sequence[str]], Sequence[Sequence[float]]]
IDLE_SECONDS = 2.0


@dataclass(slots=True)
class _Waiting:
    selector: ReleaseSelector
    text: str
    scores: Future[list[float]] = field(default_factory=Future)


class Batcher:
    """One thread scores batches; the calling threads wait for their scores."""

    def __init__(
        self,
        score_many: ScoreMany,
        *,
        max_batch: int,
        max_wait_ms: float,
        on_idle: Callable[[], object] = lambda: None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`on_idle` is called once each time that no request came for `idle_seconds`."""
        self._score_many = score_many
        self._on_idle = on_idle
        self._idle_seconds = idle_seconds
        self._max_batch = max_batch
        self._max_wait_seconds = max_wait_ms / 1000
        self._queue: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="batcher", daemon=True).start()

    def score(self, selector: ReleaseSelector, text: str) -> list[float]:
        """Return the log-probabilities of the selector's labels; raises the error of the scoring thread."""
        waiting = _Waiting(selector, text)
        self._queue.put(waiting)
        return waiting.scores.result()

    def _run(self) -> None:
        while True:
            batch = self._gather()
            for selector in {w.selector for w in batch}:
                self._score([w for w in batch if w.selector == selector])

    def _gather(self) -> list[_Waiting]:
        batch = [self._first()]
        until = time.monotonic() + self._max_wait_seconds
        while len(batch) < self._max_batch:
            try:
                batch.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return batch

    def _first(self) -> _Waiting:
        try:
            return self._queue.get(timeout=self._idle_seconds)
        except queue.Empty:
            self._on_idle()
        return self._queue.get()

    def _score(self, part: list[_Waiting]) -> None:
        metrics.BATCH_SIZE.observe(len(part))
        try:
            rows = self._score_many(part[0].selector, [w.text for w in part])
        except Exception as error:  # noqa: BLE001 - passed to the waiting threads, which fail their jobs
            for waiting in part:
                waiting.scores.set_exception(error)
            return
        for waiting, row in zip(part, rows, strict=True):
            waiting.scores.set_result([float(score) for score in row])
