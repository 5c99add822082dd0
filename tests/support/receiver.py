"""A receiver of webhooks: a small HTTP server that notes what it is sent, and answers as it is told."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field

OK = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


def status(code, *headers):
    return "\r\n".join([f"HTTP/1.1 {code} Told", "Content-Length: 0", *headers, "", ""]).encode()


@dataclass
class Sent:
    """One request: its path, its headers in lower case, and its body."""

    path: str
    headers: dict
    body: bytes

    @property
    def event(self):
        return json.loads(self.body)


@dataclass
class Receiver:
    """What came, in order; `answer` gives the bytes to answer each request with, None for silence."""

    url: str = ""
    sent: list = field(default_factory=list)
    connections: int = 0
    answer: object = staticmethod(lambda _: OK)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            first, *head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head)}
            path = first.split(" ")[1].partition("?")[0]
            self.sent.append(Sent(path, headers, await reader.readexactly(int(headers["content-length"]))))
            self._more.set()
            answer = self.answer(self.sent[-1])
            if callable(answer):
                await answer(reader, writer)
            elif answer is None:
                await reader.read()  # until the caller gives up
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    async def until(self, check, seconds=10):
        """Wait for what makes `check(sent)` true, and return it."""
        async with asyncio.timeout(seconds):
            while not (found := check(self.sent)):
                self._more.clear()
                await self._more.wait()
        return found

    async def count(self, number, seconds=10):
        return await self.until(lambda sent: sent[:number] if len(sent) >= number else None, seconds)


@contextlib.asynccontextmanager
async def receiving(host):
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, host, 0)
    receiver.url = f"http://{host}:{server.sockets[0].getsockname()[1]}/hook?x=1"
    try:
        yield receiver
    finally:
        server.close()
