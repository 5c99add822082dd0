"""Tasks beside others end, though a cancel may be lost."""

import asyncio

from services.api.infra import tasks
from services.api.infra.leased import run_leased


async def test_a_task_that_loses_a_cancel_ends(monkeypatch):
    monkeypatch.setattr(tasks, "_AGAIN_SECONDS", 0.01)
    written = asyncio.get_running_loop().create_future()

    async def writes():
        await asyncio.wait_for(written, 60)
        await asyncio.Event().wait()

    task = asyncio.create_task(writes())
    await asyncio.sleep(0)
    written.set_result(None)  # and the cancel comes before the task has seen it
    assert isinstance((await tasks.end(task))[0], asyncio.CancelledError)


async def test_what_ended_before_says_how():
    async def fails():
        raise ValueError("broken")

    async def returns():
        return 3

    both = [asyncio.create_task(fails()), asyncio.create_task(returns())]
    await asyncio.wait(both)
    error, value = await tasks.end(*both)
    assert (str(error), value) == ("broken", 3)
    assert await tasks.end() == []


async def test_leases_are_given_back_though_a_cancel_is_lost(monkeypatch):
    monkeypatch.setattr(tasks, "_AGAIN_SECONDS", 0.01)
    given_back = []

    class Work:
        def __init__(self):
            self.named = {}
            self.running = asyncio.Event()
            self.written = asyncio.get_running_loop().create_future()

        async def run(self):
            self.running.set()
            await asyncio.wait_for(self.written, 60)
            await asyncio.Event().wait()

        async def release(self):
            given_back.append(self)

    work, stop = Work(), asyncio.Event()
    left = [work]

    async def take():
        return left.pop() if left else None

    running = asyncio.create_task(run_leased("work", stop, take, stale=KeyError))
    await work.running.wait()
    work.written.set_result(None)
    stop.set()
    await running
    assert given_back == [work]
