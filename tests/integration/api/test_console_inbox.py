"""The inbox: what waits for a reviewer, labels that are kept at once, versions and trainings by a click."""

from contextlib import aclosing

import pytest

from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.api import client_of
from tests.support.console import as_part, signed_in, words
from tests.support.judged import answered

PATH = "/console/inbox"
HTML = "<script>alert('x')</script>"


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


@pytest.fixture
async def reviewer(api, tokens):
    async with aclosing(await signed_in(api["url"], tokens["submit"])) as client:
        yield as_part(client)


@pytest.fixture
def job(api, worker, ledger):
    async def make(text, **more):
        return await answered(api["submit"], worker, ledger, text, **more)

    return make


async def shown(client, **query):
    """The jobs on the page, in its order."""
    answer = await client.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    return [part.partition('"')[0] for part in answer.text.split('id="card-')[1:]]


async def judged(client, job_id, **form):
    answer = await client.post(f"{PATH}/{job_id}", data=form)
    assert answer.status_code == 200, answer.text
    return answer


async def test_an_empty_inbox_says_what_to_do_first(reviewer):
    assert "Nothing of this kind waits for you" in words(await reviewer.get(PATH))
    assert "Nobody has said a label" in words(await reviewer.get(f"{PATH}/said"))


async def test_each_kind_holds_its_jobs_and_none_that_was_judged(reviewer, api, job):
    sure, unsure = await job("a", probability=0.95), await job("b", probability=0.41)
    least, rejected = await job("c", probability=0.12), await job("d", label=None, probability=0.2)
    between, both = await job("e", probability=0.55, ambiguous=True), await job("f", probability=0.92, by="both")
    await api["submit"].post("/v1/jobs", json={"input": "waits"})
    assert await shown(reviewer) == [least, rejected, unsure, between]
    assert await shown(reviewer, why="rejected") == [rejected]
    assert await shown(reviewer, why="disputed") == [both, between]
    assert await shown(reviewer, why="down") == []
    await judged(reviewer, least, label="fin.ha")
    await judged(reviewer, rejected, label="none.none")
    assert await shown(reviewer) == [unsure, between]
    assert await shown(reviewer, why="rejected") == []
    assert sure not in await shown(reviewer, why="disputed")


