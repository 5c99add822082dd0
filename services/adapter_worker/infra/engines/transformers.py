"""Continuous batching over transformers and PEFT: requests of different adapters decode side by side."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import torch

from services.adapter_worker.infra.engines.protocol import (
    Generation,
    GenerationRequest,
    adapter_not_loaded,
    engine_stopped,
)
from services.adapter_worker.infra.engines.runner import Runner, step_error
from services.adapter_worker.infra.engines.sequence import Sequence
from shared.errors import Invalid
from shared.prompts import Segment
from shared.settings import Settings

Encode = Callable[[Any, list[Segment], int], list[int]]
_NO_LIMIT = 1 << 30


class TransformersEngine:
    """Engine on a causal language model of transformers; one thread owns the model."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        encode: Encode,
        *,
        max_batch: int = 8,
        max_prompt_tokens: int = 1024,
        torch_threads: int = 1,
    ) -> None:
        self._runner = Runner(model, tokenizer)
        self._tokenizer = tokenizer
        self._encode = encode
        self._context_length = int(getattr(model.config, "max_position_embeddings", _NO_LIMIT))
        self._max_batch = max_batch
        self._max_prompt_tokens = max_prompt_tokens
        self._torch_threads = torch_threads
        self._work = threading.Condition()  # guards the six below
        self._calls: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._waiting: deque[Sequence] = deque()
        self._accepted: set[Sequence] = set()
        self._resident: frozenset[str] = frozenset()
        self._leaving: set[str] = set()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @classmethod
    def from_folder(cls, settings: Settings, base_folder: Path) -> Self:
        """Load the base model in `base_folder` as the settings say, on the accelerator where there is one."""
        from shared.model.base import load_model, load_tokenizer
        from shared.model.tokens import encode

        return cls(
            load_model(base_folder, settings.dtype),
            load_tokenizer(base_folder),
            encode,
            max_batch=settings.worker_slots,
            max_prompt_tokens=settings.max_prompt_tokens,
            torch_threads=settings.torch_threads,
        )

    # Called by any thread.

    @property
    def resident(self) -> frozenset[str]:
        """Digests that requests may name now."""
        return self._resident

    @property
    def running_count(self) -> int:
        """Requests accepted and not ended, waiting ones included."""
        with self._work:
            return sum(not sequence.is_done for sequence in self._accepted)

    def load_adapter(self, digest: str, folder: Path) -> None:
        """Load between two steps, without draining; see `Engine.load_adapter`."""
        self._on_engine_thread(lambda: self._load(digest, folder))

    def unload_adapter(self, digest: str) -> None:
        """Refuse new requests at once; free the weights when the last running one ends."""
        self._on_engine_thread(lambda: self._leave(digest))

    def generate(self, request: GenerationRequest, on_text: Callable[[str], None]) -> Generation:
        """Join the running batch and wait; see `Engine.generate`."""
        sequence = self._prepare(request, on_text)
        with self._work:
            if self._is_closed:
                raise engine_stopped()
            if request.adapter is not None and request.adapter not in self._resident:
                raise adapter_not_loaded(request.adapter)
            self._accepted.add(sequence)
            self._waiting.append(sequence)
            self._work.notify()
        return sequence.result.result()

    def cancel(self, job_id: str, attempt: int) -> bool:
        """Stop the attempt's sequence before its next step."""
        with self._work:
            running = [sequence for sequence in self._accepted if not sequence.is_done]
            mine = [s for s in running if (s.request.job_id, s.request.attempt) == (job_id, attempt)]
            for sequence in mine:
                sequence.is_cancelled = True
        return bool(mine)

    def close(self) -> None:
        """Fail what is left and join the engine thread."""
        with self._work:
            self._is_closed = True
            self._work.notify()
        self._thread.join()

    def _prepare(self, request: GenerationRequest, on_text: Callable[[str], None]) -> Sequence:
        started = time.monotonic()
        ids, is_shortened = self._prompt_ids(request)
        return Sequence(
            request,
            ids,
            prompt_shortened=is_shortened,
            on_text=on_text,
            decode=self._runner.decode,
            started=started,
        )

    def _prompt_ids(self, request: GenerationRequest) -> tuple[list[int], bool]:
        limit = min(self._max_prompt_tokens, self._context_length - request.max_new_tokens)
        if limit < 1:
            raise Invalid("max_new_tokens_too_large", f"the model's context holds {self._context_length} tokens in all")
        ids = self._encode(self._tokenizer, request.prompt, _NO_LIMIT)
        is_shortened = len(ids) > limit
        if is_shortened:
            ids = self._encode(self._tokenizer, request.prompt, limit)
        if not ids:
            raise Invalid("prompt_empty", "the prompt has no tokens")
        return ids, is_shortened

    def _on_engine_thread(self, call: Callable[[], None]) -> None:
        done: Future[None] = Future()
        with self._work:
            if self._is_closed:
                raise engine_stopped()
            self._calls.append((call, done))
            self._work.notify()
        done.result()

    # Called by the engine thread alone.

    def _run(self) -> None:
        torch.set_num_threads(self._torch_threads)
        with torch.inference_mode():
            while self._wait_for_work():
                try:
                    self._turn()
                except Exception as error:  # noqa: BLE001 - nobody else would tell the waiting requests
                    self._fail_all(step_error(error))
        self._fail_all(engine_stopped())

    def _turn(self) -> None:
        self._make_calls()
        self._interrupt()
        self._runner.admit(self._newcomers())
        self._runner.step()
        self._settle()

    def _wait_for_work(self) -> bool:
        with self._work:
            self._work.wait_for(lambda: self._is_closed or self._calls or self._accepted)
            return not self._is_closed

    def _make_calls(self) -> None:
        while self._calls:
            call, done = self._calls.popleft()
            try:
                call()
            except Exception as error:  # noqa: BLE001 - the caller gets it, the engine lives on
                done.set_exception(error)
            else:
                done.set_result(None)

    def _load(self, digest: str, folder: Path) -> None:
        self._runner.load(digest, folder)
        with self._work:
            self._leaving.discard(digest)
            self._resident |= {digest}

    def _leave(self, digest: str) -> None:
        with self._work:
            if digest in self._resident:
                self._leaving.add(digest)
                self._resident -= {digest}
        self._settle()

    def _interrupt(self) -> None:
        with self._work:
            accepted = list(self._accepted)
        for sequence in accepted:
            error = sequence.interruption()
            if error is not None:
                sequence.fail(error)
        self._settle()

    def _newcomers(self) -> list[Sequence]:
        with self._work:
            count = min(self._max_batch - self._runner.row_count, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _settle(self) -> None:
        """Forget what has ended, and free the adapters that left and nobody uses any more."""
        self._runner.drop_done()
        with self._work:
            self._accepted = {sequence for sequence in self._accepted if not sequence.is_done}
            self._waiting = deque(sequence for sequence in self._waiting if not sequence.is_done)
            unused = self._leaving - {sequence.request.adapter for sequence in self._accepted}
            self._leaving -= unused
        for digest in unused:
            self._runner.unload(digest)

    def _fail_all(self, error: Exception) -> None:
        with self._work:
            for sequence in self._accepted:
                sequence.fail(error)
            calls, self._calls = self._calls, deque()
        for _, done in calls:
            done.set_exception(error)
        self._settle()
