"""Dead letters, keys, and forgetting somebody, in a browser."""

import pytest

from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.ledger import calls
from shared.security.api_keys import Scope
from tests.support.api import Worker
from tests.support.browser import LOOKS

NOBODYS = "generate.nobodys"


@pytest.fixture
def dead_letter(console):
    """A job that was given up in a queue without workers."""
    job = NewJob(
        id=new_job_id("default"),
        tenant_id="default",
        kind=JobKind.GENERATE,
        stage=Stage.GENERATE,
        queue=NOBODYS,
        body={"input": "<b>x</b>"},
    )
    console.supervisor.ledger.do(calls.create(job, ttl_seconds=3600))
    Worker(console.supervisor.ledger).lose(job.id, NOBODYS, times=3)
    return job.id


def fill_in(page, by, who):
    page.select_option("select[name=by]", by)
    page.fill("input[name=who]", who)
    page.click("text=Count what is kept")
    page.wait_for_selector("#report h2")


def test_a_dead_letter_runs_again(console, visit, dead_letter):
    page = visit().open("dead")
    page.click(f"li:has-text('{dead_letter}') >> text=Run again")
    page.wait_for_selector(f".notice.done:has-text('{dead_letter}')")
    assert console.job(dead_letter)["state"] == "routed"
    console.client.cancel(dead_letter)


def test_somebody_is_counted_and_forgotten(console, visit):
    for _ in range(2):
        console.ended(console.submit("my secret", user="ann", params={"max_new_tokens": 2}))
    page = visit().open("forget")
    fill_in(page, "user", "ann")
    assert page.inner_text("#report tbody tr:first-child td") == "2"
    page.check("[name=sure]")
    page.click("text=Forget all of it")
    page.wait_for_selector("#report .notice.done")
    fill_in(page, "user", "ann")
    page.wait_for_selector("text=Nothing is kept under this name")


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_they_can_be_read_by_everybody(console, visit, dead_letter, scheme, width):
    console.key(Scope.SUBMIT, Scope.READ, name="<i>for the shop</i>")
    console.ended(console.submit("my secret", user="bob", params={"max_new_tokens": 2}))
    seen = visit(scheme=scheme, width=width)
    for path in ("dead", "keys", "forget"):
        page = seen.open(path)
        if path == "forget":
            fill_in(page, "user", "bob")
        seen.picture(f"{path}-{scheme}-{width}")
        assert seen.serious() == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than its window"
        assert page.locator("main i:has-text('shop')").count() == 0
