"""Batches, in a browser: they move by themselves, and their files are downloaded."""

import json

import pytest

from tests.support.batches import CHATS, chat_line, jsonl
from tests.support.browser import LOOKS


def submitted(console, lines):
    file = console.client.upload_file(jsonl(lines), "rows.jsonl")
    return console.client.create_batch(file.id, endpoint=CHATS).id


def test_a_batch_moves_by_itself_and_its_answers_are_downloaded(console, visit):
    page = visit().open("batches")
    batch = submitted(console, [chat_line(number, model="bank.cards", max_tokens=2) for number in range(3)])
    page.wait_for_selector(f"#{batch} .state.completed", timeout=60_000)
    with page.expect_download() as download:
        page.click(f"#{batch} >> text=answers")
    lines = download.value.path().read_text().splitlines()
    assert [json.loads(line)["custom_id"] for line in lines] == ["row-0", "row-1", "row-2"]


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_it_can_be_read_by_everybody(console, visit, scheme, width):
    wrong = submitted(console, [chat_line(1, url="/v1/<b>elsewhere</b>"), chat_line(1)])
    seen = visit(scheme=scheme, width=width)
    page = seen.open("batches")
    page.wait_for_selector(f"#{wrong} .state.failed", timeout=60_000)
    seen.picture(f"batches-{scheme}-{width}")
    assert seen.serious() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"
    seen.open(f"batches/{wrong}")
    assert seen.serious() == []
