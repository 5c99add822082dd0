"""An engine on a vLLM server, for many GPUs; there each adapter is a model named by its digest."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import aclosing
from pathlib import Path, PurePath
from typing import Any, TypeVar

from services.adapter_worker.engine.base import (
    CANARY,
    CacheFigures,
    DeadlineExceeded,
    EngineAway,
    EngineLost,
    Generation,
    GenerationRequest,
    OnPiece,
    adapter_not_loaded,
    engine_stopped,
)
from services.adapter_worker.engine.native.kv_cache import Prefix
from services.adapter_worker.engine.request_state import RequestState
from services.adapter_worker.engine.token_texts import TokenTexts
from services.adapter_worker.engine.tokenize import Encode, check_bias, prompt_ids
from services.adapter_worker.engine.vllm.adapters import ServedAdapters
from services.adapter_worker.engine.vllm.completions import completion_body, is_one_for_all, score_of
from services.adapter_worker.engine.vllm.figures import ServerFigures
from services.adapter_worker.engine.vllm.server import BaseCard, Tokens, VllmServer
from shared.adapter_files import WEIGHTS_NAME
from shared.errors import Cancelled, Invalid, NotFound, SignalboxError
from shared.model.tokens import end_token_ids

T = TypeVar("T")
_FAILED_CHECKS = 2
"""Of a server that does not answer: its requests are given up, so that other workers may take their jobs."""


class VllmEngine:
    """Engine on the base model of a vLLM server; one thread runs the event loop of all its requests.

    End tokens, stop strings and whole characters are handled here, as in our own engine: the server receives and
    returns only token ids.
    """

    def __init__(
        self,
        server: VllmServer,
        tokenizer: Any,
        encode: Encode,
        *,
        max_prompt_tokens: int = 1024,
        adapter_slots: int = 32,
        adapters_dir: PurePath | None = None,
        end_ids: frozenset[int] = frozenset(),
    ) -> None:
        self._server = server
        self._tokenizer = tokenizer
        self._encode = encode
        self._texts = TokenTexts(tokenizer)
        self._end_ids = end_ids | end_token_ids(tokenizer)
        self._max_prompt_tokens = max_prompt_tokens
        self._lock = threading.Lock()  # guards the three below
        self._accepted: set[RequestState] = set()
        self._adapters = ServedAdapters(
            server, slots=adapter_slots, folder_there=adapters_dir, lock=self._lock, used=self._used_adapters
        )
        self._is_closed = False
        self._failed_checks = 0
        self._figures = ServerFigures()
        self._tasks: dict[RequestState, asyncio.Task[Any] | None] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()
        try:
            self.base: BaseCard = self._on_loop(server.base)
            canary = tokenizer.encode(CANARY, add_special_tokens=False)
            self._on_loop(lambda: self._adapters.learn_base(self.base.name, canary))
        except SignalboxError:
            self.close()
            raise

    # Called by any thread.

    @property
    def resident(self) -> frozenset[str]:
        """Digests that requests may name now."""
        with self._lock:
            return self._adapters.resident

    @property
    def running_count(self) -> int:
        """Requests accepted and not ended, including those that wait at the server."""
        with self._lock:
            return sum(not state.is_done for state in self._accepted)

    @property
    def waiting_count(self) -> int:
        """Requests that waited at the server, those of its other workers included, when it was last checked."""
        return self._figures.waiting

    @property
    def cache(self) -> CacheFigures:
        """The server's cache when it was last checked."""
        return self._figures.cache

    def load_adapter(self, digest: str, folder: Path) -> None:
        """Have the server load the folder, which it must be able to read; see `Engine.load_adapter`."""
        if not (folder / WEIGHTS_NAME).is_file():
            raise Invalid("adapter_weights_missing", f"no {WEIGHTS_NAME} in {folder.name}: upload it again")
        self._on_loop(lambda: self._adapters.load(digest, folder.resolve()))

    def unload_adapter(self, digest: str) -> None:
        """Refuse new requests at once; the server keeps the weights for the running ones."""
        with self._lock:
            self._adapters.forget(digest)
        self._on_loop(lambda: self._adapters.unload(digest))

    def generate(self, request: GenerationRequest, on_piece: OnPiece) -> Generation:
        """Stream from the server and wait; see `Engine.generate`."""
        state = self._prepare(request, on_piece)
        with self._lock:
            if self._is_closed:
                raise engine_stopped()
            if request.adapter is not None:
                self._adapters.use(request.adapter)
            self._accepted.add(state)
            asyncio.run_coroutine_threadsafe(self._answer(state), self._loop)
        return state.generation()

    def cancel(self, job_id: str, attempt: int) -> bool:
        """Close the attempt's connection, so that the server drops its state."""
        with self._lock:
            running = [state for state in self._accepted if state.is_of(job_id, attempt) and not state.is_done]
            for state in running:
                error = Cancelled("cancelled", f"job {job_id} was cancelled")
                self._loop.call_soon_threadsafe(self._interrupt, state, error)
        return bool(running)

    def check(self) -> None:
        """Ask the server whether its engine runs; see `Engine.check`. A server that answers twice not is given up."""
        try:
            self._on_loop(self._server.check)
            served = self._on_loop(self._server.base)
            self._figures = self._on_loop(self._server.figures)
        except EngineAway as error:
            self._failed_checks += 1
            if self._failed_checks >= _FAILED_CHECKS:
                self._give_up(error)
            raise
        self._failed_checks = 0
        if served != self.base:
            raise EngineLost("vllm_other_model", f"the vLLM server now serves {served.name} of {served.folder}")

    @property
    def stuck_seconds(self) -> float:
        """Always 0: the steps are the server's."""
        return 0.0

    def _give_up(self, error: EngineAway) -> None:
        with self._lock:
            running = [state for state in self._accepted if not state.is_done]
        for state in running:
            self._loop.call_soon_threadsafe(self._interrupt, state, error)

    def close(self) -> None:
        """Fail the requests that are left, close the connections and join the thread; the server keeps its adapters."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _prepare(self, request: GenerationRequest, on_piece: OnPiece) -> RequestState:
        started = time.monotonic()
        check_bias(request, len(self._tokenizer))
        ids, is_shortened = prompt_ids(
            self._encode,
            self._tokenizer,
            request,
            max_prompt_tokens=self._max_prompt_tokens,
            context_length=self.base.context_length,
        )
        return RequestState(
            request,
            ids,
            prefix=Prefix(request.adapter, ()),
            prompt_shortened=is_shortened,
            on_piece=on_piece,
            texts=self._texts,
            started=started,
        )

    def _used_adapters(self) -> set[str | None]:
        return {state.request.adapter for state in self._accepted}

    def _on_loop(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self._lock:
            if self._is_closed:
                raise engine_stopped()
            future = asyncio.run_coroutine_threadsafe(call(), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise engine_stopped() from None

    # Called only by the event loop.

    async def _answer(self, state: RequestState) -> None:
        """Run one request until it succeeds, fails or is cancelled."""
        self._tasks[state] = asyncio.current_task()
        try:
            async with asyncio.timeout_at(state.request.deadline):
                await self._stream(state)
        except TimeoutError:
            state.fail(DeadlineExceeded(state.request.job_id))
        except NotFound:
            state.fail(self._lost(state.request.adapter))
        except Exception as error:  # noqa: BLE001 - the caller gets it; `on_piece` is the caller's, and so is its error
            state.fail(error)
        finally:
            del self._tasks[state]
            with self._lock:
                self._accepted.discard(state)
            self._adapters.note_freed()

    async def _stream(self, state: RequestState) -> None:
        if state.is_done:  # cancelled before it began
            return
        async with aclosing(self._server.complete(self._body(state))) as parts:
            async for part in parts:
                self._take(state, part)
                if state.is_done:
                    return
        raise EngineAway("vllm_ended_early", "the vLLM server ended the answer before its last token")

    def _take(self, state: RequestState, part: Tokens) -> None:
        choices = state.choices if is_one_for_all(state.request) else [state.choices[part.index]]
        for n, token in enumerate(part.ids):
            for choice in choices:
                if not choice.is_done:  # the server goes on after a stop string, of which it does not know
                    choice.take(token, self._end_ids, score_of(part, n, state.request.top_logprobs))

    def _body(self, state: RequestState) -> dict[str, Any]:
        model = state.request.adapter or self.base.name
        return completion_body(state.request, model, state.prompt_ids, self._end_ids | state.request.end_ids)

    def _lost(self, adapter: str | None) -> SignalboxError:
        """The error for an adapter to load again: the server was restarted, or another worker unloaded it."""
        if adapter is None:
            return EngineAway("vllm_model_unknown", f"the vLLM server does not serve {self.base.name} any more")
        with self._lock:
            self._adapters.forget(adapter)
        return adapter_not_loaded(adapter)

    def _interrupt(self, state: RequestState, error: SignalboxError) -> None:
        state.fail(error)
        task = self._tasks.get(state)
        if task is not None:
            task.cancel()

    async def _shut(self) -> None:
        for state in list(self._accepted):
            self._interrupt(state, engine_stopped())
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._server.close()
