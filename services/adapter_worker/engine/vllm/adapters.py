"""The adapters that a worker keeps loaded at its vLLM server."""

import asyncio
import math
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path, PurePath

from services.adapter_worker import metrics
from services.adapter_worker.engine.base import adapter_not_loaded
from services.adapter_worker.engine.vllm.server import Tokens, VllmServer
from shared.errors import Invalid

_CANARY_TOKENS = 4


class ServedAdapters:
    """At most `slots` of them; one that came is proven, and the longest unused goes where there is no room.

    `lock` is the engine's, and `used` is called under it: an adapter is chosen to go while no request comes in for it.
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
        self._resident: dict[str, Path] = {}  # digest to folder, the longest unused first
        self._proven: set[str] = set()
        self._changing = asyncio.Lock()  # one adapter comes or goes at a time
        self._freed = asyncio.Event()  # a request ended, so an adapter may be unused
        self._canary_prompt: list[int] = []
        self._canary_base = Tokens([], [])

    # Called by any thread, under the lock.

    @property
    def resident(self) -> frozenset[str]:
        """Digests that requests may name now."""
        return frozenset(self._resident)

    def use(self, digest: str) -> None:
        """Make it the last that would have to go, here and on the disk; raises `NotFound` where it is not loaded."""
        folder = self._resident.pop(digest, None)
        # The server may have dropped what it read long ago, and would fail for all if the folder were gone too.
        if folder is None or not _touch(folder):
            raise adapter_not_loaded(digest)
        self._resident[digest] = folder

    def forget(self, digest: str) -> None:
        """Take no more requests for it."""
        self._resident.pop(digest, None)

    # Called by the event loop alone.

    async def learn_base(self, model: str, prompt: list[int]) -> None:
        """Remember what the base model says after the canary prompt (token ids)."""
        self._canary_prompt = prompt
        self._canary_base = await self._canary(model)

    async def load(self, digest: str, folder: Path) -> None:
        """Have the server load the folder; one that is loaded is left as it is."""
        async with self._changing:
            with self._lock:
                if digest in self._resident:
                    return
            await self._make_room()
            path = self._folder_there / folder.name if self._folder_there else folder
            await self._server.load(digest, str(path))
            await self._prove(digest)
            with self._lock:
                self._resident[digest] = folder

    async def unload(self, digest: str) -> None:
        """Have the server forget it, unless it was loaded again meanwhile."""
        async with self._changing:
            with self._lock:
                if digest in self._resident:
                    return
            await self._server.unload(digest)

    def note_freed(self) -> None:
        """A request ended."""
        self._freed.set()

    async def _make_room(self) -> None:
        """Unload the longest unused adapters; where all are in use, wait until one is not."""
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

    async def _prove(self, digest: str) -> None:
        """Raise `Invalid` unless the adapter changes the canary's log-probabilities and leaves them finite."""
        if digest in self._proven:
            return
        canary = await self._canary(digest)
        if all(math.isfinite(value) for value in canary.logprobs) and canary != self._canary_base:
            self._proven.add(digest)
            return
        await self._server.unload(digest)
        if canary == self._canary_base:
            raise Invalid(
                "adapter_inactive",
                f"adapter {digest} changes nothing on the canary prompt: its weights are zero or not the base model's",
            )
        raise Invalid("adapter_not_finite", f"adapter {digest} makes logits that are not finite: train it again")

    async def _canary(self, model: str) -> Tokens:
        """The first tokens after the canary prompt and how likely they were."""
        body = {"model": model, "prompt": self._canary_prompt, "max_tokens": _CANARY_TOKENS, "logprobs": 0}
        parts = [part async for part in self._server.complete({**body, "temperature": 0.0, "ignore_eos": True})]
        return Tokens([token for part in parts for token in part.ids], [p for part in parts for p in part.logprobs])


def _touch(folder: Path) -> bool:
    """Keep the disk cache from removing the folder for a while; False where it did so already."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True
