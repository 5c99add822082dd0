"""One request inside the engine: its prompt and its choices, which end together where one fails."""

import time
from collections.abc import Callable
from concurrent.futures import wait

from services.adapter_worker.engine.base import DeadlineExceeded, Generation, GenerationRequest, OnPiece
from services.adapter_worker.engine.native.kv_cache import Prefix
from services.adapter_worker.engine.native.token_mask import TokenMask
from services.adapter_worker.engine.sequence import SequenceState
from services.adapter_worker.engine.token_texts import TokenTexts
from shared.errors import Cancelled


class RequestState:
    """A request from `generate` to its result; other threads wait for it, and set `is_cancelled`."""

    def __init__(
        self,
        request: GenerationRequest,
        prompt_ids: list[int],
        *,
        prefix: Prefix,
        prompt_shortened: bool,
        on_piece: OnPiece,
        texts: TokenTexts,
        started: float,
        make_mask: Callable[[], TokenMask | None] = lambda: None,
    ) -> None:
        self.request = request
        self.prompt_ids = prompt_ids
        self.is_cancelled = False  # set by other threads, read between steps
        self.choices = [
            SequenceState(
                request,
                prompt_ids,
                n,
                prefix=prefix,
                on_piece=on_piece,
                texts=texts,
                started=started,
                mask=make_mask(),
            )
            for n in range(request.n)
        ]
        for choice in self.choices:
            choice.siblings = self.choices
        self._prompt_shortened = prompt_shortened

    @property
    def is_done(self) -> bool:
        """Whether every choice has its result or error."""
        for choice in self.choices:  # noqa: SIM110 - asked for each request in each step: a generator would be felt
            if not choice.is_done:
                return False
        return True

    def is_of(self, job_id: str, attempt: int) -> bool:
        """Whether the request is that attempt's."""
        return (self.request.job_id, self.request.attempt) == (job_id, attempt)

    def interruption(self) -> Exception | None:
        """The error that must end the request before its next step; None if it may go on."""
        if self.is_cancelled:
            return Cancelled("cancelled", f"job {self.request.job_id} was cancelled")
        if self.request.deadline is not None and time.monotonic() >= self.request.deadline:
            return DeadlineExceeded(self.request.job_id)
        return None

    def fail(self, error: Exception) -> None:
        """End all choices with an error, but for those that have ended already."""
        self.choices[0].fail(error)

    def generation(self) -> Generation:
        """Wait until all choices have ended; raises the error of one that failed."""
        wait([choice.result for choice in self.choices])
        return Generation(
            choices=tuple(choice.result.result() for choice in self.choices),
            prompt_tokens=len(self.prompt_ids),
            first_token_ms=min(choice.first_token_ms for choice in self.choices),
            total_ms=max(choice.total_ms for choice in self.choices),
            prompt_shortened=self._prompt_shortened,
        )
