"""Chats in OpenAI's format through the whole system without a language model: light selector, echo engine, real queues.

The tax is what a chat takes more than the same job by `/v1/jobs`, one after the other and by turns. A first token's way
goes from the engine to the client, while 64 clients read a stream each. The client's CPU time is never counted.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
from signalbox import Signalbox

from benchmarks.common import median_row, print_table, row, write_results
from benchmarks.routed import cpu_seconds, one
from services.cli.demo.data import DemoData
from services.cli.local.supervisor import Supervisor
from shared.security import api_keys
from tests.support.echo_release import echo_system

FEW, READERS = 8, 64
"""Clients at once: of whole chats few or many, of streams many."""
SECONDS_PER_TOKEN = 0.1
"""Of each stream, as a model on a card writes."""
_PATH = "/v1/chat/completions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, default=300, help="one at a time, per run")
    parser.add_argument("--busy-chats", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=640)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    data = DemoData()
    texts = [row.text for row, _ in zip(data.stream(), range(args.chats), strict=False)]
    speed = {"worker_slots": READERS, "echo_seconds_per_token": SECONDS_PER_TOKEN}
    with tempfile.TemporaryDirectory() as folder, echo_system(Path(folder), data, **speed) as (supervisor, _):
        ways = sorted(asyncio.run(Chats(supervisor).first_tokens(texts, args.streams)))
    with tempfile.TemporaryDirectory() as folder, echo_system(Path(folder), data) as (supervisor, client):
        chats = Chats(supervisor)
        tax(chats, client, texts[:100])
        asyncio.run(chats.busy(texts, 200))
        taxes = []
        rates: dict[int, list[float]] = {FEW: [], READERS: []}
        for _ in range(args.runs):
            taxes.append(tax(chats, client, texts))
            for clients, rate in rates.items():
                before = cpu_seconds(supervisor)
                asyncio.run(chats.busy(texts, args.busy_chats, clients))
                rate.append(args.busy_chats / (cpu_seconds(supervisor) - before))
    rows = [
        median_row("openai_tax_p50_ms", taxes, "ms", goal=3, at_least=False),
        median_row("chat_per_cpu_s", rates[READERS], "1/s", goal=200),
        median_row("chat_of_few_per_cpu_s", rates[FEW], "1/s"),
        row("sse_first_token_p50_ms", statistics.median(ways), "ms", goal=15, at_least=False),
        row("sse_first_token_p99_ms", ways[int(0.99 * len(ways))], "ms", goal=60, at_least=False),
    ]
    print_table(rows)
    write_results("openai_chat", rows)


class Chats:
    """Sends chats to a system."""

    def __init__(self, supervisor: Supervisor) -> None:
        _, token = api_keys.create(supervisor.ledger.redis, frozenset({api_keys.Scope.SUBMIT, api_keys.Scope.READ}))
        self._client = {"base_url": supervisor.api_url, "headers": {"Authorization": f"Bearer {token}"}, "timeout": 60}
        self.http = httpx.Client(**self._client)

    def one(self, text: str) -> float:
        """Milliseconds of a whole chat."""
        started = time.perf_counter()
        self.http.post(_PATH, json=body(text)).raise_for_status()
        return (time.perf_counter() - started) * 1000

    async def busy(self, texts: list[str], count: int, clients: int = FEW) -> None:
        """Send whole chats, so many at once."""
        numbers = iter(range(count))

        async def client() -> None:
            # Each has its own connection, which stays: one pool of all would close most after each answer.
            async with httpx.AsyncClient(**self._client) as http:
                for number in numbers:
                    (await http.post(_PATH, json=body(texts[number % len(texts)]))).raise_for_status()

        await asyncio.gather(*(client() for _ in range(clients)))

    async def first_tokens(self, texts: list[str], count: int) -> list[float]:
        """Milliseconds from the engine's first token to the client's, of streams, 64 at once."""
        numbers = iter(range(count))

        async def client(http: httpx.AsyncClient) -> list[float]:
            return [await _first_token(http, texts[number % len(texts)]) for number in numbers]

        limits = httpx.Limits(max_connections=READERS)
        async with httpx.AsyncClient(**self._client, limits=limits) as http:
            return list(chain.from_iterable(await asyncio.gather(*(client(http) for _ in range(READERS)))))


def tax(chats: Chats, client: Signalbox, texts: list[str]) -> float:
    """Difference of the medians of a chat and of the same job, in milliseconds."""
    pairs = [(chats.one(text), one(client, text)) for text in texts]
    return statistics.median(chat for chat, _ in pairs) - statistics.median(job for _, job in pairs)


def body(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "auto", "messages": messages, "max_completion_tokens": 16, **more}


async def _first_token(http: httpx.AsyncClient, text: str) -> float:
    """The engine's clock is the ledger's: the job began to run, and so long later its first token was there."""
    came = 0.0
    async with http.stream("POST", _PATH, json=body(text, stream=True)) as response:
        job_id = response.headers["x-request-id"]
        async for line in response.aiter_lines():
            if not came and '"content":"' in line and '"content":""' not in line:
                came = time.time() * 1000
    job = json.loads((await http.get(f"/v1/jobs/{job_id}")).content)
    return came - job["timestamps"]["running"] - job["result"]["first_token_ms"]


if __name__ == "__main__":
    main()
