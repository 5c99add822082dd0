"""The ledger's two clients, one blocking and one for asyncio; both run `calls` by the same script."""

import contextlib
import json
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.commands.core import AsyncScript, Script
from redis.retry import Retry

from shared.errors import Unavailable
from shared.ledger.calls import Call
from shared.ledger.connections import AsyncConnection, Connection
from shared.ledger.script import USAGE_DAYS, script_of
from shared.redis_servers import NO_DATABASE, is_no_database

T = TypeVar("T")
_LONG = 1 << 16
_LONG_REPLIES = {"list", "deliveries", "claim_deliveries"}


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

    def __init__(
        self, url: str, *, max_lost_leases: int = 3, usage_days: int = USAGE_DAYS, timeout_seconds: float = 5.0
    ) -> None:
        self.redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(ExponentialBackoff(cap=0.2), 1),
        )
        self._scripts = cache(lambda op: self.redis.register_script(script_of(op, max_lost_leases, usage_days)))
        self._connection = Connection(self.redis.connection_pool)

    def do(self, call: Call[T]) -> T:
        """Run one operation; raises the call's own errors, and `LedgerAway`."""
        with as_ledger_away():
            raw = self._run(self._scripts(call.op), json.dumps(call.args))
        return _decode(call, raw)

    def _run(self, script: Script, args: str) -> Any:
        with contextlib.suppress(redis.exceptions.NoScriptError):  # a server that was started a moment ago
            return self._connection.call("EVALSHA", script.sha, 0, args)
        return script(args=[args])

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
        self._connection.close()
        self.redis.close()


class AsyncLedger:
    """The asyncio client, for the API."""

    def __init__(
        self, url: str, *, max_lost_leases: int = 3, usage_days: int = USAGE_DAYS, timeout_seconds: float = 5.0
    ) -> None:
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
        self._scripts = cache(lambda op: self.redis.register_script(script_of(op, max_lost_leases, usage_days)))
        self._connection = AsyncConnection(pool, timeout_seconds)

    async def do(self, call: Call[T]) -> T:
        """Run one operation; raises the call's own errors, and `LedgerAway`."""
        with as_ledger_away():
            raw = await self._run(call.op, json.dumps(call.args))
        return _decode(call, raw)

    async def _run(self, op: str, args: str) -> Any:
        script: AsyncScript = self._scripts(op)
        if op not in _LONG_REPLIES and len(args) < _LONG:  # nothing short waits for what is long
            with contextlib.suppress(redis.exceptions.NoScriptError):
                return await self._connection.call("EVALSHA", script.sha, 0, args)
        return await script(args=[args])

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()
        await self.redis.aclose()
