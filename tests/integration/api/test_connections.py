"""What a connection may take before and after it is a request: bytes, time, places."""

import asyncio
import contextlib
import json
import socket
import time

import httpx
import pytest

from services.api.http.connections import MAX_HEADER_BYTES, MAX_PIPELINED
from tests.support.api import client_of, serving
from tests.support.eventually import eventually

HALF = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: "
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
PIECE = b"x" * (16 << 10)
SOON = 30.0


@pytest.fixture
async def hurried(settings):
    """A server that waits for a second at most."""
    quick = settings.model_copy(update={"header_seconds": 1.0, "idle_seconds": 1.0})
    async with serving(quick) as (app, url):
        yield app, url


async def connect(url, address="127.0.0.1"):
    port = int(url.rpartition(":")[2])
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))


async def rest(reader):
    """All that the server still says, until it closes."""
    said = b""
    async with asyncio.timeout(SOON):
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(1 << 16):
                said += piece
    return said


def problem(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"x-content-type-options: nosniff" in head
    assert b"connection: close" in head
    return int(head[9:12]), json.loads(body)["code"]


async def number_of_connections(app, count):
    connections = app.state.server.server_state.connections
    await asyncio.to_thread(eventually, lambda: len(connections) == count, f"{count} connections", SOON)


def head_of(size):
    start = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["one endless header", "endless headers"])
async def test_a_header_that_never_ends_is_refused(api, end):
    reader, writer = await connect(api["url"])
    writer.write(HALF)
    for _ in range(MAX_HEADER_BYTES // len(PIECE)):
        writer.write((b"x: " + PIECE)[: len(PIECE) - len(end)] + end)
    assert problem(await rest(reader)) == (431, "headers_too_large")


async def test_the_limit_of_a_head_is_exact_and_one_for_each_request(api):
    reader, writer = await connect(api["url"])
    for _ in range(3):
        writer.write(head_of(MAX_HEADER_BYTES - 1))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readexactly(len(b'{"status":"ok"}'))
    writer.write(head_of(MAX_HEADER_BYTES + 1))
    assert problem(await rest(reader)) == (431, "headers_too_large")


async def test_lines_after_a_body_are_bounded_too(api):
    reader, writer = await connect(api["url"])
    writer.write(
        b"POST /v1/adapters HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + api["train"].headers["authorization"].removeprefix("Bearer ").encode()
        + b"\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n-\r\n0\r\nx: "
        + PIECE * 10
    )
    assert await rest(reader) == b""


async def test_requests_in_advance_are_bounded(api):
    reader, writer = await connect(api["url"])
    writer.write(WHOLE * MAX_PIPELINED)
    for _ in range(MAX_PIPELINED):
        assert (await reader.readuntil(b'{"status":"ok"}')).startswith(b"HTTP/1.1 200")
    writer.write(WHOLE * 10_000)
    assert (await rest(reader)).count(b"HTTP/1.1 200") < 10_000


@pytest.mark.parametrize(
    ("sent", "expected"), [(b"", b""), (HALF, 408), (WHOLE + HALF, 408)], ids=["nothing", "half", "one and a half"]
)
async def test_a_client_that_does_not_finish_its_request_is_sent_away(hurried, sent, expected):
    reader, writer = await connect(hurried[1])
    writer.write(sent)
    if sent.startswith(WHOLE):
        await reader.readuntil(b'{"status":"ok"}')
    answer = await rest(reader)
    assert answer == expected or problem(answer) == (expected, "request_too_slow")


async def test_dripping_a_header_gains_no_time(hurried):
    reader, writer = await connect(hurried[1])
    writer.write(HALF)

    async def drip():
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.1)  # the drip itself

    dripping = asyncio.create_task(drip())
    assert problem(await rest(reader)) == (408, "request_too_slow")
    dripping.cancel()


def post(key, length=1000):
    headers = f"Authorization: {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    return f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


async def test_a_body_that_stalls_is_given_up_and_one_that_drips_is_read(hurried, tokens, release):
    key = f"Bearer {tokens['submit']}"
    stalled, stalled_writer = await connect(hurried[1])
    stalled_writer.write(post(key) + b'{"input"')
    body = json.dumps({"input": "x" * 30}).encode()
    reader, writer = await connect(hurried[1])
    writer.write(post(key, len(body)))
    for byte in body:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)  # two seconds in all, never one of silence
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 202")
    assert await rest(stalled) == b""


