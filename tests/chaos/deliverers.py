"""Processes that deliver webhooks, to be killed: `python -m tests.chaos.deliverers` is one of them."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from services.api.webhooks.delivery import deliver
from shared.ledger import AsyncLedger
from shared.settings import Settings
from tests.chaos.world import World


class Deliverers:
    """As many processes as asked for, in a `with` block; one that is killed is started again."""

    def __init__(self, world: World, count: int) -> None:
        self._env = world.child("api").env
        self._random = world.random
        self._processes = [self._start() for _ in range(count)]

    def __enter__(self) -> "Deliverers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)

    def kill_one(self) -> bool:
        """Kill one of them, whatever it has under way."""
        number = self._random.randrange(len(self._processes))
        self._processes[number].kill()
        self._processes[number].wait()
        self._processes[number] = self._start()
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.chaos.deliverers"]
        return subprocess.Popen(command, env=self._env, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)


async def _deliver_until_told() -> None:
    settings, stop = Settings(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ledger = AsyncLedger(settings.redis_url)
    await deliver(ledger, settings, stop)
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(_deliver_until_told())
