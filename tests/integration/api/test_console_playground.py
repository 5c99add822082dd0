"""The console's playground."""

import asyncio
import json

import pytest

from shared.contracts.jobs import JobState
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.console import SELECTED, as_part, signed_in, words

ASK = {"role": "user", "turn": "profits <b>rose</b>", "model": "fin.sa", "do": "ask"}


@pytest.fixture
async def visitor(api, tokens):
    async with await signed_in(api["url"], tokens["submit"]) as client:
        yield as_part(client)


def newest(ledger, tenant="default"):
    return ledger.do(calls.list_jobs(tenant, include=("body",))).jobs


async def told(client, job_id, **headers):
    """The stream's events until the job has ended."""
    found, data = [], []
    async with client.stream("GET", f"/console/playground/jobs/{job_id}/stream", headers=headers) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                found.append([value, ""])
            elif name == "data":
                data.append(value)
            elif not line and found and data:
                found[-1][1], data = "\n".join(data), []
    return found


async def test_the_page_offers_what_may_be_named(visitor, release):
    page = await visitor.get("/console/playground")
    for name in ("auto", "base", "fin.sa", "fin.sa@1"):
        assert f'<option value="{name}">' in page.text


async def test_without_a_release_it_says_what_to_do_first(visitor):
    assert "There is no release yet" in words(await visitor.get("/console/playground"))


async def test_a_question_becomes_a_job_like_any_other(visitor, release, ledger):
    fields = {"instruction": "Be brief.", "max_new_tokens": "7", "temperature": "0.5", "seed": "3", "explain": "1"}
    answer = await visitor.post("/console/playground", data=ASK | fields)
    assert answer.status_code == 200, answer.text
    (job,) = newest(ledger)
    assert f"/console/playground/jobs/{job.id}/stream" in answer.text
    assert (job.label, job.body["explain"]) == ("fin.sa", True)
    params = {name: job.body["params"][name] for name in ("max_new_tokens", "temperature", "seed")}
    assert params == {"max_new_tokens": 7, "temperature": 0.5, "seed": 3}
    assert [(turn["role"], turn["content"]) for turn in job.body["messages"]] == [
        ("system", "Be brief."),
        ("user", "profits <b>rose</b>"),
    ]


async def test_the_answer_streams_as_text_and_a_restart_begins_it_anew(visitor, release, ledger, worker):
    await visitor.post("/console/playground", data=ASK)
    job_id = newest(ledger)[0].id
    following = asyncio.create_task(told(visitor, job_id))
    worker.lose(job_id, "generate.fin", 1)
    job = worker.take(job_id, "generate.fin")
    worker.tell(job, "token", text="wrong")
    worker.tell(job, "restart", **{"try": 2})
    worker.tell(job, "token", text=" <script>x</script>\nnext")
    result = {"choices": [{"text": "<script>x</script>\nnext"}]}
    worker.end(job, JobState.SUCCEEDED, result=result)
    events = await following
    names = [name for name, _ in events]
    begins = max(n for n, (name, text) in enumerate(events) if name == "answer" and "sse-swap" in text)
    assert names.index("text") < begins
    assert ["text", " &lt;script&gt;x&lt;/script&gt;&#10;next"] in events[begins:]
    last = next(text for name, text in reversed(events) if name == "answer")
    assert "&lt;script&gt;x&lt;/script&gt;" in last
    assert names[-1] == "end"
    assert not any("<script>" in text for _, text in events)


async def test_a_stream_goes_on_after_the_last_event_that_came(visitor, release, ledger, worker):
    await visitor.post("/console/playground", data=ASK)
    job_id = newest(ledger)[0].id
    worker.run(job_id, "generate.fin")
    events = ledger.redis.xrange(LedgerKey.EVENTS.of(job_id))
    after = next(event_id for event_id, event in events if event["type"] == "token")
    again = await told(visitor, job_id, **{"Last-Event-ID": after})
    assert "text" not in [name for name, _ in again]
    assert again[-1][0] == "end"
    whole = await told(visitor, job_id, **{"Last-Event-ID": events[-1][0]})
    assert [name for name, _ in whole] == ["state", "decision", "answer", "end"]


