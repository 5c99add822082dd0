"""Signing in, and a session that ends in the middle of a form, in a browser."""

import pytest

from shared.ledger.keys import LedgerKey
from tests.support.adapter_form import add, fill, opened, registry_of
from tests.support.adapter_samples import archive
from tests.support.browser import LOOKS


@pytest.fixture(scope="module")
def registry(console):
    with registry_of(console) as found:
        yield found


def end_sessions(console):
    for name in console.redis.scan_iter(LedgerKey.CONSOLE.pattern):
        console.redis.delete(name)


def sign_in_again(seen, token):
    """Signs in by the dialog that an ended session opens; the browser complains of its refusal."""
    seen.page.wait_for_selector("#sign-in-again[open]")
    seen.page.fill("#sign-in-again input[name=key]", token)
    seen.page.click("#sign-in-again button:text-is('Sign in')")
    seen.page.wait_for_selector("#sign-in-again:not([open])", state="attached")
    assert [text for text in seen.complaints if "401" not in text] == []
    seen.complaints.clear()


def test_a_wrong_key_is_said_and_a_right_one_signs_in(console, chromium):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{console.url}/console/sign-in?then=/console/adapters")
    page.fill("main input[name=key]", "sbk_wrong")
    page.click("main button")
    page.wait_for_selector("#wrong")
    page.fill("main input[name=key]", console.key())
    page.click("main button")
    page.wait_for_url("**/console/adapters")
    page.click("text=Sign out")
    page.wait_for_url("**/console/sign-in")
    page.goto(f"{console.url}/console/adapters")
    assert "/console/sign-in" in page.url
    context.close()


def test_an_upload_survives_a_session_that_has_ended(console, visit, registry):
    token = console.key()
    seen = visit(token=token)
    page = opened(seen)
    fill(page, "shop.session", archive())
    page.fill("textarea[name=instruction]", "Kept.")
    end_sessions(console)
    page.click("text=Upload and check")
    sign_in_again(seen, token)
    page.wait_for_selector("#outcome h2 a")
    assert page.input_value("textarea[name=instruction]") == "Kept."
    assert registry.adapters.get("default", "shop.session@1").instruction == "Kept."


@pytest.mark.slow
def test_a_retirement_survives_it_too_and_a_wrong_key_in_the_dialog(console, visit, registry):
    token = console.key()
    seen = visit(token=token)
    page = opened(seen)
    add(page, "shop.late")
    page.click("#outcome h2 a")
    page.fill("input[name=at]", "2030-01-02T03:04")
    end_sessions(console)
    page.click("button:text-is('Retire')")
    page.wait_for_selector("#sign-in-again[open]")
    page.fill("#sign-in-again input[name=key]", "sbk_wrong")
    page.click("#sign-in-again button:text-is('Sign in')")
    page.wait_for_selector("#sign-in-again .wrong:not(:empty)")
    sign_in_again(seen, token)
    page.wait_for_selector("#retirement .notice.done")
    (retirement,) = registry.retirements.of("default", ["shop.late@1"]).values()
    assert retirement.at.isoformat() == "2030-01-02T03:04:00+00:00"


@pytest.mark.slow
def test_whoever_gives_up_loses_nothing(console, visit, registry):
    seen = visit()
    page = opened(seen)
    fill(page, "shop.kept", archive())
    end_sessions(console)
    page.click("text=Upload and check")
    page.wait_for_selector("#sign-in-again[open]")
    page.click("#sign-in-again button[value=cancel]")
    assert page.input_value("input[name=label]") == "shop.kept"
    seen.complaints.clear()


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_the_form_can_be_read_by_everybody(visit, scheme, width):
    seen = visit(scheme=scheme, width=width)
    seen.open("sign-in").wait_for_selector("main input[name=key]")
    seen.picture(f"sign-in-{scheme}-{width}")
    assert seen.serious() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than its window"
