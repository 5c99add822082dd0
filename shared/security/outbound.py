"""HTTP calls to URLs that users name: they reach only the public internet, never the internal network.

A name is resolved once, all its addresses are checked, and the connection uses a checked address, so that a name that
resolves differently the next time (DNS rebinding) has no effect. Redirects are not followed, and of an answer only its
status is read. Operators may list hosts inside that are called nevertheless.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared.errors import Denied, Unavailable

if TYPE_CHECKING:
    import httpcore

SCHEMES = {"https": 443, "http": 80}
_UNICAST = ipaddress.ip_network("2000::/3")
"""The public unicast range of IPv6; addresses outside it are local, or other notations of IPv4."""
_CLOSED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2002::/16", "3fff::/20")))
"""Special networks that some Python versions do not know, among them a cloud's metadata service."""
_RESOLVERS = ThreadPoolExecutor(32, thread_name_prefix="resolve")
"""Threads of their own: a name server that is silent holds up nothing but other look-ups."""

Resolve = Callable[[str, int], Iterable[str]]


def resolve(host: str, port: int) -> list[str]:
    """Return all addresses of a name; raises `Unavailable` where it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable("address_unknown", f"the name {host[:128]!r} has no address: check the URL") from error
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    """Whether this is a public unicast address; an IPv4 address in IPv6 notation is checked as IPv4."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # an IPv6 zone, as in fe80::1%eth0
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if parsed not in _UNICAST:
            return False
    return parsed.is_global and not parsed.is_multicast and not any(parsed in network for network in _CLOSED)


@dataclass(frozen=True)
class InnerHosts:
    """Hosts inside that may be called, also without TLS: names, which may stand for any address, and networks."""

    names: frozenset[str] = frozenset()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @classmethod
    def of(cls, listed: str) -> "InnerHosts":
        """Read a list with commas."""
        names, networks = set(), []
        for part in filter(None, (part.strip().lower() for part in listed.split(","))):
            try:
                networks.append(ipaddress.ip_network(part, strict=False))
            except ValueError:
                names.add(part)
        return cls(frozenset(names), tuple(networks))

    def has(self, host: str) -> bool:
        """Whether a host is listed by its name, or its address by itself or its network."""
        if host.lower() in self.names:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


NOBODY = InnerHosts()


def check_url(url: str, inner: InnerHosts = NOBODY) -> None:
    """Raise `Denied` for a URL that cannot name an endpoint that may be called, before any name is resolved."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Denied("url_refused", "this is no URL: write https://host/path") from error
    if parts.scheme not in SCHEMES or not host or port == 0 or "@" in parts.netloc or not url.isprintable():
        raise Denied("url_refused", "only https:// URLs without a user name are called: write https://host/path")
    if parts.scheme == "http" and not inner.has(host):
        raise Denied("url_refused", "http:// is not encrypted: write https://, or let an operator list the host inside")


async def addresses_of(host: str, port: int, inner: InnerHosts = NOBODY, *, find: Resolve = resolve) -> list[str]:
    """Return the addresses of a host that may be called; raises `Denied`, and `Unavailable` where it has none."""
    found = list(await asyncio.get_running_loop().run_in_executor(_RESOLVERS, find, host, port))
    if not inner.has(host) and not (found and all(is_public(one) or inner.has(one) for one in found)):
        raise Denied(
            "address_refused",
            f"{host[:128]!r} is no address of the public internet: take another, or let an operator list it",
        )
    return found


async def check_host(url: str, inner: InnerHosts = NOBODY) -> None:
    """Raise `Denied` where a URL's host may not be called now, and `Unavailable` where it has no address."""
    check_url(url, inner)
    parts = urlsplit(url)
    await addresses_of(str(parts.hostname), parts.port or SCHEMES[parts.scheme], inner)


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    seconds: float,
    inner: InnerHosts = NOBODY,
    find: Resolve = resolve,
    network: "httpcore.AsyncNetworkBackend | None" = None,
) -> int:
    """Send one POST and return its status, also that of a redirect; raises `Denied`, `Unavailable`.

    `seconds` bounds the whole call, from the look-up of the name to the head of the answer.
    """
    import httpcore

    check_url(url, inner)
    backend = _guarded(inner, find, network or httpcore.AnyIOBackend())
    with _as_unavailable(seconds):
        async with (
            asyncio.timeout(seconds),
            httpcore.AsyncConnectionPool(ssl_context=_certificates(), network_backend=backend) as pool,
            pool.stream("POST", url, headers=list(headers.items()), content=body) as answer,
        ):
            return answer.status


@cache
def _certificates() -> ssl.SSLContext:
    import httpcore

    return httpcore.default_ssl_context()


@contextlib.contextmanager
def _as_unavailable(seconds: float) -> Iterator[None]:
    import httpcore

    try:
        yield
    except TimeoutError as error:
        raise Unavailable("endpoint_silent", f"the endpoint did not answer within {seconds:g} s") from error
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, UnicodeError) as error:
        why = str(error) or type(error).__name__
        raise Unavailable("endpoint_unavailable", f"the endpoint does not answer: {why[:200]}") from error


def _guarded(
    inner: InnerHosts, find: Resolve, network: "httpcore.AsyncNetworkBackend"
) -> "httpcore.AsyncNetworkBackend":
    import httpcore

    class Guarded(httpcore.AsyncNetworkBackend):
        async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
            found = await addresses_of(host, port, inner, find=find)
            return await network.connect_tcp(found[0], port, *args, **options)

        async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
            raise Denied("address_refused", "sockets of this machine are not called: write https://host/path")

    return Guarded()
