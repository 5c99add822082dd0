"""Continuous batching over a transformers model: requests of different adapters run in one batch."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from services.adapter_worker import metrics
from services.adapter_worker.engine.base import (
    CacheFigures,
    EngineLost,
    Generation,
    GenerationRequest,
    OnPiece,
    adapter_not_loaded,
    engine_stopped,
)
from services.adapter_worker.engine.native.card import is_served_by_kernels
from services.adapter_worker.engine.native.kernels import Kernels
from services.adapter_worker.engine.native.lora.bank import BankFull
from services.adapter_worker.engine.native.lora.weights import AdapterWeights, map_adapter
from services.adapter_worker.engine.native.model_runner import ModelRunner
from services.adapter_worker.engine.native.preparation import Preparation
from services.adapter_worker.engine.native.step_faults import step_error
from services.adapter_worker.engine.native.waiting import FairQueue
from services.adapter_worker.engine.request_state import RequestState
from services.adapter_worker.engine.tokenize import Encode
from shared.errors import SignalboxError
from shared.model.tokens import end_token_ids


class NativeEngine:
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
        adapter_slots: int = 32,
        cache_bytes: int | None = 64 << 20,
        kernels: Kernels | None = None,
        max_stall_x: float = 1.4,
        end_ids: frozenset[int] = frozenset(),
        on_card: bool | None = None,
    ) -> None:
        """`cache_bytes` None takes what a card has left; `on_card` takes its path or not, None as the device is."""
        end_ids |= end_token_ids(tokenizer)
        self._runner = ModelRunner(
            model,
            tokenizer,
            max_batch=max_batch,
            adapter_slots=adapter_slots,
            cache_bytes=cache_bytes,
            kernels=kernels,
            max_stall_x=max_stall_x,
            end_ids=end_ids,
            on_card=is_served_by_kernels(model.device) if on_card is None else on_card,
        )
        self._masks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="masks")
        self._preparation = Preparation(
            model.config,
            tokenizer,
            encode,
            max_prompt_tokens=max_prompt_tokens,
            page_count=self._runner.pages.count,
            end_ids=end_ids,
            texts=self._runner.texts,
            masks=self._masks,
        )
        self._max_batch = max_batch
        self._torch_threads = torch_threads
        self._work = threading.Condition()  # guards the six below
        self._calls: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._waiting: FairQueue[RequestState] = FairQueue()
        self._accepted: set[RequestState] = set()
        self._resident: frozenset[str] = frozenset()
        self._leaving: set[str] = set()
        self._ended_by: SignalboxError | None = None
        self._step_began: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # Called by any thread.

    @property
    def resident(self) -> frozenset[str]:
        """Digests that requests may name now."""
        return self._resident

    @property
    def running_count(self) -> int:
        """Requests accepted and not ended, waiting ones included."""
        with self._work:
            return sum(not state.is_done for state in self._accepted)

    @property
    def waiting_count(self) -> int:
        """Requests that have not joined the running batch."""
        with self._work:
            return len(self._waiting)

    @property
    def cache(self) -> CacheFigures:
        """The cache as it is."""
        return self._runner.pages.figures

    def load_adapter(self, digest: str, folder: Path) -> None:
        """Load between two steps, without stopping the batch; see `Engine.load_adapter`."""
        self._on_engine_thread(lambda: self._load(digest, folder))

    def unload_adapter(self, digest: str) -> None:
        """Refuse new requests at once; free the weights when the last running one ends."""
        self._on_engine_thread(lambda: self._leave(digest))

    def generate(self, request: GenerationRequest, on_piece: OnPiece) -> Generation:
        """Join the running batch and wait; see `Engine.generate`."""
        state = self._preparation.state(request, on_piece)
        with self._work:
            self._check_open()
            if request.adapter is not None and request.adapter not in self._resident:
                raise adapter_not_loaded(request.adapter)
            self._accepted.add(state)
            self._waiting.add(state, request.adapter, is_batch=request.is_batch)
            self._work.notify()
        return state.generation()

    def cancel(self, job_id: str, attempt: int) -> bool:
        """Stop the attempt's sequence before its next step."""
        with self._work:
            running = [state for state in self._accepted if state.is_of(job_id, attempt) and not state.is_done]
            for state in running:
                state.is_cancelled = True
        return bool(running)

    def check(self) -> None:
        """Raise `EngineLost` after a fault of the device from which this process does not recover."""
        with self._work:
            self._check_open()

    @property
    def stuck_seconds(self) -> float:
        """For how long the engine's thread has been at one step."""
        began = self._step_began
        return 0.0 if began is None else time.monotonic() - began

    def close(self) -> None:
        """Fail the requests that are left and join the engine thread."""
        self._end(engine_stopped())
        self._thread.join()
        self._masks.shutdown()

    def _end(self, error: SignalboxError) -> None:
        with self._work:
            self._ended_by = self._ended_by or error
            self._work.notify()

    def _check_open(self) -> None:
        if self._ended_by:
            raise self._ended_by

    def _on_engine_thread(self, call: Callable[[], None]) -> None:
        done: Future[None] = Future()
        with self._work:
            self._check_open()
            self._calls.append((call, done))
            self._work.notify()
        done.result()

    # Called only by the engine thread.

    def _run(self) -> None:
        torch.set_num_threads(self._torch_threads)
        with torch.inference_mode():
            while self._wait_for_work():
                try:
                    self._iterate()
                except EngineLost as error:
                    self._end(error)
                except Exception as error:  # noqa: BLE001 - otherwise the requests would wait for ever
                    self._fail_all(step_error(error))
        self._fail_all(self._ended_by or engine_stopped())

    def _iterate(self) -> None:
        self._step_began = time.monotonic()
        self._make_calls()
        self._interrupt()
        self._admit()
        if rows := len(self._runner.rows):
            metrics.BATCH_SIZE.observe(rows)
        self._runner.step()
        self._settle()

    def _wait_for_work(self) -> bool:
        with self._work:
            self._step_began = None
            self._work.wait_for(lambda: self._ended_by or self._calls or self._accepted)
            return not self._ended_by

    def _make_calls(self) -> None:
        calls, self._calls = self._calls, deque()
        for call, done in calls:
            try:
                call()
            except BankFull as error:
                self._wait_for_slots(call, done, error)
            except torch.AcceleratorError as error:
                lost = step_error(error)
                done.set_exception(lost)
                self._end(lost)
            except Exception as error:  # noqa: BLE001 - the caller gets it, the engine lives on
                done.set_exception(error)
            else:
                done.set_result(None)

    def _wait_for_slots(self, call: Callable[[], None], done: Future[None], error: BankFull) -> None:
        """Try again after the next step, as long as requests are left that may end and free slots."""
        with self._work:
            if self._accepted:
                self._calls.append((call, done))
                return
        done.set_exception(error)

    def _load(self, digest: str, folder: Path) -> None:
        bank = self._runner.bank
        if digest in bank:
            bank.use(digest)
        else:
            weights = map_adapter(folder)
            with self._work:  # no request may be accepted for an adapter that is being evicted
                try:
                    bank.reserve(digest, weights, {state.request.adapter for state in self._accepted})
                finally:
                    self._resident &= bank.digests
            self._fill(digest, weights)
        with self._work:
            self._leaving.discard(digest)
            self._resident |= {digest}

    def _fill(self, digest: str, weights: AdapterWeights) -> None:
        try:
            self._runner.bank.fill(digest, weights)
            self._runner.validate_adapter(digest)
        except Exception:
            self._runner.bank.unload(digest)
            raise

    def _leave(self, digest: str) -> None:
        with self._work:
            if digest in self._resident:
                self._leaving.add(digest)
                self._resident -= {digest}
        self._settle()

    def _interrupt(self) -> None:
        with self._work:
            accepted = list(self._accepted)
        for state in accepted:
            if error := state.interruption():
                state.fail(error)
        self._settle()

    def _admit(self) -> None:
        self._runner.seat(self._max_batch)
        running = Counter(row.request.adapter for row in self._runner.rows)
        with self._work:
            while len(self._runner.rows) < self._max_batch:
                row = self._waiting.take(running, self._runner.admit)
                if row is None:
                    return
                running[row.request.adapter] += 1

    def _settle(self) -> None:
        """Forget the requests that ended, and free unloaded adapters that no request uses any more."""
        self._runner.drop_done()
        with self._work:
            self._accepted = {state for state in self._accepted if not state.is_done}
            self._waiting.drop(lambda state: state.is_done)
            unused = self._leaving - {state.request.adapter for state in self._accepted}
            self._leaving -= unused
        for digest in unused:
            self._runner.bank.unload(digest)

    def _fail_all(self, error: Exception) -> None:
        with self._work:
            for state in self._accepted:
                state.fail(error)
            calls, self._calls = self._calls, deque()
        for _, done in calls:
            done.set_exception(error)
        self._settle()