async def test_the_decision_shows_probabilities_threshold_and_rows_as_text(visitor, release, ledger, worker):
    await visitor.post("/console/playground", data=ASK | {"model": "auto", "explain": "1"})
    job_id = newest(ledger)[0].id
    job = worker.take(job_id, "select")
    ledger.do(calls.route(job, queue="generate.fin", label="fin.sa", selection=SELECTED))
    worker.run(job_id, "generate.fin")
    decision = next(text for name, text in reversed(await told(visitor, job_id)) if name == "decision")
    for said in ("the light selector alone", "0.900", "no label fits", "0.500", "profits &lt;i&gt;fell&lt;/i&gt;"):
        assert said in decision
    assert 'class="threshold"' in decision


async def test_a_comparison_is_of_base_chosen_and_runner_up(visitor, release, ledger, broker, worker):
    asked = {**ASK, "model": "auto", "do": "compare", "explain": "1"}
    comparing = asyncio.create_task(visitor.post("/console/playground", data=asked))
    _, message = await asyncio.to_thread(broker.brpop, "select", 20)
    selection = worker.take(json.loads(message)["headers"]["id"], "select")
    assert selection.body["explain"] is True
    worker.end(selection, JobState.SUCCEEDED, selection=SELECTED)
    page = await comparing
    assert page.status_code == 200, page.text
    said = words(page)
    assert [name in said for name in ("Base model: base", "Chosen: fin.sa", "Runner-up: fin.ha")] == [True] * 3
    assert sorted(job.label for job in newest(ledger) if job.kind == "generate") == ["", "fin.ha", "fin.sa"]


async def test_who_compares_a_version_gets_another_label_beside_it(visitor, release, ledger, broker, worker):
    comparing = asyncio.create_task(
        visitor.post("/console/playground", data={**ASK, "model": "fin.sa@1", "do": "compare"})
    )
    _, message = await asyncio.to_thread(broker.brpop, "select", 20)
    worker.end(worker.take(json.loads(message)["headers"]["id"], "select"), JobState.SUCCEEDED, selection=SELECTED)
    said = words(await comparing)
    assert "Chosen: fin.sa@1" in said
    assert "Runner-up: fin.ha" in said


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"turn": " "}, 422, "messages"),
        ({"max_new_tokens": "many"}, 422, "max_new_tokens"),
        ({"model": "<b>law</b>"}, 404, "&lt;b&gt;law&lt;/b&gt;"),
        ({"role": "assistant"}, 422, "messages"),
    ],
)
async def test_what_is_wrong_is_said_as_a_notice(visitor, release, fields, status, says):
    answer = await visitor.post("/console/playground", data=ASK | fields)
    assert answer.status_code == status
    assert says in answer.text
    assert "<html" not in answer.text


async def test_rights_are_those_of_the_key(api, tokens, release, ledger):
    submits = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))[1]
    async with await signed_in(api["url"], submits) as client:
        assert "scope <code>read</code>" in (await client.get("/console/playground")).text
        assert (await client.post("/console/playground", data=ASK | {"explain": "1"})).status_code == 200
        (job,) = newest(ledger)
        assert "explain" not in job.body
    async with await signed_in(api["url"], tokens["review"]) as client:
        refused = await client.get("/console/playground")
        assert (refused.status_code, "&#39;submit&#39;" in refused.text) == (403, True)
    async with await signed_in(api["url"], tokens["other"]) as client:
        assert (await client.get(f"/console/playground/jobs/{job.id}/stream")).status_code == 404


async def test_another_sites_form_asks_nothing(visitor, release, ledger):
    for headers in ({"X-CSRF-Token": "x"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await visitor.post("/console/playground", data=ASK, headers=headers)
        assert (answer.status_code, "form_foreign" in answer.text) == (403, True)
    assert newest(ledger) == []
