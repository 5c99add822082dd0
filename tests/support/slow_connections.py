"""A client that means harm, as a process of its own: half requests, and a header that never ends.

`python -m tests.support.slow_connections PORT COUNT` keeps COUNT half requests and one endless header open, and opens
what the server ends anew. It prints a line when it has opened them, ends with its input, and then prints how many of
each the server ended.
"""

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

HALF = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: "
PIECE = b"x" * (16 << 10)
PAUSE_SECONDS = 0.05
"""Between two tries to connect."""


@contextlib.contextmanager
def slow_connections(port: int, count: int) -> Iterator[Counter[str]]:
    """Run the process while the block runs; what the server ended is known after the block."""
    command = [sys.executable, "-m", "tests.support.slow_connections", str(port), str(count)]
    ended: Counter[str] = Counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield ended
        finally:
            ended.update(json.loads(process.communicate()[0]))


async def attack(port: int, count: int) -> Counter[str]:
    """Open all, say so, and hold them until the input ends."""
    opened, ended = asyncio.Semaphore(0), Counter[str]()
    tasks = [asyncio.create_task(_half(port, opened, ended)) for _ in range(count)]
    tasks.append(asyncio.create_task(_endless(port, opened, ended)))
    for _ in tasks:
        await opened.acquire()
    sys.stdout.write("open\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    return ended


async def _half(port: int, opened: asyncio.Semaphore, ended: Counter[str]) -> None:
    while True:
        reader, writer = await _connect(port)
        opened.release()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended["half_requests"] += 1
        writer.close()


async def _endless(port: int, opened: asyncio.Semaphore, ended: Counter[str]) -> None:
    while True:
        reader, writer = await _connect(port)
        opened.release()
        answer = asyncio.create_task(reader.read())
        with contextlib.suppress(ConnectionError):
            while not answer.done():
                writer.write(PIECE)
                await writer.drain()
                await asyncio.sleep(0)  # let the answer come
        await asyncio.wait([answer])
        answer.exception()
        ended["endless_headers"] += 1
        writer.close()


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HALF)
            return reader, writer
        await asyncio.sleep(PAUSE_SECONDS)


def main() -> None:
    """Attack until the input ends."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.stdout.write(json.dumps(asyncio.run(attack(*map(int, sys.argv[1:])))))


if __name__ == "__main__":
    main()
