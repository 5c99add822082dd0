"""Forgetting a person on the console: counted first, then done."""

import pytest

from shared.ledger.keys import LedgerKey
from tests.support.console import words

FIN = "generate.fin"
FOREIGN = [{"X-CSRF-Token": "x"}, {"Sec-Fetch-Site": "cross-site"}]


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


async def anns(client):
    """The id of a job of the user ann."""
    return (await client.post("/v1/jobs", json={"input": "x", "label": "fin.sa", "user": "ann"})).json()["id"]


async def test_it_is_counted_first_and_forgotten_when_one_is_sure(operator, api, worker, ledger):
    job_id = (await api["admin"].post("/v1/jobs", json={"input": "x", "label": "fin.sa", "user": "ann"})).json()["id"]
    worker.run(job_id, FIN)
    form = {"by": "user", "who": "ann"}
    counted = words(await operator.post("/console/forget/count", data=form))
    assert "Ended jobs, with texts, answers and events 1" in counted
    assert "signalbox jobs forget --user ann --dry-run" in counted
    assert ledger.redis.exists(LedgerKey.JOB.of(job_id))
    assert (await operator.post("/console/forget", data=form)).status_code == 422
    done = words(await operator.post("/console/forget", data=form | {"sure": "true"}))
    assert "1 things were forgotten" in done
    assert not ledger.redis.exists(LedgerKey.JOB.of(job_id))


async def test_nothing_kept_is_said(operator):
    page = words(await operator.post("/console/forget/count", data={"by": "conversation_id", "who": "<b>x</b>"}))
    assert "Nothing is kept under this name" in page
    assert "<b>x</b>" in page


@pytest.mark.parametrize("form", [{"by": "user_hash", "who": "ann"}, {"by": "name", "who": "x"}, {"by": "user"}])
async def test_a_wrong_form_is_refused(operator, form):
    assert (await operator.post("/console/forget/count", data=form)).status_code == 422


async def test_only_an_administrator_forgets_and_only_in_the_tenant(submitter, stranger, api, ledger):
    job_id = (await api["admin"].post("/v1/jobs", json={"input": "x", "label": "fin.sa", "user": "ann"})).json()["id"]
    form = {"by": "user", "who": "ann", "sure": "true"}
    refused = await submitter.post("/console/forget", data=form)
    assert (refused.status_code, "'admin'" in words(refused)) == (403, True)
    await stranger.post("/console/forget", data=form)
    assert ledger.redis.exists(LedgerKey.JOB.of(job_id))


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_foreign_form_forgets_nothing(operator, api, ledger, headers):
    job_id = (await api["admin"].post("/v1/jobs", json={"input": "x", "label": "fin.sa", "user": "ann"})).json()["id"]
    form = {"by": "user", "who": "ann", "sure": "true"}
    assert (await operator.post("/console/forget", data=form, headers=headers)).status_code == 403
    assert ledger.redis.exists(LedgerKey.JOB.of(job_id))
