"""Dead letters on the console: why they are, running again, dropping."""

import pytest

from tests.support.console import words

FIN = "generate.fin"
FOREIGN = [{"X-CSRF-Token": "x"}, {"Sec-Fetch-Site": "cross-site"}]


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


async def a_dead_letter(client, worker, text="x"):
    job_id = (await client.post("/v1/jobs", json={"input": text, "label": "fin.sa", "user": "ann"})).json()["id"]
    worker.lose(job_id, FIN, times=3)
    return job_id


async def test_without_any_the_page_says_what_would_stand_there(operator):
    assert "There are no dead letters" in words(await operator.get("/console/dead"))


async def test_each_says_why_and_runs_again(operator, api, worker):
    first, second = await a_dead_letter(api["admin"], worker), await a_dead_letter(api["admin"], worker)
    page = words(await operator.get("/console/dead"))
    assert "attempts_exhausted" in page
    assert "3 lost leases in a row" in page
    left = words(await operator.post(f"/console/dead/{first}/replay"))
    assert f"{first} runs again" in left
    assert second in left
    assert (await api["admin"].get(f"/v1/jobs/{first}")).json()["state"] == "routed"


async def test_all_of_them_run_again_at_once(operator, api, worker):
    made = [await a_dead_letter(api["admin"], worker) for _ in range(3)]
    assert "3 dead letters run again" in words(await operator.post("/console/dead/replay"))
    states = [(await api["admin"].get(f"/v1/jobs/{job_id}")).json()["state"] for job_id in made]
    assert states == ["routed"] * 3
    assert (await api["admin"].post("/v1/jobs/dead/replay")).json() == {"replayed": 0}


async def test_a_dropped_one_is_no_dead_letter_any_more(operator, api, worker):
    job_id = await a_dead_letter(api["admin"], worker)
    assert "is dropped" in words(await operator.post(f"/console/dead/{job_id}/drop"))
    assert (await api["admin"].get("/v1/jobs/dead")).json()["items"] == []
    assert (await operator.post(f"/console/dead/{job_id}/drop")).status_code == 404


async def test_only_an_administrator_of_the_tenant_sees_them(submitter, stranger, api, worker):
    job_id = await a_dead_letter(api["admin"], worker)
    refused = await submitter.get("/console/dead")
    assert (refused.status_code, "'admin'" in words(refused)) == (403, True)
    assert job_id not in (await stranger.get("/console/dead")).text
    assert (await stranger.post(f"/console/dead/{job_id}/replay")).status_code == 404
    assert "0 dead letters" in words(await stranger.post("/console/dead/replay"))


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_foreign_form_replays_nothing(operator, api, worker, headers):
    await a_dead_letter(api["admin"], worker)
    assert (await operator.post("/console/dead/replay", headers=headers)).status_code == 403
    assert len((await api["admin"].get("/v1/jobs/dead")).json()["items"]) == 1
