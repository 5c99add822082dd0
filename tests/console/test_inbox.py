"""The inbox, in a browser: labels by the keyboard alone, versions, trainings."""

import pytest

from shared.ledger.keys import LedgerKey
from tests.support.browser import LOOKS
from tests.support.eventually import eventually

HTML = "<b>what</b> is <script>1</script> my card limit"


@pytest.fixture(autouse=True)
def _unjudged(console):
    """Every test finds jobs that nobody has judged."""
    for job in console.client.jobs(feedback=True):
        console.client.delete_feedback(job.id)


def focused(page):
    return page.evaluate("document.activeElement.id")


def label_of(console, card):
    return console.job(card.removeprefix("card-"))["feedback"]["label"]


def test_jobs_are_labelled_and_taken_back_by_the_keyboard_alone(console, visit):
    page = visit().open("inbox")
    first = focused(page)
    assert first.startswith("card-")
    page.keyboard.press("j")
    assert focused(page) != first
    page.keyboard.press("k")
    expected = page.locator(f"#{first} [data-key='2']").inner_text().split()[1]
    page.keyboard.press("2")
    page.wait_for_selector(f"#{first}[data-judged]")
    eventually(lambda: focused(page) != first, "the next job has the focus")
    assert label_of(console, first) == expected
    second = focused(page)
    page.keyboard.press("r")
    page.wait_for_selector(f"#{second}[data-judged]")
    assert label_of(console, second) == "none.none"
    eventually(lambda: focused(page) != second, "the next job has the focus")
    page.keyboard.press("k")
    page.keyboard.press("u")
    page.wait_for_selector(f"#{second}:not([data-judged])")
    assert console.job(second.removeprefix("card-"))["feedback"] is None
    eventually(lambda: focused(page) == second, "what was taken back has the focus")
    page.keyboard.press("s")
    assert focused(page) != second


@pytest.mark.slow
def test_a_label_is_searched_and_the_next_job_has_the_focus(console, visit):
    page = visit().open("inbox")
    card = focused(page)
    page.keyboard.press("/")
    page.wait_for_selector("#label-search[open] #labels-found button")
    page.keyboard.type("accounts")
    found = page.locator("#labels-found button")
    eventually(lambda: found.all_inner_texts() == ["bank.accounts", "New label: accounts"], "the label is found")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#{card}[data-judged]")
    assert label_of(console, card) == "bank.accounts"
    assert not page.locator("#label-search").is_visible()


@pytest.mark.slow
def test_keys_outside_of_the_list_do_nothing(console, visit):
    page = visit().open("inbox")
    page.focus("nav a")
    page.keyboard.press("1")
    page.keyboard.press("r")
    assert page.locator("[data-judged]").count() == 0
    assert not list(console.client.jobs(feedback=True))


@pytest.mark.slow
def test_a_version_and_a_training_of_it_take_a_click_each(console, visit):
    page = visit().open("inbox")
    for _ in range(4):
        card = focused(page)
        page.keyboard.press("1")
        page.wait_for_selector(f"#{card}[data-judged]")
        eventually(lambda card=card: focused(page) != card, "the next job has the focus")
    page.click("text=Make a version")
    page.wait_for_selector("#version h3")
    [dataset] = [one for one in console.client.datasets() if one.name == "feedback"][-1:]
    assert dataset.id in page.inner_text("#version")
    if page.locator("#version form").count():
        page.click("#version form button")
        link = page.wait_for_selector("#version a[href^='/console/training/job_']")
        console.client.cancel(link.get_attribute("href").rpartition("/")[2])


@pytest.mark.slow
def test_where_the_session_ends_the_label_is_not_lost(console, visit):
    token = console.key()
    seen = visit(token=token)
    page = seen.open("inbox")
    card = focused(page)
    for session in console.redis.scan_iter(LedgerKey.CONSOLE.pattern):
        console.redis.delete(session)
    page.keyboard.press("1")
    page.wait_for_selector("#sign-in-again[open]")
    page.fill("#sign-in-again input[name=key]", token)
    page.click("#sign-in-again button:not([value])")
    page.wait_for_selector(f"#{card}[data-judged]")
    seen.complaints.clear()  # the browser tells the refused request


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_it_can_be_read_by_everybody(console, visit, scheme, width):
    console.ended(console.submit(HTML, params={"max_new_tokens": 4}))
    seen = visit(scheme=scheme, width=width)
    page = seen.open("inbox")
    page.keyboard.press("1")
    page.wait_for_selector("[data-judged]")
    page.click("text=Make a version")
    page.wait_for_selector("#version h3")
    seen.picture(f"inbox-{scheme}-{width}")
    assert seen.serious() == []
    assert page.locator("#inbox script, #inbox b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"
