"""Whether a server could listen on a port, and who listens there if it could not."""

import contextlib
import errno
import socket
from typing import Any

import psutil

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""A name such as `localhost` may stand for an address that this machine lacks; servers leave it out, too."""


def why_not(host: str, port: int) -> str:
    """Why no server could listen there, with the owner of a port that is taken; empty if one could."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"{host} is no address of this machine: {error.strerror}"
    reasons = {_bind(family, address) for family, _, _, _, address in addresses}
    if errno.EADDRINUSE in reasons:
        return f"port {port} of {host} is taken by {_owner(port)}"
    failed = reasons - {0, *_ABSENT} if 0 in reasons else reasons
    return f"nothing can listen on port {port} of {host}: {errno.errorcode[failed.pop()]}" if failed else ""


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    return _bind(socket.AF_INET, ("127.0.0.1", port)) == 0


def listens(pid: int, port: int) -> bool:
    """Whether this process itself listens on the port."""
    with contextlib.suppress(psutil.Error):
        return any(_is_listener(each, port) for each in psutil.Process(pid).net_connections("tcp"))
    return False


def _bind(family: int, address: Any) -> int:
    """Bind for a moment; returns 0, or the number of the error."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _owner(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for each in psutil.net_connections("tcp"):
            if _is_listener(each, port) and each.pid:
                # Only the first words: others' arguments may hold secrets.
                return f"process {each.pid} ({' '.join(psutil.Process(each.pid).cmdline()[:3])})"
    return "a process of another user"


def _is_listener(connection: Any, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr.port == port)
