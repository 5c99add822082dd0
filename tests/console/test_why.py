"""Why, in a browser."""

import signal

import pytest

from tests.support.browser import LOOKS
from tests.support.eventually import eventually


@pytest.fixture
def job(console):
    """An explained job that has ended."""
    job_id = console.submit("what is my card <b>limit</b>", explain=True, params={"max_new_tokens": 8})
    console.ended(job_id)
    return job_id


def test_a_job_is_asked_again_under_another_label_and_judged(console, visit, job):
    page = visit().open(f"jobs/{job}")
    page.fill("form[hx-post$=again] input[name=label]", "bank.accounts")
    page.click("form[hx-post$=again] button")
    page.wait_for_url(lambda url: "/console/jobs/job_" in url and job not in url)
    page.wait_for_selector("h1 ~ p .state.succeeded, [sse-swap=body] > p .state.succeeded")
    assert page.get_by_role("link", name=job[:16]).is_visible()
    page.check("input[name=rating][value='-1']")
    page.fill("textarea[name=output]", "<i>better</i>")
    page.click("text=Give feedback")
    page.wait_for_selector("#feedback tbody tr")
    assert "<i>better</i>" in page.locator("#feedback tbody").inner_text()
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("text=Delete all feedback")
    eventually(lambda: page.locator("#feedback tbody tr").count() == 0, "the feedback is gone")


@pytest.fixture
def frozen_worker(console):
    """The only worker stands still, so that jobs wait for it."""
    console.kill("worker-1", signal.SIGSTOP)
    yield
    console.kill("worker-1", signal.SIGCONT)


@pytest.mark.slow
def test_a_waiting_job_is_cancelled_and_the_page_follows(console, visit, frozen_worker):
    job_id = console.submit("what is my card limit", label="bank.cards")
    page = visit().open(f"jobs/{job_id}")
    page.click("form[hx-post$=cancel] button")
    page.wait_for_selector(".state.cancelled")
    assert page.locator("form[hx-post$=cancel]").count() == 0
    assert page.locator(".steps li.bad").inner_text().startswith("It was cancelled")


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_it_can_be_read_by_everybody(visit, job, scheme, width):
    seen = visit(scheme=scheme, width=width)
    seen.open(f"jobs/{job}").wait_for_selector(".steps li")
    seen.picture(f"why-{scheme}-{width}")
    assert seen.serious() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"
