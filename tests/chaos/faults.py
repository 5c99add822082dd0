"""Faults in a random order, spread evenly over a time; each is tried until it really hit something."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import redis

from tests.chaos.world import World

_AGAIN_SECONDS = 0.3


class Faults:
    """A thread that injects `counts[name]` times what `acts[name]` does within `seconds`; use it in a `with` block."""

    def __init__(
        self, acts: Mapping[str, Callable[[], bool]], counts: Mapping[str, int], seconds: float, chance: random.Random
    ) -> None:
        self.injected: Counter[str] = Counter(dict.fromkeys(counts, 0))
        self.is_done = False
        self._acts = acts
        self._due = [name for name, count in counts.items() for _ in range(count)]
        chance.shuffle(self._due)
        self._pause_seconds = seconds / max(1, len(self._due))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Faults":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def join(self, seconds: float) -> bool:
        """Wait until all are injected; answers whether they are."""
        self._thread.join(seconds)
        return self.is_done

    def _run(self) -> None:
        began = time.monotonic()
        for number, name in enumerate(self._due):
            if self._stop.wait(max(0.0, began + number * self._pause_seconds - time.monotonic())):
                return
            while not self._hits(name):
                if self._stop.wait(_AGAIN_SECONDS):
                    return
            self.injected[name] += 1
        self.is_done = True

    def _hits(self, name: str) -> bool:
        try:
            return self._acts[name]()
        except redis.RedisError:  # the server that would say whom to hit is away itself
            return False


def kill_a_worker(world: World) -> bool:
    """SIGKILL to an adapter worker or selector that serves."""
    return _kill_one(world, [child for child in world.supervisor.children if not child.name.startswith("api")])


def kill_a_busy_worker(world: World) -> tuple[Any, list[str]] | None:
    """SIGKILL to a worker that holds jobs; answers it and them."""
    candidates = world.present(world.workers)
    world.random.shuffle(candidates)
    for child in candidates:
        held = world.held_by(child)
        if held and world.kill(child):
            return child, held
    return None


def kill_the_api(world: World) -> bool:
    """SIGKILL to the API, once it answers again."""
    return world.is_serving_http() and world.kill(world.child("api"))


def _kill_one(world: World, children: list[Any]) -> bool:
    candidates = world.present(children)
    return bool(candidates) and world.kill(world.random.choice(candidates))
