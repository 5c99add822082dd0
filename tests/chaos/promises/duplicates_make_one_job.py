"""8: however often and however parallel one key is posted, it makes one job and gives one answer."""

import asyncio
import secrets
from collections import Counter

import httpx

from shared.ledger.keys import LedgerKey
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World


def plan(size: Size) -> Plan:
    """Any system will do."""
    return Plan(lease_seconds=size.lease_seconds)


def prove(world: World, size: Size) -> Outcome:
    """Jobs and uploads: the first are told apart by the ledger, the second hold their key while they are at work."""
    before = set(world.redis.keys(LedgerKey.JOB.pattern))
    jobs, others, uploads = asyncio.run(_all(world, size))
    made = set(world.redis.keys(LedgerKey.JOB.pattern)) - before
    answers = {len(set(bodies)) for bodies, _ in jobs}
    outcome = Outcome({"keys": size.keys, "posts": size.keys * size.posts, "uploads": sum(uploads.values())})
    outcome.at_most("extra_jobs", len(made) - size.keys, 0, spread=f"{len(made)} jobs of {size.keys} keys")
    outcome.at_most("answers_of_a_key", max(answers), 1)
    outcome.at_most("posts_not_accepted", sum(count for _, count in jobs), 0)
    outcome.at_least("other_bodies_refused_422", others[422], size.keys, spread=_told(others))
    outcome.at_most(
        "parallel_uploads_beside_201_and_409", uploads.total() - uploads[201] - uploads[409], 0, spread=_told(uploads)
    )
    outcome.at_least("parallel_uploads_in_flight_409", uploads[409], 1)
    return outcome


async def _all(world: World, size: Size) -> tuple[list[tuple[list[str], int]], Counter[int], Counter[int]]:
    headers = {"Authorization": f"Bearer {world.key}"}
    limits = httpx.Limits(max_connections=size.posts)
    async with httpx.AsyncClient(base_url=world.supervisor.api_url, headers=headers, timeout=60, limits=limits) as http:
        run = secrets.token_hex(4)
        jobs = [await _one_key(http, f"{run}-{number}", number, size) for number in range(size.keys)]
        others = Counter([await _other_body(http, f"{run}-{number}") for number in range(size.keys)])
        uploads: Counter[int] = Counter()
        for number in range(min(size.keys, 20)):
            uploads += await _uploads(http, f"{run}-u{number}", number, size)
        return jobs, others, uploads


async def _one_key(http: httpx.AsyncClient, key: str, number: int, size: Size) -> tuple[list[str], int]:
    """All answers of one key posted at once, and how many were no 202."""
    body = {"input": text_for(LABELS[number % len(LABELS)], number)}
    posts = [http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key}) for _ in range(size.posts)]
    answers = await asyncio.gather(*posts)
    return [answer.text for answer in answers], sum(answer.status_code != 202 for answer in answers)


async def _other_body(http: httpx.AsyncClient, key: str) -> int:
    answer = await http.post("/v1/jobs", json={"input": "something else"}, headers={"Idempotency-Key": key})
    return answer.status_code


async def _uploads(http: httpx.AsyncClient, key: str, number: int, size: Size) -> Counter[int]:
    rows = "".join(f'{{"input": "row {number} {n}"}}\n' for n in range(200))
    posts = [
        http.post(f"/v1/datasets?name=same{number}", content=rows.encode(), headers={"Idempotency-Key": key})
        for _ in range(size.posts)
    ]
    return Counter([answer.status_code for answer in await asyncio.gather(*posts)])


def _told(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


PROMISE = Promise(8, "Same Idempotency-Key, one job", plan, prove)
