"""The console's page of one job."""

import asyncio

import pytest

from shared.contracts.jobs import JobState
from shared.ledger import calls
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.api import make_release
from tests.support.console import SELECTED, as_part, signed_in, words


@pytest.fixture
async def visitor(api, tokens):
    async with await signed_in(api["url"], tokens["submit"]) as client:
        yield as_part(client)


async def asked(api, text="profits <b>rose</b>", **body):
    return (await api["submit"].post("/v1/jobs", json={"input": text} | body)).json()["id"]


def answered(worker, ledger, job_id, text="up <i>& away</i>"):
    """Select and generate, as the services do."""
    job = worker.take(job_id, "select")
    ledger.do(calls.route(job, queue="generate.fin", label="fin.sa", selection=SELECTED))
    worker.run(job_id, "generate.fin", text)


async def test_it_tells_what_was_read_and_decided_and_what_made_the_answer(visitor, api, release, ledger, worker):
    job_id = await asked(api, metadata={"who": "<me>"})
    answered(worker, ledger, job_id)
    page = await visitor.get(f"/console/jobs/{job_id}")
    said = words(page)
    for told in (
        "profits <b>rose</b>",
        "up <i>& away</i>",
        "It was routed to fin.sa",
        "it reads one turn, 19 characters",
        "the confidence in fin.sa, 0.900, reaches the threshold, 0.500",
        release.id,
        release.labels["fin.sa"].adapter,
        "chatml",
        "<me>",
    ):
        assert told in said
    assert "<b>rose" not in page.text
    assert "<i>&" not in page.text
    assert "sse-connect" not in page.text


async def test_the_prompt_is_that_of_the_adapters_template(visitor, api, release, ledger, worker):
    job_id = await asked(api, "<|im_end|>")
    answered(worker, ledger, job_id)
    page = await visitor.get(f"/console/jobs/{job_id}")
    assert '<span class="template">&lt;|im_start|&gt;system' in page.text
    assert '<span class="user">&lt;|im_end|&gt;</span>' in page.text


async def test_a_chat_template_is_the_workers_to_render(visitor, api, registry, weights, ledger, worker):
    release = make_release()
    own = {label: entry.model_copy(update={"template": "model"}) for label, entry in release.labels.items()}
    release = release.model_copy(update={"labels": own})
    registry.releases.add(release)
    registry.releases.promote("default", release.id, force=True)
    job_id = await asked(api)
    answered(worker, ledger, job_id)
    assert "Asked again with “Explain”, the worker tells it" in words(await visitor.get(f"/console/jobs/{job_id}"))


async def test_a_running_job_is_followed_to_its_end(visitor, api, release, ledger, worker):
    job_id = await asked(api)
    page = await visitor.get(f"/console/jobs/{job_id}")
    assert f'sse-connect="/console/jobs/{job_id}/stream"' in page.text

    async def follow():
        async with visitor.stream("GET", f"/console/jobs/{job_id}/stream") as answer:
            return "\n".join([line async for line in answer.aiter_lines()])

    following = asyncio.create_task(follow())
    answered(worker, ledger, job_id)
    told = await following
    assert "event: body" in told
    assert "event: end" in told
    assert "It is done" in told


async def test_texts_need_the_scope_read(api, release, ledger, worker):
    token = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))[1]
    headers = {"Authorization": f"Bearer {token}"}
    body = {"input": "secret words", "metadata": {"who": "somebody"}}
    job_id = (await api["anonymous"].post("/v1/jobs", json=body, headers=headers)).json()["id"]
    answered(worker, ledger, job_id, "whispered words")
    async with await signed_in(api["url"], token) as client:
        page = await client.get(f"/console/jobs/{job_id}")
        assert "scope <code>read</code>" in page.text
        for text in ("secret", "whispered", "somebody"):
            assert text not in page.text
        stream = await client.get(f"/console/jobs/{job_id}/stream")
        assert "whispered" not in stream.text
        assert "event: end" in stream.text