async def test_thumbs_down_wait_until_a_reviewer_judges(reviewer, api, job, ledger, worker):
    _, token = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))
    async with client_of(api["url"], token) as theirs:
        job_id = (await theirs.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
        worker.run(job_id, "generate.fin")
        await theirs.post(f"/v1/jobs/{job_id}/feedback", json={"rating": -1})
    await job("liked")
    assert await shown(reviewer, why="down") == [job_id]
    card = words(await judged(reviewer, job_id, label="fin.ha"))
    assert "fin.ha" in card
    assert "Thumbs down" in card
    assert await shown(reviewer, why="down") == []


async def test_labels_of_two_reviewers_wait_with_both_until_one_more_settles_it(reviewer, api, job):
    job_id = await job("what is it")
    await api["review"].post(f"/v1/jobs/{job_id}/feedback", json={"label": "fin.sa"})
    card = words(await judged(reviewer, job_id, label="fin.ha"))
    assert "People are at odds: fin.sa by" in card
    assert await shown(reviewer, why="conflict") == [job_id]
    assert "1 job on which people are at odds trains nothing" in words(await reviewer.get(f"{PATH}/said"))
    card = words(await judged(reviewer, job_id, label="fin.ha"))
    assert "at odds" not in card
    assert await shown(reviewer, why="conflict") == []
    assert "1 row, said by 1 key" in words(await reviewer.get(f"{PATH}/said"))


async def test_many_jobs_come_page_by_page_and_none_twice(reviewer, job, monkeypatch):
    monkeypatch.setattr("services.api.console.inbox_queue.SHOWN", 3)
    made = [await job(str(number), probability=number / 10) for number in (1, 1, 1, 1, 3, 5, 5)]
    seen, after = [], ""
    while True:
        text = (await reviewer.get(PATH, params={"after": after})).text
        seen += [part.partition('"')[0] for part in text.split('id="card-')[1:]]
        if "Next ones" not in text:
            break
        after = text.partition("after=")[2].partition('"')[0]
    assert sorted(seen) == sorted(made)


async def test_a_label_is_a_row_at_once_and_undo_takes_it_back(reviewer, api, job, registry):
    job_id = await job("what is it")
    assert "Undo" in words(await judged(reviewer, job_id, label="fin.ha"))
    [(source, row)] = registry.datasets.feedback_rows("default")
    assert (source.job, row.input, row.label) == (job_id, "what is it", "fin.ha")
    assert "1 row, said by 1 key" in words(await reviewer.get(f"{PATH}/said"))
    card = await reviewer.post(f"{PATH}/{job_id}/undo")
    assert 'data-key="1"' in card.text
    assert registry.datasets.feedback_rows("default") == []
    assert (await api["submit"].get(f"/v1/jobs/{job_id}")).json()["feedback"] is None


async def test_labels_are_found_by_a_part_and_new_ones_are_offered(reviewer, job, registry):
    job_id = await job("a")
    found = await reviewer.get(f"{PATH}/labels", params={"job": job_id, "wanted": "ha"})
    assert words(found) == "fin.ha New label: ha"
    unknown = await reviewer.get(f"{PATH}/labels", params={"job": job_id, "wanted": "<b>"})
    assert "No label has this in its name" in words(unknown)
    refused = await reviewer.post(f"{PATH}/{job_id}", data={"label": "law.ie"})
    assert (refused.status_code, "law.ie" in refused.text) == (422, True)
    await judged(reviewer, job_id, label="law.ie", new="true")
    assert registry.datasets.feedback_rows("default")[0][1].label == "law.ie"


@pytest.mark.parametrize("label", ["a b", "<img src=x>", "x" * 100])
async def test_a_malformed_label_is_refused_and_shown_as_text(reviewer, job, label):
    refused = await reviewer.post(f"{PATH}/{await job('a')}", data={"label": label, "new": "true"})
    assert refused.status_code == 422
    assert "<img" not in refused.text


async def test_a_version_is_made_by_a_click_and_a_training_of_it_by_another(api, tokens, job, ledger):
    await api["train"].post("/v1/datasets?name=demo", content=b'{"input": "a"}\n')
    async with aclosing(await signed_in(api["url"], tokens["admin"])) as admin:
        as_part(admin)
        for number in range(4):
            await judged(admin, await job(f"text {number}"), label="fin.ha")
            await admin.post(f"{PATH}/{await job(f'other {number}')}", data={"label": "law.ie", "new": "true"})
        made = await admin.post(f"{PATH}/dataset")
        version = next(one for one in (await api["admin"].get("/v1/datasets")).json()["items"] if one["sources"])
        assert version["id"] in made.text
        assert "signalbox train selector --balance --label" in words(made)
        assert "signalbox train selector --add" in words(made)
        told = words(await admin.get(f"{PATH}/sources/{version['id']}"))
        assert told.count("key_") == 8
        form = {"dataset": version["id"], "kind": "selector.balance"}
        queued = await admin.post(f"{PATH}/train", data=form)
        assert queued.status_code == 200, queued.text
        [training] = (await api["admin"].get("/v1/training/jobs?include=request")).json()["items"]
        assert training["id"] in queued.text
        assert training["request"]["labels"] == {"fin.ha": version["id"]}
        assert (await admin.post(f"{PATH}/train", data=form | {"kind": "selector.delete"})).status_code == 404


async def test_texts_and_answers_are_shown_as_text_and_cut(reviewer, job):
    await job(HTML, probability=0.1, answer=HTML)
    await job("x" * 30_000, probability=0.2)
    text = (await reviewer.get(PATH)).text
    assert HTML not in text
    assert "&lt;script&gt;" in text
    assert "characters more" in text
    assert len(text) < 25_000


@pytest.mark.parametrize(("scopes", "missing"), [({Scope.SUBMIT}, "review"), ({Scope.REVIEW}, "read")])
async def test_a_key_without_the_scopes_is_told_which(api, ledger, scopes, missing):
    _, token = api_keys.create(ledger.redis, frozenset(scopes))
    async with aclosing(await signed_in(api["url"], token)) as client:
        answer = await client.get(PATH)
        assert (answer.status_code, repr(missing) in words(answer)) == (403, True)


async def test_a_reviewer_who_may_not_train_sees_why_the_button_is_off(reviewer, job):
    for number in range(2):
        await judged(reviewer, await job(str(number)), label="fin.ha")
    made = await reviewer.post(f"{PATH}/dataset")
    assert "disabled" in made.text
    assert "needs the scope train" in words(made)
    refused = await reviewer.post(f"{PATH}/train", data={"dataset": "x", "kind": "selector.balance"})
    assert (refused.status_code, "'train'" in words(refused)) == (403, True)


async def test_another_tenant_sees_and_judges_nothing(api, tokens, job):
    job_id = await job("secret", probability=0.1)
    async with aclosing(await signed_in(api["url"], tokens["other"])) as other:
        assert "secret" not in (await other.get(PATH)).text
        assert (await other.post(f"{PATH}/{job_id}", data={"label": "none.none"})).status_code == 404
        assert (await other.post(f"{PATH}/{job_id}/undo")).status_code == 404


@pytest.mark.parametrize("headers", [{"X-CSRF-Token": "x"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_a_foreign_form_judges_nothing(reviewer, job, registry, headers):
    job_id = await job("a")
    answer = await reviewer.post(f"{PATH}/{job_id}", data={"label": "fin.ha"}, headers=headers)
    assert answer.status_code == 403
    assert registry.datasets.feedback_rows("default") == []
