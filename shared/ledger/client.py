"""The ledger's two clients, one blocking and one for asyncio; both run `calls` by the same script."""

import contextlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from shared.contracts.jobs import DEFAULT_NEW_TOKENS, MAX_BEFORE, MAX_DEPENDENTS, TRANSITIONS, Stage
from shared.errors import Unavailable
from shared.ledger.calls import Call
from shared.ledger.coalesce import Coalescer
from shared.ledger.keys import with_key_names
from shared.redis_servers import NO_DATABASE, is_no_database

T = TypeVar("T")
_PARTS = ("prelude", "lanes", "lifecycle", "dependents", "leases", "events", "queries", "release")
SETTLED_AT_ONCE = 100
"""Jobs that one call goes through, at most, among those that waited for an ended one: 10 to 30 ms."""
_FOLDER = Path(__file__).parent / "lua"
_SCRIPT = with_key_names("".join((_FOLDER / f"{part}.lua").read_text() for part in _PARTS))
_OPERATION = re.compile(r"^function op\.(\w+)\(a\)\n.*?\nend\n", re.MULTILINE | re.DOTALL)
_DISPATCH = "return cjson.encode(op[ARGV[1]](cjson.decode(ARGV[2])))\n"


def _lua_source(max_lost_leases: int) -> str:
    """Return the script, preceded by the tables that Python defines, so that each table has one definition."""
    legal = (
        f"{old} = {{ {', '.join(f'{new} = true' for new in sorted(targets))} }}" for old, targets in TRANSITIONS.items()
    )
    stages = (f"{s} = {{ waits = '{s.waiting_state}', runs = '{s.running_state}' }}" for s in Stage)
    tables = (
        f"local LEGAL = {{ {', '.join(legal)} }}\n"
        f"local STAGE = {{ {', '.join(stages)} }}\n"
        f"local DEFAULT_NEW_TOKENS = {DEFAULT_NEW_TOKENS}\n"
        f"local MAX_LOST = {max_lost_leases}\n"
        f"local MAX_BEFORE, MAX_DEPENDENTS, SETTLED_AT_ONCE = {MAX_BEFORE}, {MAX_DEPENDENTS}, {SETTLED_AT_ONCE}\n"
    )
    # Redis runs a script from its first line at every call: each defines the one operation that it runs.
    script = _OPERATION.sub(lambda found: f"if ARGV[1] == '{found[1]}' then\n{found[0]}end\n", _SCRIPT)
    return tables + script + _DISPATCH


class LedgerAway(Unavailable):
    """Redis does not answer, or accepts no writes."""


@contextlib.contextmanager
def as_ledger_away() -> Iterator[None]:
    """Convert the Redis errors of an unreachable, loading, full or read-only server to `LedgerAway`."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, redis.ReadOnlyError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise LedgerAway(
                "ledger_not_believed",
                "the certificate of the job ledger (Redis) is not believed: check SIGNALBOX_REDIS_CA_FILE and the name",
            ) from error
        if isinstance(error, redis.AuthenticationError):
            raise LedgerAway(
                "ledger_refuses_us", "the job ledger (Redis) refuses user or password: check SIGNALBOX_REDIS_URL"
            ) from error
        raise LedgerAway("ledger_unavailable", "the job ledger (Redis) does not answer; try again shortly") from error
    except redis.ResponseError as error:
        if is_no_database(error):
            raise LedgerAway("settings_invalid", f"SIGNALBOX_REDIS_URL: {NO_DATABASE}") from error
        if isinstance(error, redis.exceptions.OutOfMemoryError) or str(error).startswith(("MISCONF", "NOREPLICAS")):
            raise LedgerAway(
                "ledger_full", "the job ledger (Redis) takes no writes (memory or disk is full); try again later"
            ) from error
        raise


def _decode(call: Call[T], raw: Any) -> T:
    reply = json.loads(raw)
    if "refused" in reply:
        raise call.refused(reply)
    return call.read(reply)


class Ledger:
    """The blocking client, safe to share between threads."""

    def __init__(self, url: str, *, max_lost_leases: int = 3, timeout_seconds: float = 5.0) -> None:
        self.redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(ExponentialBackoff(cap=0.2), 1),
        )
        self._script = self.redis.register_script(_lua_source(max_lost_leases))
        self._coalesced: Coalescer[list[str], Any] = Coalescer(self._run)

    def do(self, call: Call[T]) -> T:
        """Run one operation; raises the call's own errors, and `LedgerAway`."""
        with as_ledger_away():
            raw = self._coalesced([call.op, json.dumps(call.args)])
        return _decode(call, raw)

    def _run(self, batch: Sequence[list[str]]) -> list[Any]:
        """Run several operations, each of them atomic; returns their replies and errors in order."""
        if len(batch) == 1:
            return [self._script(args=batch[0])]
        pipeline = self.redis.pipeline(transaction=False)
        for args in batch:
            pipeline.evalsha(self._script.sha, 0, *args)
        replies = pipeline.execute(raise_on_error=False)
        return [
            self._run_alone(args) if isinstance(reply, redis.exceptions.NoScriptError) else reply
            for args, reply in zip(batch, replies, strict=True)
        ]

    def _run_alone(self, args: list[str]) -> Any:
        """Run one operation; loads the script into a server that lacks it."""
        try:
            return self._script(args=args)
        except redis.RedisError as error:
            return error

    def do_with_retries(self, call: Call[T], retry_seconds: float) -> T:
        """Run one operation, with retries while Redis restarts; only for idempotent operations."""
        until = time.monotonic() + retry_seconds
        pause = 0.05
        while True:
            try:
                return self.do(call)
            except LedgerAway:
                if time.monotonic() > until:
                    raise
            time.sleep(pause)  # a pause between tries: there is no event to wait for
            pause = min(pause * 2, 1.0)

    def close(self) -> None:
        """Close the connections."""
        self.redis.close()


class AsyncLedger:
    """The asyncio client, for the API."""

    def __init__(self, url: str, *, max_lost_leases: int = 3, timeout_seconds: float = 5.0) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=64,
            timeout=timeout_seconds,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            # One retry: a pooled connection may be from before a restart. If the reply about a created job is lost, the
            # reconciler sends that job.
            retry=AsyncRetry(ExponentialBackoff(cap=0.2), 1),
        )
        self.redis = redis.asyncio.Redis(connection_pool=pool)
        self._script = self.redis.register_script(_lua_source(max_lost_leases))

    async def do(self, call: Call[T]) -> T:
        """Run one operation; raises the call's own errors, and `LedgerAway`."""
        with as_ledger_away():
            raw = await self._script(args=[call.op, json.dumps(call.args)])
        return _decode(call, raw)

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