async def test_after_an_early_answer_the_rest_of_a_body_is_taken_for_a_while_only(hurried):
    reader, writer = await connect(hurried[1])
    writer.write(
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401")

    async def drip():
        while True:
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.05)  # the drip itself

    dripping = asyncio.create_task(drip())
    await rest(reader)
    dripping.cancel()


async def test_a_client_that_has_just_come_may_still_be_taking_its_answer(settings):
    async with serving(settings) as (app, url):
        reader, writer = await connect(url)
        asked = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write(asked.replace(b"Connection: close\r\n", b"") * (MAX_PIPELINED - 1) + asked)
        await number_of_connections(app, 1)
        (connection,) = app.state.server.server_state.connections
        await asyncio.to_thread(eventually, connection.transport.get_write_buffer_size, "an answer under way", SOON)
        connection.look(time.monotonic())
        whole = await rest(reader)
        assert whole.count(b"HTTP/1.1 200 OK") == MAX_PIPELINED
        length = int(whole.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert len(whole) > MAX_PIPELINED * length


async def test_a_client_that_takes_no_answer_is_given_up(hurried):
    app, url = hurried
    host, port = "127.0.0.1", int(url.rpartition(":")[2])
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, port))
        client.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * MAX_PIPELINED)
        await number_of_connections(app, 1)
        await number_of_connections(app, 0)


async def test_where_an_address_has_all_its_places_who_waits_longest_gives_way(settings):
    few = settings.model_copy(update={"max_connections_per_address": 3})
    async with serving(few) as (app, url):
        halves = [await connect(url) for _ in range(3)]
        for _, writer in halves:
            writer.write(HALF)
        elsewhere = await connect(url, "127.0.0.2")
        elsewhere[1].write(HALF)
        async with client_of(url) as client:
            assert (await client.get("/healthz")).status_code == 200
        assert problem(await rest(halves[0][0])) == (503, "too_many_connections")
        for reader, writer in (*halves[1:], elsewhere):
            writer.write(b"\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        text = (await app.state.clients.metrics.render(app.state.clients.ledger, app.state.clients.room, 0)).decode()
        assert 'signalbox_refused_total{reason="too_many_connections",status="503"} 1.0' in text


@pytest.mark.parametrize(
    ("limits", "other"),
    [({"max_connections_per_address": 2}, 200), ({"max_connections": 2}, 503)],
    ids=["one address", "in all"],
)
async def test_where_every_place_has_a_request_in_progress_more_are_refused(settings, tokens, limits, other):
    busy = settings.model_copy(update=limits)
    async with serving(busy) as (app, url):
        opened = [await connect(url) for _ in range(2)]
        for _, writer in opened:
            writer.write(post(f"Bearer {tokens['submit']}", 5) + b"{")
        await asyncio.to_thread(eventually, lambda: len(app.state.server.server_state.tasks) == 2, "two requests", SOON)
        answers = {}
        for address in ("127.0.0.1", "127.0.0.3"):
            transport = httpx.AsyncHTTPTransport(local_address=address)
            async with httpx.AsyncClient(transport=transport, base_url=url) as client:
                answers[address] = (await client.get("/healthz")).status_code
    assert answers == {"127.0.0.1": 503, "127.0.0.3": other}


async def test_the_addresses_of_trusted_proxies_have_no_bound_of_their_own(settings):
    trusting = settings.model_copy(
        update={"max_connections_per_address": 1, "trusted_proxies": "10.0.0.1, 127.0.0.0/8"}
    )
    async with serving(trusting) as (_, url):
        halves = [await connect(url) for _ in range(5)]
        for reader, writer in halves:
            writer.write(WHOLE)
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_place_is_free_again_when_its_connection_ends(settings):
    single = settings.model_copy(update={"max_connections": 1, "max_connections_per_address": 1})
    async with serving(single) as (app, url):
        for _ in range(5):
            async with client_of(url) as client:
                assert (await client.get("/healthz")).status_code == 200
            await number_of_connections(app, 0)
