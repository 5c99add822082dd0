"""Training, in a browser: a form with an estimate, and losses as they come."""

import math

import pytest

from tests.support.api import Worker
from tests.support.browser import LOOKS
from tests.support.eventually import eventually


@pytest.fixture(scope="module")
def dataset(console):
    rows = [{"input": f"text {number}", "output": "an answer"} for number in range(12)]
    return console.client.upload_dataset(rows, "console-rows").name


@pytest.fixture
def training(console, dataset):
    """A training that nobody has begun, cancelled at the end."""
    job = console.client.train("adapter.train", label="bank.cards", dataset=dataset)
    yield job.id
    console.client.cancel(job)


def tell_steps(worker, job, steps, begin=1):
    for step in range(begin, begin + steps):
        told = {"loss": 3 * math.exp(-step / 20) + 0.2, "learning_rate": 4e-4 * (1 - step / 100), "seconds_left": 90.0}
        told |= {"step": step, "steps": 100, "tokens": 350 * step, "device": "cpu", "precision": "float32"}
        worker.tell(job, "progress", stage="training", **told)


def test_the_form_estimates_and_starts(console, visit, dataset):
    page = visit().open("training")
    page.fill("#adapter-form [name=label]", "bank.cards")
    page.fill("#adapter-form [name=dataset]", dataset)
    page.click("#adapter-form >> text=Estimate")
    page.wait_for_selector("#adapter-quote .notice")
    assert "Nothing was started" in page.inner_text("#adapter-quote")
    page.click("#adapter-form button:not([type])")
    page.wait_for_url("**/console/training/job_*")
    job_id = page.url.rpartition("/")[2]
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("text=Cancel")
    page.wait_for_selector("#standing .state.cancelled")
    assert console.client.get(f"/v1/training/jobs/{job_id}")["state"] == "cancelled"


@pytest.mark.slow
def test_losses_are_drawn_as_they_come_and_an_open_table_stays_open(console, visit, training):
    page = visit().open(f"training/{training}")
    worker = Worker(console.supervisor.ledger)
    job = worker.take(training, "train", lease_seconds=120)
    tell_steps(worker, job, 5)
    eventually(lambda: page.locator(".plot canvas").count() == 2, "loss and learning rate are drawn")
    page.click("details[data-keep=loss] summary")
    tell_steps(worker, job, 5, begin=6)
    page.wait_for_selector("details[data-keep=loss] th[data-value='10']", state="attached")
    eventually(lambda: page.locator("details[data-keep=loss][open]").count() == 1, "the table is open")
    worker.tell(job, "progress", stage="checkpoint", step=10)
    page.wait_for_selector("text=the last at step 10")


@pytest.mark.slow
def test_a_wrong_form_says_what_is_wrong(visit):
    seen = visit()
    page = seen.open("training")
    page.fill("#adapter-form [name=label]", "bank cards")
    page.fill("#adapter-form [name=dataset]", "none")
    page.click("#adapter-form button:not([type])")
    page.wait_for_selector("#notices .notice")
    assert "is not a label" in page.inner_text("#notices")
    seen.complaints.clear()  # the browser tells the refused request


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_it_can_be_read_by_everybody(console, visit, training, scheme, width):
    worker = Worker(console.supervisor.ledger)
    job = worker.take(training, "train", lease_seconds=120)
    worker.tell(job, "progress", stage="data_checked", warnings=["<b>a row</b> was cut"])
    tell_steps(worker, job, 60)
    seen = visit(scheme=scheme, width=width)
    page = seen.open("training")
    page.click("summary:has-text('A selector')")
    page.click("details[open] >> text=Settings")
    seen.picture(f"training-{scheme}-{width}")
    assert seen.serious() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"
    seen.open(f"training/{training}").wait_for_selector(".plot canvas")
    seen.picture(f"training-one-{scheme}-{width}")
    assert seen.serious() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"
