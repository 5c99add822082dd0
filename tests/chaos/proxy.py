"""A proxy before the object store that can be slow, wrong, cut short or closed, for whoever is behind it."""

import contextlib
import socket
import socketserver
import threading
from typing import Literal

Mode = Literal["pass", "slow", "flip", "cut", "refuse"]
_PIECE = 1 << 16
_SLOW_PIECE, _SLOW_SECONDS = 256, 0.1
_END = b"\r\n\r\n"


class Proxy:
    """Passes connections on to `port` of loopback; `mode` says how, from now on."""

    def __init__(self, port: int) -> None:
        self.mode: Mode = "pass"
        self.spoiled = 0
        """Bodies that were changed or cut."""
        self._upstream = port
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, client: socket.socket) -> None:
        if self.mode == "refuse":
            return
        try:
            upstream = socket.create_connection(("127.0.0.1", self._upstream), timeout=120)
        except OSError:
            return
        answers = _Answers()
        with upstream:
            there = threading.Thread(target=self._ask, args=(client, upstream, answers), daemon=True)
            there.start()
            self._answer(upstream, client, answers)
            there.join()

    def _ask(self, client: socket.socket, upstream: socket.socket, answers: "_Answers") -> None:
        try:
            while piece := client.recv(_PIECE):
                if self.mode == "refuse":
                    break
                answers.expect(piece)
                upstream.sendall(piece)
        except OSError:
            pass
        finally:
            _end(upstream)

    def _answer(self, upstream: socket.socket, client: socket.socket, answers: "_Answers") -> None:
        try:
            while piece := upstream.recv(_PIECE):
                if self.mode == "refuse":
                    break
                self._send(client, answers, piece)
        except OSError:
            pass
        finally:
            _end(client)
            _end(upstream)

    def _send(self, client: socket.socket, answers: "_Answers", piece: bytes) -> None:
        body_at = answers.body_of(piece)
        has_body = len(piece) - body_at > 1
        if self.mode == "flip" and has_body:
            self.spoiled += 1
            at = (body_at + len(piece)) // 2
            piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
        elif self.mode == "cut" and has_body:
            self.spoiled += 1
            client.sendall(piece[: (body_at + len(piece)) // 2])
            raise OSError("cut")
        elif self.mode == "slow":
            for start in range(0, len(piece), _SLOW_PIECE):
                client.sendall(piece[start : start + _SLOW_PIECE])
                threading.Event().wait(_SLOW_SECONDS)
            return
        client.sendall(piece)


class _Answers:
    """Where the bodies are in what a server sends; one request at a time, as our clients ask."""

    def __init__(self) -> None:
        self._is_in_head = True
        self._has_body = True

    def expect(self, request: bytes) -> None:
        """A request begins: the next answer has a head, and to HEAD no body."""
        if request.split(b" ", 1)[0] in {b"GET", b"HEAD", b"PUT", b"POST", b"DELETE"}:
            self._is_in_head, self._has_body = True, not request.startswith(b"HEAD")

    def body_of(self, piece: bytes) -> int:
        """Where in this piece the body begins; its length where there is none in it."""
        start = 0
        if self._is_in_head:
            end = piece.find(_END)
            if end < 0:
                return len(piece)
            self._is_in_head, start = False, end + len(_END)
        return start if self._has_body else len(piece)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended already
        connection.shutdown(socket.SHUT_RDWR)
