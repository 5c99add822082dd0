"""15: whatever URL a webhook has, or its name turns into later, nothing beside us is connected to."""

import asyncio
import socket
import threading
from typing import Any

import httpcore

from shared.contracts.jobs import NewJob
from shared.errors import Denied
from shared.ledger import AsyncLedger, calls
from shared.security.outbound import post
from shared.security.sealed import Sealed
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import Plan, World

_PUBLIC = "93.184.216.34"
"""What the tests' own resolver and network know as a server of the internet; nothing is sent there."""
_INSIDE = {
    "loopback": [
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "[::]",
        "127.1",
        "2130706433",
        "0x7f000001",
    ],
    "octal and hex": ["0177.0.0.1", "0x7f.0.0.1", "017700000001", "0"],
    "private": ["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.9.9", "192.168.0.1", "192.168.255.1"],
    "link-local": ["169.254.0.1", "[fe80::1]", "[fe80::1%25lo]", "169.254.255.254"],
    "metadata": ["169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "169.254.170.2", "192.0.0.192"],
    "shared and reserved": ["100.64.0.1", "198.18.0.1", "192.0.2.1", "203.0.113.5", "240.0.0.1", "255.255.255.255"],
    "multicast": ["224.0.0.1", "[ff02::1]", "[ff0e::1]"],
    "unique local": ["[fc00::1]", "[fd12:3456::1]"],
    "mapped IPv6": ["[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]"],
    "translated IPv6": ["[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[64:ff9b:1::a00:1]"],
    "documentation": ["[2001:db8::1]", "[100::1]", "[3fff::1]"],
    "compatible IPv6": ["[::7f00:1]", "[::a9fe:a9fe]"],
}
_NAMES = {
    "inside.test": ["127.0.0.1"],
    "both.test": [_PUBLIC, "10.0.0.1"],
    "both-reversed.test": ["169.254.169.254", _PUBLIC],
    "six.test": [_PUBLIC, "::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "empty.test": [],
}
_REFUSALS = (
    "no address of the public internet", "has no address", "is not encrypted", "are called", "this is no URL",
)  # fmt: skip
"""What the guard says; where nothing was there, but a connection was tried, it is something else."""
_MALFORMED = [
    "file:///etc/passwd", "gopher://127.0.0.1:{port}/", "ftp://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "",
    "http://user@127.0.0.1:{port}/", "http://example.com@127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@example.com/",
    "http://127.0.0.1:0/", "http://127.0.0.1:99999/", "http://[::1/", "unix:///run/redis.sock",
    "http://127.0.0.1:{port}/\r\nHost: x", "javascript:alert(1)", "http:///path",
]  # fmt: skip


def plan(size: Size) -> Plan:
    """Its own servers are what must not be reached."""
    return Plan(lease_seconds=size.lease_seconds)


class Internet(httpcore.AsyncNetworkBackend):
    """A network in which the public address is a server that redirects inside; of the rest only loopback is real."""

    def __init__(self, location: str) -> None:
        self.connected: list[str] = []
        self._location = location

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Note where a connection would go; nothing leaves this machine."""
        self.connected.append(host)
        if host.startswith("127.") or host == "::1":
            return await httpcore.AnyIOBackend().connect_tcp(host, port)
        if host != _PUBLIC:
            raise httpcore.ConnectError(f"nothing at {host}:{port}")
        answer = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {self._location}\r\nContent-Length: 0\r\n\r\n"
        return httpcore.AsyncMockStream([answer.encode()])


class Listener:
    """A server on loopback that counts who comes."""

    def __init__(self) -> None:
        self.count = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.count += 1
            connection.close()

    def close(self) -> None:
        """Take no more."""
        self._socket.close()


def prove(world: World, size: Size) -> Outcome:
    """Every URL as a new endpoint, and as what an endpoint's name has turned into; then names that lie or redirect."""
    listener = Listener()
    urls = _urls(world, listener.port)
    refused = sum(_is_refused(world, url) for url in urls)
    delivered = asyncio.run(_deliver_to(world, urls))
    network = Internet(f"http://127.0.0.1:{listener.port}/")
    lies = sum(asyncio.run(_is_denied(name, addresses, listener.port, network)) for name, addresses in _NAMES.items())
    before = len(network.connected)
    redirect = asyncio.run(_post("https://redirect.test/", [[_PUBLIC]], network))
    rebinding = asyncio.run(_post("https://rebinding.test/", [[_PUBLIC], ["127.0.0.1"], ["127.0.0.1"]], network))
    listener.close()
    tried = 2 * len(urls) + len(_NAMES) + 2
    outcome = Outcome({"urls": tried, "kinds": len(_INSIDE) + 3})
    inside = listener.count + before + sum(host != _PUBLIC for host in network.connected)
    outcome.at_least("urls_tried", tried, size.urls)
    outcome.at_most("connections_inside", inside, 0)
    outcome.at_least("urls_refused", refused + delivered + lies, tried - 2)
    outcome.at_least("redirects_and_rebindings_not_followed", [redirect, rebinding].count(307), 2)
    return outcome


def _urls(world: World, port: int) -> list[str]:
    ports = [port, world.settings.api_port, *(int(p) for p in _server_ports(world))]
    hosts = [host for kind in _INSIDE.values() for host in kind]
    urls = [
        f"{scheme}://{host}:{ports[n % len(ports)]}/" for n, host in enumerate(hosts) for scheme in ("https", "http")
    ]
    return urls + [url.replace("{port}", str(port)).replace("http://", "https://") for url in _MALFORMED]


def _is_refused(world: World, url: str) -> bool:
    from signalbox import ApiError

    try:
        world.client.create_webhook(url)
    except ApiError as error:
        return 400 <= error.status < 500
    return False


async def _deliver_to(world: World, urls: list[str]) -> int:
    """Put an endpoint of each URL into the ledger, with an event; returns how many deliveries the guard refused."""
    ledger = AsyncLedger(world.settings.redis_url)
    secret = Sealed(world.settings.webhook_key.get_secret_value()).seal("whsec_" + "a" * 40)
    for number, url in enumerate(urls):
        tenant = f"hooks{number}"
        fields = {"url": url, "events": " * ", "name": "", "secret": secret, "secret_hint": ""}
        await ledger.do(calls.add_webhook(tenant, f"we_{number}", fields))
        ended = {"id": f"job_hooks{number}", "tenant_id": tenant, "kind": "generate", "stage": "select"}
        await ledger.do(calls.create(NewJob(**ended, queue="select", body={}), 60))
        await ledger.do(calls.cancel(ended["id"], tenant))
    errors = [await _error_of(ledger, number) for number in range(len(urls))]
    for number in range(len(urls)):
        await ledger.do(calls.remove_webhook(f"hooks{number}", f"we_{number}"))
    await ledger.close()
    return sum(any(words in error for words in _REFUSALS) for error in errors)


async def _error_of(ledger: AsyncLedger, number: int) -> str:
    async with asyncio.timeout(60):
        while True:
            ((told, *_), _) = await ledger.do(calls.deliveries(f"hooks{number}", f"we_{number}", before="", limit=1))
            if told.get("error"):
                return str(told["error"])
            await asyncio.sleep(0.05)


async def _is_denied(name: str, addresses: list[str], port: int, network: Internet) -> bool:
    try:
        await _post(f"https://{name}:{port}/", [addresses], network)
    except Denied:
        return True
    return False


async def _post(url: str, answers: list[list[str]], network: Internet) -> int:
    """Call a URL whose name has these addresses, one list after the other."""
    minds = iter(answers)
    return await post(url, b"{}", {}, seconds=10, find=lambda *_: next(minds), network=network)


def _server_ports(world: World) -> list[str]:
    settings = world.settings
    return [
        url.rsplit(":", 1)[1].partition("/")[0] for url in (settings.redis_url, settings.broker_url, settings.s3_url)
    ]


PROMISE = Promise(15, "Webhooks cannot reach inside", plan, prove)
