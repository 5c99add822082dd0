"""One choice of a request inside the engine: its tokens so far, its text, and its result."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import Future

from services.adapter_worker.engine.answer_stream import AnswerStream, Shown, TokenScore, logprobs_of, scored
from services.adapter_worker.engine.base import Completion, GenerationRequest, OnPiece, Piece
from services.adapter_worker.engine.detokenize import Detokenizer
from services.adapter_worker.engine.native.kv_cache import Prefix
from services.adapter_worker.engine.native.sampler import SamplingParams, Score
from services.adapter_worker.engine.native.token_mask import TokenMask
from services.adapter_worker.engine.penalties import LogitChanges
from services.adapter_worker.engine.token_texts import TokenTexts


class SequenceState:
    """The state of one choice from `generate` to its result; after construction only the engine thread uses it."""

    def __init__(
        self,
        request: GenerationRequest,
        prompt_ids: list[int],
        index: int,
        *,
        prefix: Prefix,
        on_piece: OnPiece,
        texts: TokenTexts,
        started: float,
        mask: TokenMask | None,
    ) -> None:
        self.request = request
        self.prompt_ids = prompt_ids
        self.index = index
        self.prefix = prefix
        self.siblings: list[SequenceState] = [self]  # all choices of the request, itself included
        self.token_ids: list[int] = []
        self.pages: list[int] = []
        self.cached_count = 0  # tokens whose keys and values are in the pages
        self.result: Future[Completion] = Future()
        self.first_token_ms = 0.0
        self.total_ms = 0.0
        self.changes = LogitChanges(
            presence=request.presence_penalty, frequency=request.frequency_penalty, bias=request.logit_bias
        )
        self.mask = mask  # of the next token; None without a constraint
        self._on_piece = on_piece
        self._texts = texts
        self._started = started
        self._pieces: list[str] = []
        self._scores: list[TokenScore] = []
        self._detokenizer = Detokenizer(lambda ids: texts.decode(ids, request.shown_ids))
        self._stream = AnswerStream(request.stop)
        self._uniform: float | None = None  # of the next token, once it was asked for
        self._random = random.Random(None if request.seed is None else request.seed + index)  # noqa: S311 - sampling, not secrets

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

    @property
    def to_begin(self) -> Sequence["SequenceState"]:
        """The choices that begin where this one's prompt is computed: those behind the first."""
        return self.siblings[1:] if self.index == 0 and not self.token_ids else ()

    def pending(self, count: int) -> list[int]:
        """The next `count` tokens to compute."""
        begin = self.cached_count
        if begin < len(self.prompt_ids):
            return self.prompt_ids[begin : begin + count]
        return self.token_ids[begin - len(self.prompt_ids) :][:count]

    def next_sampling_params(self) -> SamplingParams:
        """Sampling parameters of the next token, the same until it is taken: a step may be tried again."""
        request = self.request
        if self._uniform is None:
            self._uniform = self._random.random()
        return SamplingParams(request.temperature, request.top_p, request.top_k, self._uniform)

    def take(self, token: int, end_ids: frozenset[int], score: Score | None = None) -> None:
        """Add one token, emit the text it completes, and finish at an end token, a stop string or the limit.

        A choice also finishes where its constraint allows nothing more. `end_ids` are the tokenizer's; the request may
        have more.
        """
        self._uniform = None
        if not self.first_token_ms:
            self.first_token_ms = self._elapsed_ms()
        if token in end_ids or token in self.request.end_ids:
            self._finish("stop")
            return
        self.token_ids.append(token)
        self.changes.note(token)
        if self.mask is not None:
            self.mask.take(token)
        self._show(self._stream.push(self._detokenizer.push(token), score and self._with_bytes(token, score)))
        if self._stream.is_stopped or (self.mask is not None and self.mask.is_complete):
            self._finish("stop")
        elif len(self.token_ids) >= self.request.max_new_tokens:
            self._finish("length")

    def fail(self, error: Exception) -> None:
        """End all choices of the request with an error, but for those that have ended already."""
        for choice in self.siblings:
            if not choice.is_done:
                choice.result.set_exception(error)

    def _with_bytes(self, token: int, score: Score) -> TokenScore:
        bytes_of = self._texts.bytes_of
        top = tuple(scored(other, logprob, bytes_of(other)) for other, logprob in score.top)
        return TokenScore(scored(token, score.logprob, bytes_of(token)), top)

    def _finish(self, reason: str) -> None:
        self._show(self._stream.end(self._detokenizer.flush()))
        self.total_ms = self._elapsed_ms()
        completion = Completion(
            text="".join(self._pieces),
            token_ids=self.token_ids,
            finish_reason="stop" if reason == "stop" or self._stream.is_stopped else "length",
            logprobs=logprobs_of(self._scores) if self.request.logprobs else None,
        )
        self.result.set_result(completion)

    def _show(self, shown: Shown) -> None:
        if shown.text or shown.scores:
            self._pieces.append(shown.text)
            self._scores += shown.scores
            logprobs = logprobs_of(shown.scores) if self.request.logprobs else None
            self._on_piece(Piece(shown.text, self.index, logprobs))

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._started) * 1000
