"""Rollouts: a candidate gets a growing share of the requests, and is promoted or taken back by what they show."""

import asyncio
import contextlib
from uuid import uuid4

import pytest

from services.api.rollouts.loop import run_rollouts
from shared.contracts.jobs import JobState
from shared.contracts.rollouts import RolloutState
from shared.contracts.rows import Row
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from tests.support.api import Worker, code, make_release
from tests.support.batches import answering
from tests.support.eventually import eventually_async

QUEUES = ("generate.fin", "generate.med", "generate.base")


@pytest.fixture
def served(ledger):
    """Live workers of every queue of the release, with its base model."""
    for queue in QUEUES:
        ledger.do(calls.heartbeat(f"worker-{queue}", [queue, f"{queue}@tiny"], [], {}, 600))


@pytest.fixture
def candidate(registry, release):
    """A candidate that differs in nothing that answers."""
    made = make_release(parent=release.id, made_by="another")
    registry.releases.add(made)
    return made


@pytest.fixture
async def controlled(api):
    """The controller, as the API's second process has it."""
    async with controller(api["app"].state.clients):
        yield


@contextlib.asynccontextmanager
async def controller(clients):
    stop = asyncio.Event()
    task = asyncio.create_task(run_rollouts(clients, stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def begin(admin, candidate, **body):
    plan = {"steps": [50, 100], "seconds": 0, "requests": 5} | body
    answer = await admin.post(f"/v1/releases/{candidate.id}/rollout", json=plan)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def shown(admin, rollout_id):
    return (await admin.get(f"/v1/rollouts/{rollout_id}")).json()


async def until(admin, rollout_id, *states):
    async def there():
        known = await shown(admin, rollout_id)
        return known if known["state"] in states else None

    return await eventually_async(there, f"{rollout_id} is {states}")


async def ask(api, **more):
    """Send a request that names its label; returns its job."""
    answer = await api["submit"].post("/v1/jobs", json={"input": f"did it rise? {uuid4()}", "label": "fin.sa", **more})
    assert answer.status_code == 202, answer.text
    return answer.json()


async def requests_until(api, rollout_id, *states):
    """Send requests until the rollout is in one of these states."""
    while True:
        await asyncio.gather(*(ask(api) for _ in range(10)))
        known = await shown(api["admin"], rollout_id)
        if known["state"] in states:
            return known


async def test_a_good_candidate_is_promoted_after_its_steps(
    api, admin, settings, served, release, candidate, controlled
):
    rollout = await begin(admin, candidate)
    with answering(settings):
        known = await requests_until(api, rollout, "completed", "failed")
    assert known["state"] == "completed", known["why"]
    assert (await admin.get("/v1/releases/current")).json()["id"] == candidate.id
    seen = known["counts"][0]
    assert seen["candidate"]["failed"][0] >= 5
    assert seen["candidate"]["failed"][1] == 0
    assert [event["what"] for event in known["events"]][-1] == "completed"
    assert (await admin.post("/v1/releases/rollback", json={})).json()["id"] == release.id  # one step


async def test_a_bad_candidate_is_taken_back_and_gets_no_more_requests(
    api, admin, settings, served, release, candidate, controlled
):
    def end(job):
        if job.release == candidate.id:
            return JobState.FAILED, {"error": {"code": "broken", "detail": "broken", "retryable": False}}
        return JobState.SUCCEEDED, {"result": {"text": "fine"}}

    rollout = await begin(admin, candidate, requests=1000)
    with answering(settings, answer=end):
        known = await requests_until(api, rollout, "failed")
        assert "failed: " in known["why"]
        jobs = [await ask(api) for _ in range(20)]
    assert {job["release"] for job in jobs} == {release.id}
    assert (await admin.get("/v1/releases/current")).json()["id"] == release.id


async def test_a_conversation_stays_under_one_release(api, admin, served, release, candidate, controlled):
    rollout = await begin(admin, candidate, requests=1000)
    await until(admin, rollout, "running")
    for talk in ("one", "two", "three", "four"):
        told = {job["release"] for job in [await ask(api, metadata={"conversation_id": talk}) for _ in range(5)]}
        assert len(told) == 1
    spread = {job["release"] for job in [await ask(api) for _ in range(40)]}
    assert spread == {release.id, candidate.id}


async def test_a_paused_rollout_sends_nothing_until_it_is_resumed(api, admin, served, release, candidate, controlled):
    rollout = await begin(admin, candidate, requests=1000)
    await until(admin, rollout, "running")
    assert code(await admin.post(f"/v1/rollouts/{rollout}/resume"), 409) == "rollout_not_paused"
    assert (await admin.post(f"/v1/rollouts/{rollout}/pause")).status_code == 202
    assert {job["release"] for job in [await ask(api) for _ in range(20)]} == {release.id}  # at once
    await until(admin, rollout, "paused")
    await admin.post(f"/v1/rollouts/{rollout}/resume")
    await until(admin, rollout, "running")
    assert {job["release"] for job in [await ask(api) for _ in range(40)]} == {release.id, candidate.id}
    await admin.post(f"/v1/rollouts/{rollout}/abort")
    known = await until(admin, rollout, "aborted")
    assert known["events"][-1]["by"]
    assert code(await admin.post(f"/v1/rollouts/{rollout}/abort"), 409) == "rollout_ended"


async def test_a_controller_that_ends_is_followed_by_another(api, admin, settings, served, release, candidate):
    clients = api["app"].state.clients
    rollout = await begin(admin, candidate, requests=30)
    with answering(settings):
        async with controller(clients):
            await until(admin, rollout, "running")
            await asyncio.gather(*(ask(api) for _ in range(20)))
        async with controller(clients):
            known = await requests_until(api, rollout, "completed")
    assert sum(step["candidate"]["failed"][0] for step in known["counts"]) >= 30


async def test_a_write_under_an_older_lease_is_refused(api, admin, ledger, served, candidate):
    await begin(admin, candidate)
    first = ledger.do(calls.take_rollout(0))
    second = ledger.do(calls.take_rollout(60))
    assert second.fence == first.fence + 1
    with pytest.raises(calls.StaleRollout):
        ledger.do(calls.write_rollout(first.rollout, first.fence, 60))
    assert ledger.do(calls.take_rollout(60)) is None  # it is held


async def test_a_job_placed_by_an_older_share_is_placed_anew(api, admin, ledger, served, release, candidate):
    """The ledger refuses it, however late this process learns of the share."""
    rollout = await begin(admin, candidate)
    taken = ledger.do(calls.take_rollout(60))
    running = taken.rollout.model_copy(update={"state": RolloutState.RUNNING})
    ledger.do(calls.write_rollout(running, taken.fence, 60))
    clients = api["app"].state.clients
    await clients.releases.refresh("default")
    ledger.redis.hset(LedgerKey.ROLLOUT.of("default"), "percent", 0)  # as an abort does, and no hint of it
    assert {job["release"] for job in [await ask(api) for _ in range(20)]} == {release.id}
    assert clients.rollouts.of("default", release.id).rollout.percent == 0
    assert rollout


async def test_golden_rows_are_answered_before_the_first_request(
    api, admin, settings, served, registry, release, weights, controlled
):
    """The candidate has another adapter for a label, which answers its validation rows badly."""
    key = registry.datasets.put_rows("default", [Row(input=f"row {n}", output="the right answer") for n in range(4)])
    entry = release.labels["fin.sa"].model_copy(update={"adapter": release.labels["med.qa"].adapter})
    swapped = release.model_copy(
        update={"parent": release.id, "labels": {**release.labels, "fin.sa": entry}, "validation": {"fin.sa": key}}
    )
    registry.releases.add(swapped)

    def end(job):
        text = "something else" if job.release == swapped.id else "the right answer"
        return JobState.SUCCEEDED, {"result": {"text": text}}

    with answering(settings, answer=end):
        rollout = await begin(admin, swapped)
        known = await until(admin, rollout, "failed", "running")
    assert known["state"] == "failed"
    assert "golden rows" in known["why"]
    assert known["counts"] == []


async def test_without_a_worker_it_waits_and_says_so(api, admin, ledger, release, candidate, controlled):
    ledger.do(calls.heartbeat("worker", ["generate.fin", "generate.fin@tiny"], [], {}, 600))
    rollout = await begin(admin, candidate)

    async def waits():
        return "no live worker serves generate.base" in (await shown(admin, rollout))["why"]

    await eventually_async(waits, "it says what it waits for")
    for queue in QUEUES:
        ledger.do(calls.heartbeat(f"worker-{queue}", [queue, f"{queue}@tiny"], [], {}, 600))
    await until(admin, rollout, "running")


async def test_a_pointer_that_moves_ends_it(api, admin, registry, served, release, candidate, controlled):
    rollout = await begin(admin, candidate, requests=1000)
    await until(admin, rollout, "running")
    other = make_release(parent=release.id, made_by="a third")
    registry.releases.add(other)
    registry.releases.promote("default", other.id)
    known = await until(admin, rollout, "failed")
    assert "build the candidate anew" in known["why"]


async def test_a_shadow_answers_nothing_and_notes_where_it_disagrees(
    api, admin, ledger, settings, served, release, candidate, controlled
):
    rollout = await begin(admin, candidate, strategy="shadow", steps=[100], requests=3)
    await until(admin, rollout, "running")
    jobs = [(await api["submit"].post("/v1/jobs", json={"input": f"x {n}"})).json()["id"] for n in range(4)]
    work = Worker(ledger)
    for number, job_id in enumerate(jobs):
        job = work.take(job_id, "select")
        assert (job.release, job.shadow, job.rollout) == (release.id, candidate.id, rollout)
        told = {"label": "fin.sa", "confidence": 0.9}
        ledger.do(calls.route(job, queue="generate.fin", label="fin.sa", selection=told))
        seen = {
            "job": job_id,
            "release": candidate.id,
            "shadow": "fin.ha" if number == 0 else "fin.sa",
            "label": "fin.sa",
        }
        ledger.do(calls.note_shadow("default", rollout, job_id, seen))
    known = await until(admin, rollout, "completed")
    assert known["counts"][0]["candidate"]["disagrees"] == [4, 1]
    assert (await admin.get("/v1/releases/current")).json()["id"] == release.id


async def test_feedback_on_its_jobs_counts(api, admin, settings, served, candidate, controlled):
    rollout = await begin(admin, candidate, steps=[50, 100], requests=1000)
    await until(admin, rollout, "running")
    with answering(settings):
        jobs = [job for job in [await ask(api) for _ in range(20)] if job["release"] == candidate.id]

        async def told(job):
            async def given():
                said = await api["submit"].post(f"/v1/jobs/{job['id']}/feedback", json={"rating": -1})
                return said.status_code == 200

            await eventually_async(given, "its job has ended")

        await asyncio.gather(*(told(job) for job in jobs))

        async def counted():
            steps = (await shown(admin, rollout))["counts"]
            return steps and steps[0]["candidate"].get("disliked") == [len(jobs), len(jobs)]

        await eventually_async(counted, "all of them count")


async def test_what_cannot_be_rolled_out_is_refused(api, admin, ledger, registry, served, release, candidate):
    async def refused(release_id, status, **body):
        return code(await admin.post(f"/v1/releases/{release_id}/rollout", json=body), status)

    assert await refused(release.id, 409) == "release_current"
    assert await refused("rel_none", 404) == "release_not_found"
    assert code(await api["other"].post(f"/v1/releases/{candidate.id}/rollout", json={}), 404) == "release_not_found"
    assert await refused(candidate.id, 422, steps=[5, 1]) == "request_invalid"
    assert await refused(candidate.id, 422, steps=[0, 5]) == "request_invalid"
    far = make_release(parent=release.id, base_model="elsewhere")
    stale = make_release(parent="rel_0", made_by="long ago")
    failed = make_release(parent=release.id, passed=False)
    for one in (far, stale, failed):
        registry.releases.add(one)
    assert await refused(far.id, 409) == "release_not_served"
    assert await refused(stale.id, 409) == "stale_parent"
    assert await refused(failed.id, 409) == "gate_failed"
    rollout = await begin(admin, candidate)
    again = make_release(parent=release.id, made_by="two")
    registry.releases.add(again)
    assert await refused(again.id, 409) == "rollout_open"
    assert [one["id"] for one in (await admin.get("/v1/rollouts")).json()["items"]] == [rollout]
    assert code(await admin.delete(f"/v1/releases/{candidate.id}"), 409) == "release_in_use"
    assert (await api["other"].get("/v1/rollouts")).json()["items"] == []
    assert code(await api["other"].post(f"/v1/rollouts/{rollout}/abort"), 404) == "rollout_not_found"
