"""Asking again what a job asked: a new job, under another label or release, or explained."""

import asyncio

import pytest

from services.api.jobs.again import MADE_FROM
from shared.contracts.jobs import NewJob, Stage, new_job_id
from shared.errors import Conflict, NotFound
from shared.ledger import calls
from tests.support.api import code, make_release


@pytest.fixture
def both(registry, weights, ledger):
    """The current release and the one before it, whose base model a worker serves."""
    before = make_release(labels=("fin.sa", "fin.ha"))
    current = make_release(parent=before.id)
    for release in (before, current):
        registry.releases.add(release)
        registry.releases.promote("default", release.id, force=True)
    ledger.do(calls.heartbeat("worker", ["generate.fin", "generate.fin@tiny"], [], {}, 60))
    return before, current


async def asked(api, **body):
    return (await api["submit"].post("/v1/jobs", json={"input": "profits rose"} | body)).json()["id"]


async def again(api, job_id, **wish):
    return await api["submit"].post(f"/v1/jobs/{job_id}/again", json=wish)


def body_of(ledger, answer):
    assert answer.status_code == 202, answer.text
    return ledger.do(calls.get(answer.json()["id"], "default"))


async def test_a_new_job_asks_the_same_and_names_the_one_it_was_made_from(api, release, ledger):
    metadata = {"who": "me", "conversation_id": "c"}
    first = await asked(api, metadata=metadata, params={"seed": 7}, user="somebody", priority="batch")
    job = body_of(ledger, await again(api, first))
    before = ledger.do(calls.get(first, "default")).body
    assert job.id != first
    assert (job.body["params"], job.body["input"]) == (before["params"], before["input"])
    assert job.body["user"] == before["user"]
    assert job.body["metadata"] == {"who": "me", MADE_FROM: first}
    assert job.body["priority"] == "interactive"


@pytest.mark.parametrize(
    ("named", "wish", "label", "queue"),
    [
        ({}, {"label": "fin.ha"}, "fin.ha", "generate.fin"),
        ({"label": "fin.sa"}, {}, "fin.sa", "generate.fin"),
        ({"label": "fin.sa"}, {"label": "auto"}, "", "select"),
        ({"adapter": "fin.sa@1"}, {"label": "base"}, "", "generate.base"),
    ],
)
async def test_under_another_label(api, release, ledger, named, wish, label, queue):
    job = body_of(ledger, await again(api, await asked(api, **named), **wish))
    assert (job.label, job.queue) == (label, queue)


async def test_under_the_release_before(api, both, ledger):
    before, current = both
    first = await asked(api, label="fin.sa")
    job = body_of(ledger, await again(api, first, release=before.id))
    assert (job.release, job.label) == (before.id, "fin.sa")
    assert body_of(ledger, await again(api, first, release=current.id)).release == current.id
    view = (await api["submit"].get(f"/v1/jobs/{job.id}")).json()
    assert (view["release"], view["request"]["release"]) == (before.id, before.id)


async def test_a_label_that_the_release_before_lacks_is_refused(api, both):
    before, _ = both
    answer = await api["submit"].post("/v1/jobs", json={"input": "x", "label": "med.qa", "release": before.id})
    assert code(answer, 422) == "label_unknown"


async def test_other_releases_are_refused_and_it_says_why(api, both, registry):
    candidate = make_release(labels=("fin.sa",), parent=both[1].id)
    registry.releases.add(candidate)
    answer = await again(api, await asked(api), release=candidate.id)
    assert code(answer, 409) == "release_not_served"
    assert both[0].id in answer.json()["detail"]
    assert code(await again(api, await asked(api), release="rel_nowhere"), 404) == "release_not_found"


async def test_a_release_whose_base_model_nobody_serves_is_refused(api, registry, weights):
    before = make_release(base_model="another")
    current = make_release(parent=before.id)
    for release in (before, current):
        registry.releases.add(release)
        registry.releases.promote("default", release.id, force=True)
    assert code(await again(api, await asked(api), release=before.id), 409) == "release_not_served"


def test_the_ledger_takes_no_job_under_a_release_that_is_gone_or_whose_successor_is_not_current(both, ledger, registry):
    before, current = both

    def create(**fields):
        job = NewJob(
            id=new_job_id("default"), tenant_id="default", kind="generate", stage=Stage.SELECT, queue="select",
            body={"input": "x"}, **fields,
        )  # fmt: skip
        ledger.do(calls.create(job, 60))

    create(release=before.id, current_release=current.id)
    with pytest.raises(Conflict, match="changed"):
        create(release=before.id, current_release=before.id)
    registry.releases.remove(before)
    with pytest.raises(NotFound):
        create(release=before.id, current_release=current.id)


async def test_only_jobs_with_an_answer_can_be_asked_again(api, release):
    selection = (await api["submit"].post("/v1/select", json={"input": "x", "wait_seconds": 0})).json()["id"]
    assert code(await again(api, selection), 422) == "again_unsupported"


async def test_another_tenants_job_does_not_exist(api, release):
    job_id = await asked(api)
    assert code(await api["other"].post(f"/v1/jobs/{job_id}/again", json={}), 404) == "job_not_found"


async def test_the_same_key_makes_one_job(api, release):
    first = await asked(api)
    keyed = {"json": {}, "headers": {"Idempotency-Key": "k"}}
    made = [await api["submit"].post(f"/v1/jobs/{first}/again", **keyed) for _ in range(2)]
    assert len({answer.json()["id"] for answer in made}) == 1
    assert made[1].headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/select"])
async def test_explanations_show_training_rows_and_need_the_scope_read(api, release, ledger, path):
    from shared.security import api_keys
    from tests.support.api import client_of

    scopes = frozenset({api_keys.Scope.SUBMIT})
    async with client_of(api["url"], api_keys.create(ledger.redis, scopes)[1]) as submits:
        more = {"wait_seconds": 0} if path == "/v1/select" else {}
        answer = await submits.post(path, json={"input": "x", "explain": True, **more})
        assert code(answer, 403) == "scope_missing"
        assert (await submits.post(path, json={"input": "x", **more})).status_code == 202
    answer = await api["submit"].post(path, json={"input": "x", "explain": True, **more})
    assert answer.status_code == 202
    assert (await asyncio.to_thread(ledger.do, calls.get(answer.json()["id"], "default"))).body["explain"] is True
