"""One request inside the engine: its prompt, the tokens so far, and its result."""

import random
import time
from collections.abc import Callable
from concurrent.futures import Future

from services.adapter_worker.engine.base import DeadlineExceeded, Generation, GenerationRequest
from services.adapter_worker.engine.detokenize import Detokenizer, StopScanner
from services.adapter_worker.engine.native.kv_cache import Prefix
from services.adapter_worker.engine.native.sampler import SamplingParams
from shared.errors import Cancelled


class SequenceState:
    """The state of one request from `generate` to its result; after construction only the engine thread uses it."""

    def __init__(
        self,
        request: GenerationRequest,
        prompt_ids: list[int],
        *,
        prefix: Prefix,
        prompt_shortened: bool,
        on_text: Callable[[str], None],
        decode: Callable[[list[int]], str],
        started: float,
    ) -> None:
        self.request = request
        self.prompt_ids = prompt_ids
        self.prompt_shortened = prompt_shortened
        self.prefix = prefix
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.pages: list[int] = []
        self.cached_count = 0  # tokens whose keys and values are in the pages
        self.result: Future[Generation] = Future()
        self.is_cancelled = False  # set by other threads, read between steps
        self._on_text = on_text
        self._started = started
        self._first_token_ms = 0.0
        self._pieces: list[str] = []
        self._detokenizer = Detokenizer(decode)
        self._stops = StopScanner(request.stop)
        self._random = random.Random(request.seed)  # noqa: S311 - sampling, not secrets

    @property
    def is_done(self) -> bool:
        """Whether the result or the error is already set."""
        return self.result.done()

    @property
    def pending_count(self) -> int:
        """Tokens that are not in the cache yet: the rest of the prompt, or the newest one."""
        return len(self.prompt_ids) + len(self.token_ids) - self.cached_count

    @property
    def token_limit(self) -> int:
        """Tokens that the cache must have room for."""
        return len(self.prompt_ids) + self.request.max_new_tokens

    def pending(self, count: int) -> list[int]:
        """The next `count` tokens to compute."""
        begin = self.cached_count
        if begin < len(self.prompt_ids):
            return self.prompt_ids[begin : begin + count]
        return self.token_ids[begin - len(self.prompt_ids) :][:count]

    def next_sampling_params(self) -> SamplingParams:
        """Sampling parameters of the next token; advances the random stream by one."""
        request = self.request
        return SamplingParams(request.temperature, request.top_p, request.top_k, self._random.random())

    def interruption(self) -> Exception | None:
        """The error that must end the sequence before its next step; None if it may go on."""
        if self.is_cancelled:
            return Cancelled("cancelled", f"job {self.request.job_id} was cancelled")
        if self.request.deadline is not None and time.monotonic() >= self.request.deadline:
            return DeadlineExceeded(self.request.job_id)
        return None

    def take(self, token: int, end_ids: frozenset[int]) -> None:
        """Add one token, emit the text it completes, and finish at an end token, a stop string or the limit.

        `end_ids` are the tokenizer's; the request may have more.
        """
        if not self._first_token_ms:
            self._first_token_ms = self._elapsed_ms()
        if token in end_ids or token in self.request.end_ids:
            self._finish("stop")
            return
        self.token_ids.append(token)
        self._show(self._stops.push(self._detokenizer.push(token)))
        if self._stops.hit:
            self._finish("stop")
        elif len(self.token_ids) >= self.request.max_new_tokens:
            self._finish("length")

    def fail(self, error: Exception) -> None:
        """End with an error, unless the sequence has ended already."""
        if not self.is_done:
            self.result.set_exception(error)

    def _finish(self, reason: str) -> None:
        self._show(self._stops.push(self._detokenizer.flush()))
        self._show(self._stops.flush())
        generation = Generation(
            text="".join(self._pieces),
            token_ids=self.token_ids,
            prompt_tokens=len(self.prompt_ids),
            finish_reason="stop" if reason == "stop" or self._stops.hit else "length",
            first_token_ms=self._first_token_ms,
            total_ms=self._elapsed_ms(),
            prompt_shortened=self.prompt_shortened,
            logprobs=tuple(self.logprobs[: len(self.token_ids)]),
        )
        self.result.set_result(generation)

    def _show(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._on_text(text)

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._started) * 1000
