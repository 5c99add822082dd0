"""Constraints are compiled in processes with bounds, which are replaced where they die; nothing of it stays behind."""

import asyncio
import os
import resource
import signal
import time

import pytest

from shared.constraints import checker as module
from shared.constraints.checker import ConstraintChecker, ConstraintInvalid
from shared.contracts.constraints import Constraint
from shared.errors import Unavailable
from tests.support.eventually import eventually

FINE = Constraint(regex="a+")


def product(alternatives, factors):
    """A schema whose parts multiply where they are joined."""
    parts = [[{"type": "object", "properties": {f"{n}_{m}": {}}} for m in range(alternatives)] for n in range(factors)]
    return Constraint(json_schema={"allOf": [{"anyOf": part} for part in parts]})


@pytest.fixture
async def checker():
    checker = ConstraintChecker()
    yield checker
    await checker.close()


async def test_what_compiled_is_known_to_its_tenant_and_compiled_once(checker, monkeypatch):
    await checker.check("a", FINE)
    process = checker._idle[0]
    os.kill(process.pid, signal.SIGSTOP)  # whoever asks it would wait
    await checker.check("a", FINE)
    os.kill(process.pid, signal.SIGCONT)
    await checker.check("b", FINE)
    monkeypatch.setattr(module, "KNOWN_PER_TENANT", 2)
    for text in "xyz":
        await checker.check("a", Constraint(choices=(text,)))
    assert list(checker._tenant("a").known) == [Constraint(choices=(text,)).digest for text in "yz"]
    assert checker._idle == [process]


@pytest.mark.parametrize("size", [(4, 6), (6, 9)])
async def test_a_bomb_is_refused_within_its_time_and_memory_and_the_next_one_is_served(checker, size):
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(ConstraintInvalid, match=r"params\.constraint\.json_schema: "):
        await checker.check("a", product(*size))
    await checker.check("a", FINE)
    await checker.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime < 8
    assert after.ru_maxrss < 640 << 10


async def test_a_tenants_bomb_does_not_hold_another_tenant_up(checker):
    await asyncio.gather(checker.check("a", FINE), checker.check("b", Constraint(regex="b")))
    bombs = [asyncio.create_task(checker.check("a", product(4, 6 + n))) for n in range(2)]
    await asyncio.sleep(0)
    started = time.monotonic()
    await checker.check("b", Constraint(regex="c"))
    assert not any(bomb.done() for bomb in bombs) or time.monotonic() - started < 1
    refused = await asyncio.gather(*bombs, return_exceptions=True)
    assert [type(one) for one in refused] == [ConstraintInvalid] * 2


async def test_a_process_that_is_killed_in_the_middle_is_replaced_and_asked_again(checker):
    await checker.check("a", FINE)
    process = checker._idle[0]
    os.kill(process.pid, signal.SIGSTOP)
    asking = asyncio.create_task(checker.check("a", Constraint(regex="b+")))
    await asyncio.to_thread(eventually, lambda: not checker._idle, "the process is taken")
    os.kill(process.pid, signal.SIGKILL)
    await asking
    assert [one.pid for one in checker._idle] != [process.pid]


async def test_a_process_that_answers_nothing_is_ended_and_the_caller_told_to_try_again(checker, monkeypatch):
    await checker.check("a", FINE)
    monkeypatch.setattr(module, "_WALL_SECONDS", 0.1)
    process = checker._idle[0]
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(Unavailable) as caught:
        await checker.check("a", Constraint(regex="b+"))
    assert (caught.value.code, process.returncode) == ("constraint_check_slow", -signal.SIGKILL)
    monkeypatch.undo()
    await checker.check("a", Constraint(regex="b+"))


async def test_a_caller_that_leaves_takes_its_process_along_so_nobody_gets_its_answer(checker):
    await checker.check("a", FINE)
    process = checker._idle[0]
    os.kill(process.pid, signal.SIGSTOP)
    asking = asyncio.create_task(checker.check("a", Constraint(regex="b+")))
    await asyncio.to_thread(eventually, lambda: not checker._idle, "the process is taken")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ConstraintInvalid):
        await checker.check("a", Constraint(regex="b("))


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/s.json", "file:///etc/hostname", "//127.0.0.1:{port}/s"])
async def test_no_schema_is_fetched(checker, address):
    asked = []

    async def note(_reader, writer):
        asked.append(address)
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConstraintInvalid):
            await checker.check("a", Constraint(json_schema={"$ref": address.format(port=port)}))
    assert asked == []
