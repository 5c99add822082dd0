"""What a server's ports give to a client without keys: plain HTTP, and gRPC with and without TLS."""

import contextlib
import socket
import ssl

import psutil

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # with empty SETTINGS
HTTP2_SETTINGS = 4
REFUSED = frozenset({400, 401, 403, 404, 405, 501})


def listening(pid):
    """The addresses at which a process listens: (host, port), or the path of a socket."""
    process = psutil.Process(pid)
    ports = [tuple(each.laddr) for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    return sorted(set(ports)), sorted({each.laddr for each in process.net_connections("unix") if each.laddr})


def owner(port):
    """The process that listens on a port."""
    return next(
        each.pid for each in psutil.net_connections("tcp") if each.laddr and each.laddr.port == port and each.pid
    )


def connected(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    connection = socket.socket(family)
    connection.settimeout(5)
    connection.connect(address)
    return connection


def http_status(address, method, path):
    """The status of a plain request; 0 where the server ends the connection."""
    with connected(address) as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        with contextlib.suppress(ConnectionError):
            head = connection.recv(64).split()
            return int(head[1]) if len(head) > 1 else 0
    return 0


def greets(address, *, tls):
    """Whether a server of HTTP/2, as gRPC needs, takes this client, which shows no certificate."""
    with contextlib.suppress(OSError), connected(address) as plain, _wrapped(plain, tls) as connection:
        connection.sendall(HTTP2)
        frame = connection.recv(9)
        return len(frame) == 9 and frame[3] == HTTP2_SETTINGS
    return False


def _wrapped(connection, tls):
    if not tls:
        return connection
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection)