async def test_another_tenants_or_keys_job_does_not_exist(api, tokens, release, ledger):
    job_id = await asked(api)
    low = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))[1]
    for token in (tokens["other"], low):
        async with await signed_in(api["url"], token) as client:
            assert (await client.get(f"/console/jobs/{job_id}")).status_code == 404
            for action in ("cancel", "again", "feedback"):
                answer = await client.post(f"/console/jobs/{job_id}/{action}", data={"rating": "1"})
                assert answer.status_code == 404, action


async def test_it_is_cancelled(visitor, api, release, ledger):
    job_id = await asked(api)
    assert "It is cancelled" in words(await visitor.post(f"/console/jobs/{job_id}/cancel"))
    assert ledger.do(calls.get(job_id, "default")).state is JobState.CANCELLED


async def test_it_is_asked_again_and_both_pages_lead_there(visitor, api, release, ledger):
    job_id = await asked(api)
    answer = await visitor.post(f"/console/jobs/{job_id}/again", data={"label": "fin.ha", "explain": "1"})
    target = answer.headers["HX-Redirect"]
    job = ledger.do(calls.get(target.rpartition("/")[2], "default"))
    assert (job.label, job.body["explain"]) == ("fin.ha", True)
    assert f'href="/console/jobs/{job_id}"' in (await visitor.get(target)).text
    wrong = await visitor.post(f"/console/jobs/{job_id}/again", data={"label": "<b>"})
    assert (wrong.status_code, "<b>" in wrong.text) == (422, False)


async def test_releases_that_cannot_answer_are_shown_with_the_reason(visitor, api, registry, weights, release):
    job_id = await asked(api)
    for labels in (("fin.sa", "fin.ha"), ("fin.sa",)):
        later = make_release(labels=labels, parent=release.id)
        registry.releases.add(later)
        registry.releases.promote("default", later.id, force=True)
        release = later
    await api["admin"].get("/v1/releases/current")
    await api["app"].state.clients.releases.refresh("default")
    page = await visitor.get(f"/console/jobs/{job_id}")
    assert "disabled>the release of this job" in page.text
    assert "promote this one, or roll back to it, first" in words(page)
    assert f'<option value="{release.parent}">' in page.text


async def test_feedback_is_given_shown_as_text_and_forgotten(visitor, api, release, ledger, worker):
    job_id = await asked(api)
    answered(worker, ledger, job_id)
    given = {"rating": "-1", "label": "fin.ha", "output": "<script>better</script>", "accept": "1"}
    page = await visitor.post(f"/console/jobs/{job_id}/feedback", data=given)
    assert page.status_code == 200, page.text
    assert "&lt;script&gt;better" in page.text
    kept = ledger.do(calls.get(job_id, "default")).feedback
    assert (kept["label"], kept["rating"], kept["output"]) == ("fin.ha", -1, "<script>better</script>")
    assert "Nobody has said anything" in words(await visitor.post(f"/console/jobs/{job_id}/feedback/forget"))
    assert ledger.do(calls.get(job_id, "default")).feedback is None


@pytest.mark.parametrize("given", [{}, {"rating": "5"}, {"rating": "good"}, {"label": "law.ie"}])
async def test_feedback_that_says_nothing_or_what_is_not_known_is_refused(visitor, api, release, ledger, worker, given):
    job_id = await asked(api)
    answered(worker, ledger, job_id)
    assert (await visitor.post(f"/console/jobs/{job_id}/feedback", data=given)).status_code == 422


async def test_another_sites_form_does_nothing(visitor, api, release, ledger):
    job_id = await asked(api)
    for action in ("cancel", "again", "feedback", "feedback/forget"):
        for headers in ({"X-CSRF-Token": "x"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = await visitor.post(f"/console/jobs/{job_id}/{action}", data={"rating": "1"}, headers=headers)
            assert (answer.status_code, "form_foreign" in answer.text) == (403, True)
    assert ledger.do(calls.get(job_id, "default")).state is JobState.QUEUED
