"""`/v1/select`: awaited for a while, then left as a job."""

import asyncio

import pytest

from shared.contracts.jobs import JobState
from tests.support.api import code, make_release

SELECTED = {
    "label": "fin.sa",
    "probability": 0.9,
    "runners_up": [{"label": "fin.ha", "probability": 0.1}],
    "rejected": False,
}


async def take_next(broker, worker):
    """The selector's part: the next message of its queue, as a job under a lease."""
    import json

    _, message = await asyncio.to_thread(broker.brpop, "select", 20)
    return worker.take(json.loads(message)["headers"]["id"], "select")


async def test_the_answer_comes_with_the_request(api, release, broker, worker):
    asked = asyncio.create_task(api["submit"].post("/v1/select", json={"input": "profits rose", "wait_seconds": 30}))
    job = await take_next(broker, worker)
    worker.end(job, JobState.SUCCEEDED, selection=SELECTED)
    answer = await asked
    assert answer.status_code == 200
    body = answer.json()
    assert {name: body[name] for name in SELECTED} == SELECTED
    assert (body["id"], body["state"], body["release"]) == (job.id, "succeeded", release.id)


async def test_what_takes_longer_becomes_a_job_to_look_at(api, release):
    answer = await api["submit"].post("/v1/select", json={"input": "x", "wait_seconds": 0})
    assert answer.status_code == 202
    view = (await api["submit"].get(answer.headers["location"])).json()
    assert (view["kind"], view["state"]) == ("select", "queued")


async def test_the_same_key_gets_the_selection_later(api, release, broker, worker):
    ask = {"json": {"input": "x", "wait_seconds": 0}, "headers": {"Idempotency-Key": "k"}}
    first = await api["submit"].post("/v1/select", **ask)
    worker.end(await take_next(broker, worker), JobState.SUCCEEDED, selection=SELECTED)
    again = await api["submit"].post("/v1/select", **ask)
    assert (again.status_code, again.json()["id"], again.json()["label"]) == (200, first.json()["id"], "fin.sa")


@pytest.mark.parametrize(("retryable", "status"), [(True, 503), (False, 409)])
async def test_a_selection_that_failed_says_why(api, release, broker, worker, retryable, status):
    asked = asyncio.create_task(api["submit"].post("/v1/select", json={"input": "x"}))
    job = await take_next(broker, worker)
    error = {"code": "selector_missing", "detail": "no selector here", "retryable": retryable}
    worker.end(job, JobState.FAILED, error=error)
    assert code(await asked, status) == "selector_missing"


async def test_the_label_of_a_conversation_is_selected(api, release, broker, worker):
    messages = [{"role": "user", "content": "hello"}, {"role": "user", "content": "profits rose"}]
    asked = asyncio.create_task(api["submit"].post("/v1/select", json={"messages": messages, "wait_seconds": 30}))
    job = await take_next(broker, worker)
    assert job.body == {"messages": messages}
    worker.end(job, JobState.SUCCEEDED, selection=SELECTED, result=SELECTED)
    assert (await asked).json()["label"] == "fin.sa"
    view = (await api["submit"].get(f"/v1/jobs/{job.id}")).json()
    assert view["request"] == {"messages": messages}
    assert view["selection"] == view["result"]
    assert {name: view["result"][name] for name in SELECTED} == SELECTED


async def test_bad_input_is_refused(api, release):
    turn = {"role": "user", "content": "x"}
    for body in (
        {},
        {"input": ""},
        {"input": "x", "wait_seconds": 61},
        {"input": "x", "label": "fin.sa"},
        {"input": "x", "messages": [turn]},
        {"messages": [turn, {"role": "assistant", "content": "y"}]},
        {"messages": [turn], "params": {}},
    ):
        assert code(await api["submit"].post("/v1/select", json=body), 422) == "request_invalid"


async def test_a_release_without_a_selector_selects_nothing(api, registry, weights):
    plain = make_release(selector=False)
    registry.releases.add(plain)
    registry.releases.promote("default", plain.id, force=True)
    assert code(await api["submit"].post("/v1/select", json={"input": "x"}), 409) == "no_selector"
