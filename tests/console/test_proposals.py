"""Proposals, in a browser: read as cards, confirmed with another name, dismissed with a reason."""

import time

import pytest

from shared.contracts.proposals import Act, AuditEntry, Cost, NewTask, Proposal, proposal_id
from shared.contracts.reviews import NearestLabel
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.names import DEFAULT_TENANT
from tests.support.browser import LOOKS

WHY = (
    "412 rejected or unsure requests, 388 texts, share insurance, claim, policy, damage, car.",
    "A subsample finds 91% of them again.",
    "The nearest labels are bank.accounts (0.41), travel.trips (0.33).",
)


@pytest.fixture
def proposals(console):
    """A new label and a threshold, both open."""
    ledger = console.supervisor.ledger
    release = ledger.redis.get(LedgerKey.RELEASE.of(DEFAULT_TENANT))

    def put(kind, labels, **fields):
        made = Proposal(
            id=proposal_id(DEFAULT_TENANT, release, kind, [*labels, str(time.time())]),
            tenant_id=DEFAULT_TENANT,
            release=release,
            kind=kind,
            labels=labels,
            created_at=time.time(),
            **fields,
        ).told(time.time(), "opened", "controller")
        noted = AuditEntry(at=time.time(), by="controller", what="opened", proposal=made.id, detail=f"{kind}: {WHY[0]}")
        ledger.do(calls.write_proposal(made, [noted]))
        return made

    task = NewTask(
        terms=("insurance", "claim"),
        nearest=(NearestLabel(label="bank.accounts", similarity=0.41),),
        least_rows=4,
        advised_rows=40,
    )
    act = Act(edit={"start_from": release, "threshold": 0.31})
    made = (
        put("add", ("bank.insurance",), why=WHY, task=task, entries=("1-0", "2-0"), numbers={"requests": 412}),
        put("lower_threshold", (), why=WHY[:1], act=act, cost=Cost(says="Nothing is trained.")),
    )
    yield made
    ledger.redis.delete(LedgerKey.PROPOSALS.of(DEFAULT_TENANT), LedgerKey.AUDIT.of(DEFAULT_TENANT))


def test_one_is_dismissed_with_a_reason_and_another_confirmed(console, visit, proposals):
    new_label, threshold = proposals
    page = visit().open("proposals")
    card = f"article[id='{new_label.id}']"
    page.click(f"{card} summary:has-text('Dismiss it')")
    page.fill(f"{card} [name=reason]", "one customer's test")
    page.click(f"{card} button:has-text('Dismiss')")
    page.wait_for_selector(f"{card} .state.dismissed")
    assert "one customer's test" in page.text_content(card)
    page.click(f"article[id='{threshold.id}'] button:has-text('Confirm')")
    page.wait_for_selector(f"article[id='{threshold.id}'] :is(.state.candidate, .state.failed)", timeout=30_000)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_they_can_be_read_by_everybody(console, visit, proposals, scheme, width):
    seen = visit(scheme=scheme, width=width)
    for path in ("proposals", f"proposals/{proposals[0].id}"):
        page = seen.open(path)
        seen.picture(f"{path.split('_')[0].replace('/', '-')}-{scheme}-{width}")
        assert seen.serious() == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
