"""The adapters that a worker keeps loaded in its vLLM server."""

import asyncio
import math
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path, PurePath

from services.adapter_worker import metrics
from services.adapter_worker.engine.base import adapter_not_loaded
from services.adapter_worker.engine.vllm.server import Tokens, VllmServer
from services.adapter_worker.engine.vllm.uniform import uniform_folder
from shared.errors import Invalid

_CANARY_TOKENS = 4


class ServedAdapters:
    """At most `slots` adapters: a new one is validated, and the least recently used one is evicted if there is no room.

    `lock` is the engine's, and `used` is called under it, so no request is accepted for an adapter during its eviction.
    """

    def __init__(
        self,
        server: VllmServer,
        *,
        slots: int,
        folder_there: PurePath | None,
        lock: threading.Lock,
        used: Callable[[], Collection[str | None]],
    ) -> None:
        self._server = server
        self._slots = slots
        self._folder_there = folder_there
        self._lock = lock
        self._used = used
        self._resident: dict[str, Path] = {}  # digest to folder, least recently used first
        self._validated: set[str] = set()
        self._changing = asyncio.Lock()  # one adapter is loaded or unloaded at a time
        self._freed = asyncio.Event()  # a request ended, so an adapter may be unused
        self._canary_prompt: list[int] = []
        self._canary_base = Tokens([], [])

    # Called by any thread, under the lock.

    @property
    def resident(self) -> frozenset[str]:
        """Digests that requests may name now."""
        return frozenset(self._resident)

    def use(self, digest: str) -> None:
        """Mark it as the most recently used, here and on the disk; raises `NotFound` if it is not loaded."""
        folder = self._resident.pop(digest, None)
        # The server may have dropped the weights since; if the folder were gone too, all its requests would fail.
        if folder is None or not _touch(folder):
            raise adapter_not_loaded(digest)
        self._resident[digest] = folder

    def forget(self, digest: str) -> None:
        """Accept no more requests for it."""
        self._resident.pop(digest, None)

    # Called only by the event loop.

    async def learn_base(self, model: str, prompt: list[int]) -> None:
        """Remember what the base model generates after the canary prompt (token ids)."""
        self._canary_prompt = prompt
        self._canary_base = await self._canary(model)

    async def load(self, digest: str, folder: Path) -> None:
        """Have the server load the folder; a loaded adapter is left as it is."""
        async with self._changing:
            with self._lock:
                if digest in self._resident:
                    return
            await self._make_room()
            served = await asyncio.to_thread(uniform_folder, folder)
            path = self._folder_there / folder.name / served.relative_to(folder) if self._folder_there else served
            await self._server.load(digest, str(path))
            await self._validate(digest)
            with self._lock:
                self._resident[digest] = folder

    async def unload(self, digest: str) -> None:
        """Have the server unload it, unless it was loaded again in the meantime."""
        async with self._changing:
            with self._lock:
                if digest in self._resident:
                    return
            await self._server.unload(digest)

    def note_freed(self) -> None:
        """Note that a request ended, so that an adapter may be unused."""
        self._freed.set()

    async def _make_room(self) -> None:
        """Unload the least recently used adapters until a slot is free; waits while all are in use."""
        while len(self._resident) >= self._slots:
            unused = self._evict()
            if unused is not None:
                metrics.EVICTED_FOR_ROOM.inc()
                await self._server.unload(unused)
                continue
            self._freed.clear()
            await self._freed.wait()

    def _evict(self) -> str | None:
        with self._lock:
            used = self._used()
            unused = next((digest for digest in self._resident if digest not in used), None)
            if unused is not None:
                del self._resident[unused]
            return unused

    async def _validate(self, digest: str) -> None:
        """Raise `Invalid` unless the adapter changes the canary's log-probabilities and leaves them finite."""
        if digest in self._validated:
            return
        canary = await self._canary(digest)
        if all(math.isfinite(value) for value in canary.logprobs) and canary != self._canary_base:
            self._validated.add(digest)
            return
        await self._server.unload(digest)
        if canary == self._canary_base:
            raise Invalid(
                "adapter_inactive",
                f"adapter {digest} changes nothing on the canary prompt (zero, or another model's): train it anew",
            )
        raise Invalid("adapter_not_finite", f"adapter {digest} makes logits that are not finite: train it again")

    async def _canary(self, model: str) -> Tokens:
        """The first tokens after the canary prompt, with their log-probabilities."""
        body = {"model": model, "prompt": self._canary_prompt, "max_tokens": _CANARY_TOKENS, "logprobs": 0}
        parts = [part async for part in self._server.complete({**body, "temperature": 0.0, "ignore_eos": True})]
        return Tokens([token for part in parts for token in part.ids], [p for part in parts for p in part.logprobs])


def _touch(folder: Path) -> bool:
    """Keep the disk cache from removing the folder for a while; False if it is gone already."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True
