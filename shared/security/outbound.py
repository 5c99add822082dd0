"""HTTP calls to URLs that users name: they reach only the public internet, never the internal network.

A name is resolved once, all its addresses are checked, and the connection uses a checked address, so that a name that
resolves differently the next time (DNS rebinding) has no effect. Redirects are not followed.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared.errors import Denied, Unavailable

if TYPE_CHECKING:
    import httpcore

TIMEOUT_SECONDS = 10.0
SCHEMES = {"https": 443, "http": 80}
_UNICAST = ipaddress.ip_network("2000::/3")
"""The public unicast range of IPv6; addresses outside it are local, or other notations of IPv4."""
_CLOSED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2002::/16", "3fff::/20")))
"""Special networks that some Python versions do not know, among them a cloud's metadata service."""

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


def check_url(url: str) -> None:
    """Raise `Denied` for a URL that cannot name a public endpoint, before any name is resolved."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Denied("url_refused", "this is no URL: write https://host/path") from error
    if parts.scheme not in SCHEMES or not host or port == 0 or "@" in parts.netloc or not url.isprintable():
        raise Denied("url_refused", "only https:// and http:// URLs without a user name are called")


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    find: Resolve = resolve,
    network: "httpcore.NetworkBackend | None" = None,
) -> int:
    """Send one POST and return its status, also that of a redirect; raises `Denied`, `Unavailable`."""
    import httpcore

    check_url(url)
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_SECONDS)
    with httpcore.ConnectionPool(network_backend=_guarded(find, network or httpcore.SyncBackend())) as pool:
        try:
            return pool.request(
                "POST", url, headers=list(headers.items()), content=body, extensions={"timeout": timeout}
            ).status
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, UnicodeError) as error:
            raise Unavailable("endpoint_unavailable", "the endpoint does not answer; try again later") from error


def _guarded(find: Resolve, network: "httpcore.NetworkBackend") -> "httpcore.NetworkBackend":
    import httpcore

    class Guarded(httpcore.NetworkBackend):
        def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
            addresses = list(find(host, port))
            if not addresses or not all(map(is_public, addresses)):
                raise Denied("address_refused", f"{host[:128]!r} is not an address of the public internet")
            return network.connect_tcp(addresses[0], port, *args, **options)

        def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
            raise Denied("address_refused", "sockets of this machine are not called")

    return Guarded()
