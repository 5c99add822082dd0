"""The list of jobs, in a browser."""

import pytest

from tests.support.browser import LOOKS
from tests.support.eventually import eventually


def test_a_filter_acts_at_once_and_stays_in_the_address(console, visit):
    job = console.submit("what is my card limit", label="bank.cards", params={"max_new_tokens": 4})
    console.ended(job)
    page = visit().open("jobs")
    page.fill("input[name=label]", "bank.cards")
    page.keyboard.press("Tab")
    page.wait_for_url("**label=bank.cards**")
    shown = page.locator("#found tbody tr")
    eventually(lambda: set(shown.locator("td:nth-child(4)").all_inner_texts()) == {"bank.cards"}, "only this label")
    page.click(f'a[href="/console/jobs/{job}"]')
    page.get_by_role("heading", name="Timeline").wait_for()


@pytest.mark.slow
def test_a_filter_that_means_nothing_is_said_and_going_back_shows_the_page(visit):
    seen = visit()
    page = seen.open("jobs")
    page.select_option("select[name=state]", "failed")
    page.wait_for_url("**state=failed**")
    page.fill("input[name=user]", "somebody")
    page.keyboard.press("Tab")
    page.wait_for_selector("#notices .notice")
    assert "user" in page.locator("#notices").inner_text()
    seen.complaints.clear()
    page.go_back()
    page.wait_for_url(lambda url: "somebody" not in url)
    page.get_by_text("No job fits").wait_for()
    assert page.locator("header, form.filters").count() == 2


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_it_can_be_read_by_everybody(visit, scheme, width):
    seen = visit(scheme=scheme, width=width)
    seen.open("jobs").wait_for_selector("#found tbody tr")
    seen.picture(f"jobs-{scheme}-{width}")
    assert seen.serious() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"
