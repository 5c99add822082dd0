"""The console's form of uploads in a browser, and a base model that small adapters fit."""

import contextlib
import json

from shared.registry import Registry
from shared.registry.store import S3Store
from tests.support.adapter_samples import BASE, archive


@contextlib.contextmanager
def registry_of(console):
    """The registry of a system, which knows the base model `samples` meanwhile."""
    settings = console.supervisor.settings
    store = S3Store(settings)
    store.put("base/samples.json", json.dumps({"id": "samples", "shapes": BASE.to_dict()}).encode())
    yield Registry(console.supervisor.ledger, store, settings.cache_dir)
    store.delete("base/samples.json")


def opened(seen):
    """The page Adapters, with its form open."""
    page = seen.open("adapters")
    if page.locator("#upload:not([open])").count():
        page.click("#upload > summary")
    return page


def choose(page, data):
    """Choose an archive for the form."""
    page.set_input_files("input[name=file]", {"name": "a.zip", "mimeType": "application/zip", "buffer": data})


def fill(page, label, data):
    """Fill the form in."""
    choose(page, data)
    page.fill("input[name=label]", label)
    page.locator("form details summary").click()
    page.fill("input[name=base_model]", "samples")


def add(page, label):
    """Upload an adapter; the page says where it is."""
    fill(page, label, archive())
    page.click("text=Upload and check")
    page.wait_for_selector("#outcome h2 a")


def refused(seen):
    """Wait for a refusal, of which the browser complains as of any."""
    seen.page.wait_for_selector("#outcome .failed")
    assert [text for text in seen.complaints if "422" not in text] == []
    seen.complaints.clear()
