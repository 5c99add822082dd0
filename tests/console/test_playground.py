"""The playground, in a browser."""

import pytest

from shared.security.api_keys import Scope
from tests.support.browser import LOOKS
from tests.support.eventually import eventually

MARKUP = "what is my card <b>limit</b> <script>document.title = 'taken'</script> & more"


def ask(page, text, do="ask"):
    page.fill("#turns textarea >> nth=-1", text)
    page.click(f"button[value={do}]")


def test_an_answer_streams_as_text_beside_its_decision(visit):
    page = visit().open("playground")
    ask(page, MARKUP)
    page.wait_for_selector("#answers article .state.succeeded")
    assert page.locator("#answers .text").inner_text().endswith(MARKUP)
    assert page.locator("#answers b, #answers script").count() == 0
    assert page.title().startswith("Playground")
    assert page.locator("#answers .decided .threshold").count() > 5
    assert page.locator("#answers").get_by_text("Nearest rows that it was trained on").is_visible()
    page.get_by_text("Why this answer").click()
    page.get_by_role("heading", name="What the model got").wait_for()
    assert MARKUP in page.locator(".prompt").inner_text()


@pytest.mark.slow
def test_pieces_are_shown_as_they_come(console, visit):
    page = visit().open("playground")
    page.evaluate("""() => {
        window.seen = new Set();
        new MutationObserver(() => {
            const text = document.querySelector('#answers .text')?.textContent;
            if (text) window.seen.add(text);
        }).observe(document.getElementById('answers'), { childList: true, subtree: true, characterData: true });
    }""")
    page.click("summary")
    page.fill("input[name=max_new_tokens]", "900")
    ask(page, text := " ".join(f"word{n}" for n in range(800)))
    page.wait_for_selector("#answers article .state.succeeded")
    seen = page.evaluate("[...window.seen]")
    assert seen[-1].endswith(text)
    assert all(seen[-1].startswith(text) for text in seen), "a piece was lost, or came twice"


@pytest.mark.slow
def test_a_conversation_is_written_turn_by_turn_and_sent_by_the_keyboard(console, visit):
    page = visit().open("playground")
    page.fill("#turns textarea", "my card")
    for text in ("what of it?", "raise its limit"):
        page.click("text=Add a turn")
        page.keyboard.type(text)
    assert page.locator("#turns select").evaluate_all("all => all.map(one => one.value)") == [
        "user",
        "assistant",
        "user",
    ]
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#answers article .state.succeeded")
    job = page.get_by_text("Why this answer").get_attribute("href").rpartition("/")[2]
    said = [turn["content"] for turn in console.job(job)["request"]["messages"]]
    assert said == ["my card", "what of it?", "raise its limit"]
    page.click("text=Remove this turn >> nth=-1")
    eventually(lambda: page.locator("#turns textarea").count() == 2, "the turn is gone")


@pytest.mark.slow
def test_three_adapters_answer_side_by_side(visit):
    page = visit().open("playground")
    ask(page, "what is my card limit", do="compare")
    eventually(lambda: page.locator("#answers article .state.succeeded").count() == 3, "all three have answered")
    heads = page.locator("#answers article h2").all_inner_texts()
    assert [head.partition(":")[0] for head in heads] == ["Base model", "Chosen", "Runner-up"]
    texts = page.locator("#answers article .text").all_inner_texts()
    assert len(set(texts)) == 3


@pytest.mark.slow
def test_what_is_wrong_is_said_and_the_text_stays(visit):
    seen = visit()
    page = seen.open("playground")
    page.fill("input[name=model]", "no.such")
    ask(page, "what is my card limit")
    page.wait_for_selector("#notices .notice")
    assert "no.such" in page.locator("#notices").inner_text()
    assert page.input_value("#turns textarea") == "what is my card limit"
    seen.complaints.clear()


@pytest.mark.slow
def test_a_key_that_only_submits_gets_no_explanation(visit):
    page = visit(Scope.SUBMIT).open("playground")
    assert page.locator("input[name=explain]").is_disabled()
    ask(page, "what is my card limit")
    page.wait_for_selector("#answers article .state.succeeded")
    assert "what is my card limit" in page.locator("#answers .text").inner_text()
    assert page.locator("#answers").get_by_text("Nearest rows").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_it_can_be_read_by_everybody(visit, scheme, width):
    seen = visit(scheme=scheme, width=width)
    page = seen.open("playground")
    page.click("summary")
    ask(page, "what is my card limit", do="compare")
    eventually(lambda: page.locator("#answers article .state.succeeded").count() == 3, "all three have answered")
    seen.picture(f"playground-{scheme}-{width}")
    assert seen.serious() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"
