"""Adapters, in a browser: what is refused keeps the form, what is taken is shown, exported, retired and deleted."""

import tarfile

import pytest

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from tests.support.adapter_form import add, choose, fill, opened, refused, registry_of
from tests.support.adapter_samples import CONFIG, archive
from tests.support.browser import LOOKS


@pytest.fixture(scope="module")
def registry(console):
    with registry_of(console) as found:
        yield found


def test_a_refused_upload_keeps_the_form_and_a_mended_one_is_stored(console, visit, registry):
    seen = visit()
    page = opened(seen)
    fill(page, "shop.orders", archive({**CONFIG, "r": 100_000}))
    page.fill("textarea[name=instruction]", "Answer <b>shortly</b>.")
    page.click("text=Upload and check")
    refused(seen)
    assert "rank 100000 is above the limit" in page.inner_text("#outcome .failed")
    assert page.input_value("input[name=label]") == "shop.orders"
    assert page.input_value("textarea[name=instruction]") == "Answer <b>shortly</b>."
    choose(page, archive())
    page.click("text=Upload and check")
    page.wait_for_selector("#outcome h2 a")
    assert page.locator("#outcome .failed").count() == 0
    page.click("#outcome h2 a")
    assert page.inner_text("main .text") == "Answer <b>shortly</b>."
    assert registry.adapters.get("default", "shop.orders@1").instruction == "Answer <b>shortly</b>."


@pytest.mark.slow
def test_an_adapter_is_exported_as_a_folder(visit, registry):
    page = opened(visit())
    add(page, "shop.export")
    page.click("#outcome h2 a")
    with page.expect_download() as download:
        page.click("a:text-is('Export')")
    with tarfile.open(download.value.path()) as tar:
        names = sorted(tar.getnames())
    assert names == [f"shop.export@1/{name}" for name in sorted(("README.md", CONFIG_NAME, WEIGHTS_NAME))]


@pytest.mark.slow
def test_it_is_found_by_its_label_retired_and_deleted(visit, registry):
    page = opened(visit())
    add(page, "shop.returns")
    page.goto(page.url)
    page.locator("#text").press_sequentially("returns")
    page.wait_for_selector("#list caption:has-text('1 to 1 of 1 versions whose name holds')")
    page.click("#list tbody a")
    page.fill("input[name=at]", "2030-01-02T03:04")
    page.click("button:text-is('Retire')")
    page.wait_for_selector("#retirement .notice.done")
    assert "2030-01-02 03:04 UTC" in page.inner_text("#retirement")
    page.click("text=Take it back")
    page.wait_for_selector("text=It is not retired any more.")
    page.click("text=Delete…")
    page.click("text=Keep it")
    page.click("text=Delete…")
    page.click("button:text-is('Delete it')")
    page.wait_for_url("**/console/adapters")
    assert registry.adapters.list_all("default", "shop.returns") == []


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_it_can_be_read_by_everybody(visit, registry, scheme, width):
    seen = visit(scheme=scheme, width=width)

    def look(name):
        seen.picture(f"{name}-{scheme}-{width}")
        assert seen.serious() == []
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than its window"

    page = opened(seen)
    fill(page, "shop.looks", archive({**CONFIG, "r": 100_000}))
    page.click("text=Upload and check")
    refused(seen)
    look("adapters-refused")
    choose(page, archive())
    page.click("text=Upload and check")
    page.wait_for_selector("#outcome h2 a")
    look("adapters-stored")
    seen.open("adapters")
    look("adapters")
    seen.open("adapters/shop.looks@1")
    look("adapter")
