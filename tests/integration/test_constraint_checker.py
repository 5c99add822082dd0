"""Constraints are compiled in processes with bounds, which are replaced where they die; nothing of it stays behind."""

import asyncio
import os
import resource
import signal

import pytest

from shared.constraints import checker as module
from shared.constraints.checker import ConstraintChecker, ConstraintInvalid
from shared.constraints.program import MEMORY_BYTES
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


async def test_a_bomb_is_refused_within_its_bounds_and_holds_no_other_tenant_up(checker):
    await asyncio.gather(checker.check("a", FINE), checker.check("b", FINE))
    for process in checker._idle:
        assert resource.prlimit(process.pid, resource.RLIMIT_AS) == (MEMORY_BYTES, MEMORY_BYTES)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    bomb = asyncio.create_task(checker.check("a", product(4, 6)))
    await checker.check("b", Constraint(regex="b"))
    assert not bomb.done()
    with pytest.raises(ConstraintInvalid, match=r"params\.constraint\.json_schema: "):
        await bomb
    await checker.check("a", Constraint(regex="b"))
    await checker.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime < 10


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
