"""Connections over which the calls of a moment share one round trip; redis-py's clients cost more than a short call.

Whoever calls gets the reply to its own command. A command may be sent twice, where the connection broke before it.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio

from shared.ledger.coalesce import Coalescer

Command = tuple[str | float, ...]
_BROKEN = (redis.ConnectionError, redis.TimeoutError)


class Connection:
    """A connection of its own for the calls of any thread."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        """`pool` knows how to connect; the connection is not one of those that it hands out."""
        self._connection = pool.connection_class(**pool.connection_kwargs)
        self._coalesced: Coalescer[Command, Any] = Coalescer(self._run)

    def call(self, *command: str | float) -> Any:
        """Return the reply to a command; raises `redis.RedisError`."""
        return self._coalesced(command)

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        try:
            return self._round_trip(commands)
        except _BROKEN:  # the connection may be from before a restart
            return self._round_trip(commands)

    def _round_trip(self, commands: Sequence[Command]) -> list[Any]:
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            return [self._reply() for _ in commands]
        except BaseException:
            self._connection.disconnect()
            raise

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return error

    def close(self) -> None:
        """Close the connection; a later call opens it anew."""
        self._connection.disconnect()


class AsyncConnection:
    """A connection of its own for the calls of any task of one event loop."""

    def __init__(self, pool: redis.asyncio.ConnectionPool, timeout_seconds: float) -> None:
        """`pool` knows how to connect; a round trip takes `timeout_seconds` at most."""
        # One time limit holds for a round trip: redis-py's own would be set for each command and each reply.
        self._connection = pool.connection_class(**pool.connection_kwargs | {"socket_timeout": None})
        self._timeout_seconds = timeout_seconds
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    def call(self, *command: str | float) -> asyncio.Future[Any]:
        """Send a command; the result is its reply, or the `redis.RedisError`."""
        reply = asyncio.get_running_loop().create_future()
        self._waiting.append((command, reply))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_waiting())
        return reply

    async def _send_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            replies = await self._replies([command for command, _ in batch])
            for (_, caller), reply in zip(batch, replies, strict=True):
                if caller.done():  # it waits no more
                    continue
                if isinstance(reply, BaseException):
                    caller.set_exception(reply)
                else:
                    caller.set_result(reply)
        self._sender = None

    async def _replies(self, commands: Sequence[Command]) -> list[Any]:
        try:
            try:
                return await self._round_trip(commands)
            except _BROKEN:  # the connection may be from before a restart
                return await self._round_trip(commands)
        except Exception as error:  # noqa: BLE001 - raised in each calling task, which would wait forever otherwise
            return [error] * len(commands)

    async def _round_trip(self, commands: Sequence[Command]) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._connection.send_packed_command(self._connection.pack_commands(commands))
                return [await self._reply() for _ in commands]
        except TimeoutError as error:
            await self._connection.disconnect(nowait=True)
            raise redis.TimeoutError(f"no reply within {self._timeout_seconds} s") from error
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except redis.ResponseError as error:
            return error

    async def close(self) -> None:
        """Close the connection, after the calls that are under way."""
        if self._sender:
            await self._sender
        await self._connection.disconnect()
