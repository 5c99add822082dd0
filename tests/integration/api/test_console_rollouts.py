"""Rollouts on the console: begun from a release's page, followed, paused, taken back."""

import pytest

from shared.ledger import calls
from tests.support.api import make_release
from tests.support.console import words


@pytest.fixture
def candidate(registry, ledger, release):
    for queue in release.queues:
        ledger.do(calls.heartbeat(f"worker-{queue}", [queue, f"{queue}@tiny"], [], {}, 600))
    made = make_release(parent=release.id, made_by="another")
    registry.releases.add(made)
    return made


async def begun(operator, candidate, **more):
    form = {"release": candidate.id, "steps": "5, 100", "minutes": "1", "requests": "20"} | more
    answer = await operator.post("/console/rollouts", data=form)
    assert answer.status_code == 204, answer.text
    return answer.headers["HX-Redirect"]


async def test_without_any_the_page_says_how_to_begin_one(operator, release):
    assert "There was no rollout yet" in words(await operator.get("/console/rollouts"))


async def test_one_is_begun_from_its_releases_page_followed_and_paused(operator, candidate):
    assert "Roll out…" in words(await operator.get(f"/console/releases/{candidate.id}"))
    address = await begun(operator, candidate)
    page = words(await operator.get(address))
    assert "checking" in page
    assert "5 % for 60.0 s and 20 requests, then 100 %" in page
    asked = await operator.post(f"{address}/pause")
    assert "Asked to pause" in words(asked)
    assert candidate.id in words(await operator.get("/console/rollouts"))


async def test_what_is_wrong_with_the_form_is_said(operator, candidate):
    for more, told in (({"steps": "50,5"}, "put them in order"), ({"steps": "many"}, "steps"), ({"release": "x"}, "x")):
        form = {"release": candidate.id, "steps": "5,100"} | more
        answer = await operator.post("/console/rollouts", data=form, headers={"HX-Request": "true"})
        assert answer.status_code in (404, 422), more
        assert told in words(answer)


async def test_another_tenant_sees_none(operator, stranger, submitter, candidate):
    address = await begun(operator, candidate)
    assert (await stranger.get(address)).status_code == 404
    assert "There was no rollout yet" in words(await stranger.get("/console/rollouts"))
    assert (await submitter.post(f"{address}/abort")).status_code == 403


async def test_reasons_are_text(operator, ledger, candidate):
    await begun(operator, candidate)
    taken = ledger.do(calls.take_rollout(60))
    ledger.do(calls.write_rollout(taken.rollout.told(1.0, "waiting", "<b>x</b>", why="<b>x</b>"), taken.fence, 60))
    page = (await operator.get("/console/rollouts")).text
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page
