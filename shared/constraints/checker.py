"""Finds out whether constraints compile, in processes with bounds of time and memory, before a job is accepted."""

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from pathlib import Path

from shared.contracts.constraints import Constraint
from shared.errors import Invalid, Unavailable

PROCESSES = 2
KNOWN_PER_TENANT = 256
"""Digests of constraints that compiled; those used last are kept."""
_TENANTS = 1_000
_WALL_SECONDS = 20.0
"""A machine that takes this long for a few seconds of processor time has other troubles."""
_LINE_BYTES = 1 << 20
_PROGRAM = Path(__file__).with_name("program.py")


class ConstraintInvalid(Invalid):
    """A constraint does not compile, or takes too much to do so."""

    param = "response_format"
    """Where OpenAI's requests have it."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__("constraint_invalid", f"params.constraint.{kind}: {why}; correct it")
        self.why = why


class _Ended(Exception):
    """The process ended before it answered, by this signal."""

    def __init__(self, by: int) -> None:
        super().__init__(by)
        self.by = by


class _Tenant:
    """What compiled of one tenant's, and its turn: one of its constraints is checked at a time."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.known: OrderedDict[str, None] = OrderedDict()

    def knows(self, digest: str) -> bool:
        if digest not in self.known:
            return False
        self.known.move_to_end(digest)
        return True

    def note(self, digest: str) -> None:
        self.known[digest] = None
        if len(self.known) > KNOWN_PER_TENANT:
            self.known.popitem(last=False)


class ConstraintChecker:
    """Compiles constraints in a few processes, which are used again and replaced where they die."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(PROCESSES)
        self._idle: list[Process] = []
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    async def check(self, tenant_id: str, constraint: Constraint) -> None:
        """Raise `ConstraintInvalid` where the constraint does not compile, `Unavailable` where nobody can say."""
        tenant = self._tenant(tenant_id)
        async with tenant.turn:
            if tenant.knows(constraint.digest):
                return
            async with self._free:
                why = await self._fault(constraint)
            if why:
                raise ConstraintInvalid(constraint.kind, why)
            tenant.note(constraint.digest)

    async def close(self) -> None:
        """End the processes."""
        while self._idle:
            await _end(self._idle.pop())

    def _tenant(self, tenant_id: str) -> _Tenant:
        found = self._tenants.setdefault(tenant_id, _Tenant())
        self._tenants.move_to_end(tenant_id)
        if len(self._tenants) > _TENANTS:
            self._tenants.popitem(last=False)
        return found

    async def _fault(self, constraint: Constraint) -> str:
        """What is wrong with a constraint; empty where it compiles.

        What ends a process that has served others may be theirs, so a new one has the last word.
        """
        try:
            return await self._asked(constraint, self._idle.pop() if self._idle else await _start())
        except _Ended as ended:
            if ended.by == signal.SIGXCPU:
                return "it takes too long to compile; make it simpler"
        try:
            return await self._asked(constraint, await _start())
        except _Ended as ended:
            if ended.by in (signal.SIGXCPU, signal.SIGABRT):
                return "it takes too much time or memory to compile; make it simpler"
            raise Unavailable(
                "constraint_check_lost", "the process that compiles constraints was ended: try again"
            ) from ended

    async def _asked(self, constraint: Constraint, process: Process) -> str:
        try:
            async with asyncio.timeout(_WALL_SECONDS):
                error = await _exchange(process, constraint)
        except BaseException as error:  # also where the caller leaves: the answer would be taken for the next one's
            await _end(process)
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    "constraint_check_slow", f"compiling the constraint took over {_WALL_SECONDS:g} s: try again"
                ) from error
            raise
        self._idle.append(process)
        return error


async def _start() -> Process:
    # Isolated: neither its environment nor its folder adds anything to the program.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(_PROGRAM),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd="/",
        env={},
        limit=_LINE_BYTES,
    )


async def _exchange(process: Process, constraint: Constraint) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    order = {"kind": constraint.kind, "value": constraint.given[constraint.kind]}
    with contextlib.suppress(ConnectionError):  # it has ended: its output says so, too
        process.stdin.write(json.dumps(order).encode() + b"\n")
        await process.stdin.drain()
    line = await process.stdout.readline()
    if not line:
        raise _Ended(-await process.wait())
    return str(json.loads(line)["error"])


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
