"""Rebases, in a browser: planned, begun, followed, cancelled."""

import json

import pytest

from shared.ledger import calls
from shared.registry.store import S3Store
from tests.support.browser import LOOKS


@pytest.fixture
def wider(console):
    """A base model that a trainer has and no worker serves; nobody takes its trainings."""
    supervisor = console.supervisor
    store = S3Store(supervisor.settings)
    known = {"id": "widerbase", "name": "models/wider", "shapes": {"model.layers.0.self_attn.q_proj": [64, 64]}}
    store.put("base/widerbase.json", json.dumps(known).encode())
    supervisor.ledger.do(calls.heartbeat("trainer-wider", ["train@widerbase"], [], {}, 600))
    yield "models/wider"
    store.delete("base/widerbase.json")


@pytest.fixture
def planned(visit, wider):
    """A visitor who looks at a plan in which every label keeps its base model."""

    def planned(**look):
        seen = visit(**look)
        page = seen.open("rebases")
        page.fill("main [name=base_model]", wider)
        page.select_option("main [name=missing]", "keep")
        page.click("main button:has-text('Plan it')")
        page.wait_for_selector("#plan table")
        return seen

    return planned


def test_one_is_planned_begun_and_cancelled(planned):
    page = planned().page
    assert "keeps its base model" in page.text_content("#plan")
    page.click("#plan button:has-text('Begin')")
    page.wait_for_selector("h1:has-text('Rebase')")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#standing button:has-text('Cancel')")
    page.wait_for_selector("#standing .state.cancelled")
    page.click("a:has-text('Rebases') >> nth=-1")
    page.wait_for_selector("main td .state.cancelled")


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_a_plan_can_be_read_by_everybody(planned, scheme, width):
    seen = planned(scheme=scheme, width=width)
    seen.picture(f"rebases-{scheme}-{width}")
    assert seen.serious() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
