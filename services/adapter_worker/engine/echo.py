"""An engine without a model: streams the input's words back, for load and fault tests of the other parts."""

import threading
import time
import zlib
from pathlib import Path
from typing import Literal

from services.adapter_worker.engine.answer_stream import AnswerStream, Shown, TokenScore, logprobs_of, scored
from services.adapter_worker.engine.base import (
    CacheFigures,
    Completion,
    DeadlineExceeded,
    Generation,
    GenerationRequest,
    OnPiece,
    Piece,
    adapter_not_loaded,
    engine_stopped,
)
from services.adapter_worker.engine.echo_faults import EchoFaults
from services.adapter_worker.engine.fitting_text import fitting_text
from services.adapter_worker.engine.matchers import Matchers
from shared.constraints.program import byte_tokenizer
from shared.errors import Cancelled, Invalid

_PREFIX_CHARS = 8


class EchoEngine:
    """Answers `<digest prefix or base> <words of the input>`, one word a token, in each caller's own thread.

    Under a constraint it answers a short text that fits, one character a token. All choices are equal; neither
    penalties nor bias have an effect. While `fault_file` is there, the engine suffers from what it says.
    """

    def __init__(self, *, seconds_per_token: float = 0.0, fault_file: Path | None = None) -> None:
        self._faults = EchoFaults(fault_file)
        self._seconds_per_token = seconds_per_token
        self._matchers = Matchers(byte_tokenizer)
        self._lock = threading.Lock()  # guards the three below
        self._resident: frozenset[str] = frozenset()
        self._running: set[_Echo] = set()
        self._is_closed = False

    @property
    def resident(self) -> frozenset[str]:
        """Digests that requests may name now."""
        return self._resident

    @property
    def running_count(self) -> int:
        """Requests accepted and not ended."""
        return len(self._running)

    @property
    def waiting_count(self) -> int:
        """Nothing waits."""
        return 0

    @property
    def cache(self) -> CacheFigures:
        """There is none."""
        return CacheFigures()

    def load_adapter(self, digest: str, folder: Path) -> None:
        """Remember the digest; raises `Invalid` if the folder does not exist."""
        if not folder.is_dir():
            raise Invalid("adapter_weights_missing", f"no adapter folder {folder.name}: upload it again")
        with self._lock:
            self._resident |= {digest}

    def unload_adapter(self, digest: str) -> None:
        """Forget the digest; running requests go on."""
        with self._lock:
            self._resident -= {digest}

    def generate(self, request: GenerationRequest, on_piece: OnPiece) -> Generation:
        """Stream the words back; see `Engine.generate`."""
        self._faults.check()
        echo = _Echo(request, self._words(request), on_piece, self._seconds_per_token, self._faults)
        with self._lock:
            if self._is_closed:
                raise engine_stopped()
            if request.adapter is not None and request.adapter not in self._resident:
                raise adapter_not_loaded(request.adapter)
            self._running.add(echo)
        try:
            return echo.run()
        finally:
            with self._lock:
                self._running.discard(echo)

    def cancel(self, job_id: str, attempt: int) -> bool:
        """Stop the attempt's generation before its next word."""
        with self._lock:
            matching = [e for e in self._running if (e.request.job_id, e.request.attempt) == (job_id, attempt)]
        for echo in matching:
            echo.interrupt(Cancelled("cancelled", f"job {job_id} was cancelled"))
        return bool(matching)

    def check(self) -> None:
        """Raise what `fault_file` asks for."""
        self._faults.check()

    @property
    def stuck_seconds(self) -> float:
        """Seconds for which its requests have hung."""
        return self._faults.hung_seconds if self._running else 0.0

    def close(self) -> None:
        """Fail the running requests with `engine_stopped`."""
        with self._lock:
            self._is_closed = True
            left = list(self._running)
        for echo in left:
            echo.interrupt(engine_stopped())

    def _words(self, request: GenerationRequest) -> list[str]:
        if request.constraint is None:
            return _words(request)
        return list(fitting_text(self._matchers.of(request.constraint), request.max_new_tokens + 1))


class _Echo:
    """One generation of the echo engine."""

    def __init__(
        self,
        request: GenerationRequest,
        words: list[str],
        on_piece: OnPiece,
        seconds_per_token: float,
        faults: EchoFaults,
    ) -> None:
        self.request = request
        self._words = words
        self._faults = faults
        self._on_piece = on_piece
        self._seconds_per_token = seconds_per_token
        self._started = time.monotonic()
        self._first_token_ms = 0.0
        self._interrupted = threading.Event()
        self._error: Exception | None = None
        self._stream = AnswerStream(request.stop)
        self._pieces: list[str] = []
        self._scores: list[TokenScore] = []
        self._token_ids: list[int] = []

    def interrupt(self, error: Exception) -> None:
        """End the generation with `error` before its next word."""
        self._error = error
        self._interrupted.set()

    def run(self) -> Generation:
        for word in self._words[: self.request.max_new_tokens]:
            self._wait_for_turn()
            self._first_token_ms = self._first_token_ms or self._elapsed_ms()
            score = self._score(word)
            self._token_ids.append(score.token.token_id)
            self._show(self._stream.push(word, score))
            if self._stream.is_stopped:
                break
        self._show(self._stream.end())
        is_cut = len(self._words) > self.request.max_new_tokens and not self._stream.is_stopped
        return self._generation("length" if is_cut else "stop")

    def _score(self, word: str) -> TokenScore:
        token = scored(zlib.crc32(word.encode()), 0.0, word.encode().hex())  # every word has probability 1
        return TokenScore(token, (token,) if self.request.top_logprobs else ())

    def _wait_for_turn(self) -> None:
        """Wait as long as one word takes; raises if the request is cancelled, stopped or late."""
        deadline = self.request.deadline
        left = self._seconds_per_token if deadline is None else deadline - time.monotonic()
        self._interrupted.wait(max(0.0, min(left, self._seconds_per_token)))
        self._faults.step(self._interrupted)
        if self._error is not None:
            raise self._error
        if deadline is not None and time.monotonic() >= deadline:
            raise DeadlineExceeded(self.request.job_id)

    def _show(self, shown: Shown) -> None:
        if not shown.text and not shown.scores:
            return
        self._pieces.append(shown.text)
        self._scores += shown.scores
        logprobs = logprobs_of(shown.scores) if self.request.logprobs else None
        for index in range(self.request.n):
            self._on_piece(Piece(shown.text, index, logprobs))

    def _generation(self, reason: Literal["stop", "length"]) -> Generation:
        logprobs = logprobs_of(self._scores) if self.request.logprobs else None
        return Generation(
            choices=(Completion("".join(self._pieces), self._token_ids, reason, logprobs),) * self.request.n,
            prompt_tokens=sum(len(segment.text.split()) for segment in self.request.prompt),
            first_token_ms=self._first_token_ms,
            total_ms=self._elapsed_ms(),
            prompt_shortened=False,
        )

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._started) * 1000


def _words(request: GenerationRequest) -> list[str]:
    """Split the answer into words; each but the first starts with a space."""
    text = " ".join(segment.text for segment in request.prompt if segment.is_input)
    first = request.adapter[:_PREFIX_CHARS] if request.adapter is not None else "base"
    return [first, *(f" {word}" for word in text.split())]
