"""The console's list of jobs."""

import pytest

from services.api.console.pages.jobs import SHOWN, Filters, command
from shared.contracts.jobs import JobState
from shared.ledger import calls
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.console import signed_in, words


@pytest.fixture
async def visitor(api, tokens):
    async with await signed_in(api["url"], tokens["submit"]) as client:
        yield client


async def asked(api, text="profits rose", key="submit", **body):
    return (await api[key].post("/v1/jobs", json={"input": text} | body)).json()["id"]


async def test_without_jobs_it_says_where_they_come_from(visitor, release):
    assert "No job has come yet" in words(await visitor.get("/console/jobs"))


async def test_a_text_is_text_and_is_cut(visitor, api, release):
    await asked(api, f"<script>alert(1)</script>{'long ' * 6_000}")
    page = await visitor.get("/console/jobs")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script>alert" not in page.text
    assert page.text.count("long") < 100


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"named", "rejected", "judged"}),
        ("state=routed&kind=&label=", {"named"}),
        ("label=fin.sa", {"named"}),
        ("rejected=true", {"rejected"}),
        ("min_probability=0.2&max_probability=0.4", {"rejected"}),
        ("feedback=true", {"judged"}),
        ("since=2026-01-31T08:00", {"named", "rejected", "judged"}),
        ("until=2020-01-31T08:00", set()),
        ("key=key_of_nobody", set()),
    ],
)
async def test_filters_are_those_of_the_api(visitor, api, release, ledger, worker, query, found):
    ids = {"named": await asked(api, label="fin.sa"), "rejected": await asked(api), "judged": await asked(api)}
    selection = {"label": None, "best_label": "fin.ha", "probability": 0.3, "rejected": True}
    worker.end(worker.take(ids["rejected"], "select"), JobState.REJECTED, selection=selection)
    worker.end(worker.take(ids["judged"], "select"), JobState.FAILED, error={"code": "x", "detail": "y"})
    await api["submit"].post(f"/v1/jobs/{ids['judged']}/feedback", json={"rating": -1})
    page = await visitor.get(f"/console/jobs?{query}")
    assert page.status_code == 200, page.text
    assert {name for name, job_id in ids.items() if f'href="/console/jobs/{job_id}"' in page.text} == found


async def test_older_jobs_are_on_the_next_page_and_filters_stay(visitor, api, release):
    ids = [await asked(api, label="fin.sa") for _ in range(SHOWN + 2)]
    first = await visitor.get("/console/jobs?label=fin.sa&state=")
    older = (
        first.text.partition("Newest")[0]
        .rpartition('href="/console/jobs?label=fin.sa&amp;before=')[2]
        .partition('"')[0]
    )
    second = await visitor.get(f"/console/jobs?label=fin.sa&before={older}")
    shown = [[job_id for job_id in ids if job_id in page.text] for page in (first, second)]
    assert (len(shown[0]), len(shown[1])) == (SHOWN, 2)
    assert sorted(shown[0] + shown[1]) == sorted(ids)


async def test_a_script_gets_the_list_alone_unless_the_browser_goes_back(visitor, release):
    headers = {"HX-Request": "true"}
    assert "<form" not in (await visitor.get("/console/jobs", headers=headers)).text
    headers["HX-History-Restore-Request"] = "true"
    assert "<form" in (await visitor.get("/console/jobs", headers=headers)).text


@pytest.mark.parametrize("query", ["min_probability=two", "state=lost", "before=x'", "since=yesterday"])
async def test_a_filter_that_means_nothing_is_said(visitor, release, query):
    answer = await visitor.get(f"/console/jobs?{query}")
    assert answer.status_code == 422
    assert query.partition("=")[0] in words(answer)


async def test_texts_need_read_and_another_keys_jobs_are_not_seen(api, release, ledger, tokens):
    mine, theirs = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))[1], await asked(api, "secret words")
    async with await signed_in(api["url"], mine) as client:
        page = await client.get("/console/jobs")
        assert theirs not in page.text
        assert "scope <code>read</code>" in page.text
        headers = {"Authorization": f"Bearer {mine}"}
        own = (await api["anonymous"].post("/v1/jobs", json={"input": "own words"}, headers=headers)).json()["id"]
        page = await client.get("/console/jobs")
        assert (own in page.text, "own words" in page.text) == (True, False)
    async with await signed_in(api["url"], tokens["other"]) as client:
        assert theirs not in (await client.get("/console/jobs")).text
    async with await signed_in(api["url"], tokens["train"]) as client:
        assert (await client.get("/console/jobs")).status_code == 403


def test_the_command_lists_the_same():
    filters = Filters(state="failed", rejected="true", feedback="false", min_probability="0.2", before="1")
    assert command(filters) == "signalbox jobs list --state failed --rejected --min-probability 0.2 --no-feedback"


async def test_a_training_leads_to_its_own_page(visitor, ledger, release):
    from shared.contracts.jobs import NewJob, Stage

    job = NewJob(
        id="job_t", tenant_id="default", kind="train", stage=Stage.TRAIN, queue="train",
        body={"kind": "adapter.train", "label": "fin.sa"},
    )  # fmt: skip
    ledger.do(calls.create(job, 60))
    assert 'href="/console/training/job_t"' in (await visitor.get("/console/jobs")).text
    assert (await visitor.get("/console/jobs/job_t")).headers["location"] == "/console/training/job_t"
