"""Proposals on the console: read with their reasons, confirmed, dismissed; the policy; the audit log."""

import pytest

from services.api.proposals.derive import proposed
from shared.contracts.proposals import Act, NewTask, Wish
from shared.contracts.rows import Row
from shared.ledger import calls
from tests.support.console import as_part, words

MARKUP = "<b>cards</b>"


@pytest.fixture
def put(ledger, release):
    """Opens a proposal, as the controller does."""

    def put(wish, tenant="default"):
        made = proposed(None, wish, tenant, release.id)
        ledger.do(calls.write_proposal(made))
        return made

    return put


@pytest.fixture
def balance(put, registry):
    registry.datasets.add("default", "rows", [Row(input=f"x {n}", label="fin.sa") for n in range(9)])
    body = {"kind": "selector.balance", "labels": {"fin.sa": "rows"}}
    return put(Wish("balance", ("fin.sa",), (f"{MARKUP} changed.",), Act(trainings=(body,)), {"p": 0.001}))


async def test_without_any_the_page_says_how_to_get_some(operator, release):
    page = words(await operator.get("/console/proposals"))
    assert "Nothing is proposed" in page
    assert "signalbox traffic policy --on" in page


async def test_a_card_says_why_and_is_confirmed_once(operator, balance):
    answer = await operator.get("/console/proposals")
    assert "&lt;b&gt;cards&lt;/b&gt; changed." in answer.text
    assert MARKUP not in answer.text
    path = f"/console/proposals/{balance.id}/confirm"
    card = words(await as_part(operator).post(path))
    assert "training" in card
    again = await operator.post(path)
    assert again.status_code == 409
    assert "look at job job_" in words(again)
    assert "Numbers p 0.001" in words(await operator.get(f"/console/proposals/{balance.id}"))


async def test_one_is_dismissed_with_a_reason(operator, balance):
    card = words(await as_part(operator).post(f"/console/proposals/{balance.id}/dismiss", data={"reason": "a spike"}))
    assert "dismissed" in card
    page = words(await operator.get("/console/proposals"))
    assert "a spike" in page
    assert "Nothing is proposed" in page


async def test_a_new_labels_form_has_its_name(operator, put):
    task = NewTask(terms=("card",), least_rows=4, advised_rows=40)
    made = put(Wish("add", ("fin.cards",), ("Because.",), task=task, entries=("1-0",)))
    page = await operator.get("/console/proposals")
    assert 'value="fin.cards"' in page.text
    assert "at least 4, better 40" in words(page)
    wrong = await as_part(operator).post(f"/console/proposals/{made.id}/confirm", data={"label": "none.none"})
    assert wrong.status_code == 422


async def test_the_policy_is_set_by_administrators(operator, submitter, release):
    form = {"mode": "train", "rows": "200"}
    told = words(await as_part(operator).post("/console/proposals/policy", data=form))
    assert "Traffic may train, and stop at the candidate" in told
    assert "every 200 rows" in told
    for wrong in ({"mode": "never", "rows": "200"}, {"mode": "train", "rows": "many"}):
        assert (await operator.post("/console/proposals/policy", data=wrong)).status_code == 422
    assert (await operator.post("/console/proposals/policy", data=form | {"mode": "auto"})).status_code == 409
    assert (await submitter.post("/console/proposals/policy", data=form)).status_code == 403
    assert "train instead of propose" in words(await operator.get("/console/proposals"))


async def test_another_tenant_sees_none(stranger, submitter, balance):
    assert "Nothing is proposed" in words(await stranger.get("/console/proposals"))
    assert (await stranger.get(f"/console/proposals/{balance.id}")).status_code == 404
    assert (await submitter.get("/console/proposals")).status_code == 403
