"""Calls of a moment share a connection: each gets its own reply, whatever happens to the others or to it."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio

from shared.ledger.connections import AsyncConnection, Connection

TIMEOUT_SECONDS = 0.3


@pytest.fixture
def server(settings):
    with redis.Redis.from_url(settings.redis_url) as client:
        yield client


@pytest.fixture
def connection(settings):
    made = Connection(redis.ConnectionPool.from_url(settings.redis_url, decode_responses=True, socket_timeout=5))
    yield made
    made.close()


@pytest.fixture
async def async_connection(settings):
    pool = redis.asyncio.ConnectionPool.from_url(settings.redis_url, decode_responses=True)
    made = AsyncConnection(pool, TIMEOUT_SECONDS)
    yield made
    await made.close()


def drop_connections(server):
    server.client_kill_filter(_type="normal", skipme=True)


def test_threads_get_their_own_replies(connection):
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda number: connection.call("ECHO", str(number)), range(500)))
    assert replies == [str(number) for number in range(500)]


def test_a_refused_command_is_its_callers_alone(connection):
    def call(number):
        if number % 3:
            return connection.call("ECHO", str(number))
        with pytest.raises(redis.ResponseError, match="unknown command"):
            connection.call("NOSUCH", number)
        return None

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(call, range(90)))
    assert replies == [str(number) if number % 3 else None for number in range(90)]


def test_a_connection_that_was_dropped_is_made_anew(connection, server):
    assert connection.call("ECHO", "a") == "a"
    drop_connections(server)
    assert connection.call("ECHO", "b") == "b"


async def test_tasks_get_their_own_replies_in_few_round_trips(async_connection, server):
    await async_connection.call("PING")
    before = server.info("stats")["total_reads_processed"]
    replies = await asyncio.gather(*(async_connection.call("ECHO", str(number)) for number in range(500)))
    assert replies == [str(number) for number in range(500)]
    assert server.info("stats")["total_reads_processed"] - before < 20


async def test_a_refused_command_is_its_tasks_alone(async_connection):
    calls = [async_connection.call(*command) for command in (("ECHO", "a"), ("NOSUCH",), ("ECHO", "b"))]
    first, refused, last = await asyncio.gather(*calls, return_exceptions=True)
    assert (first, last) == ("a", "b")
    assert isinstance(refused, redis.ResponseError)


async def test_a_caller_who_goes_leaves_the_others_their_replies(async_connection):
    gone, stays = async_connection.call("ECHO", "gone"), async_connection.call("ECHO", "stays")
    gone.cancel()
    assert await stays == "stays"
    assert await async_connection.call("ECHO", "later") == "later"


async def test_an_async_connection_that_was_dropped_is_made_anew(async_connection, server):
    assert await async_connection.call("ECHO", "a") == "a"
    drop_connections(server)
    assert await asyncio.gather(async_connection.call("ECHO", "b"), async_connection.call("ECHO", "c")) == ["b", "c"]


async def test_a_server_that_hangs_ends_the_wait_and_its_late_replies_reach_nobody(async_connection, server):
    assert await async_connection.call("ECHO", "a") == "a"
    server.execute_command("CLIENT", "PAUSE", int(3000 * TIMEOUT_SECONDS), "ALL")
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError, match="no reply"):
        await async_connection.call("ECHO", "paused")
    assert time.monotonic() - started < 3 * TIMEOUT_SECONDS  # the limit holds for each of two tries
    server.execute_command("CLIENT", "UNPAUSE")
    assert await async_connection.call("ECHO", "later") == "later"


async def test_without_a_server_every_caller_hears_it():
    nowhere = AsyncConnection(redis.asyncio.ConnectionPool.from_url("redis://127.0.0.1:9/0"), TIMEOUT_SECONDS)
    calls = [nowhere.call("PING"), nowhere.call("PING")]
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(reply) for reply in replies] == [redis.ConnectionError] * 2
