"""A key and a tenant take their share of waiting jobs and of event streams; what is left is for others."""

import asyncio
import contextlib

import pytest

from shared.contracts.jobs import JobState
from shared.ledger import calls
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.api import Worker, client_of, code, make_release, serving
from tests.support.eventually import eventually

JOB = {"input": "x", "label": "fin.sa"}


@pytest.fixture
async def crowd(settings, registry, release, ledger):
    """Two keys of one tenant and one of another, where 8 may wait or read: 4 of a tenant, 2 of a key."""
    registry.releases.promote("other", registry.releases.add(make_release(tenant_id="other")), force=True)
    narrow = settings.model_copy(update={"max_waiting_jobs": 8, "max_event_readers": 8})
    async with serving(narrow) as (app, url), contextlib.AsyncExitStack() as stack:

        async def client(tenant):
            _, token = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}), tenant_id=tenant)
            return await stack.enter_async_context(client_of(url, token))

        yield app, await client("default"), await client("default"), await client("other")


async def posts(client, count):
    """Statuses of so many jobs."""
    return [(await client.post("/v1/jobs", json=JOB)).status_code for _ in range(count)]


async def test_waiting_jobs_of_one_key_or_tenant_leave_room_for_others(crowd, ledger):
    _, greedy, second, other = crowd
    assert await posts(greedy, 3) == [202, 202, 429]
    refused = await greedy.post("/v1/jobs", json=JOB)
    assert code(refused, 429) == "too_many_waiting"
    assert "of this API key" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
    assert await posts(second, 3) == [202, 202, 429]
    assert await posts(other, 2) == [202, 202]
    worker = Worker(ledger)
    worker.end(ledger.do(calls.acquire_next("generate.fin", "worker", 60)), JobState.SUCCEEDED)
    assert sorted(await posts(greedy, 1) + await posts(second, 1) + await posts(other, 1)) == [202, 429, 429]


async def test_streams_of_one_key_or_tenant_leave_places_for_others(crowd):
    app, greedy, second, other = crowd
    async with contextlib.AsyncExitStack() as open_streams:

        async def listen(client, job_id):
            answer = await open_streams.enter_async_context(client.stream("GET", f"/v1/jobs/{job_id}/events"))
            return answer.status_code

        jobs = [(await client.post("/v1/jobs", json=JOB)).json()["id"] for client in (greedy, second, other)]
        assert [await listen(greedy, jobs[0]) for _ in range(3)] == [200, 200, 429]
        assert [await listen(second, jobs[1]) for _ in range(3)] == [200, 200, 429]
        refused = await greedy.get(f"/v1/jobs/{jobs[0]}/events")
        assert code(refused, 429) == "too_many_event_readers"
        assert [await listen(other, jobs[2]) for _ in range(2)] == [200, 200]
        # A selection is awaited without a place.
        answer = await greedy.post("/v1/select", json={"input": "x", "wait_seconds": 0.1})
        assert answer.status_code == 202
    feed = app.state.clients.feed
    await asyncio.to_thread(eventually, lambda: not feed.reader_count, "the server has noticed that they went")
    async with greedy.stream("GET", f"/v1/jobs/{jobs[0]}/events") as answer:
        assert answer.status_code == 200
