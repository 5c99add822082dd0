"""Rollouts, in a browser: begun on a release's page, followed as they move, taken back."""

import pytest

from shared.contracts.times import utc_now
from shared.names import DEFAULT_TENANT
from shared.registry import Registry
from shared.registry.store import S3Store
from tests.support.browser import LOOKS


@pytest.fixture
def candidate(console):
    """A candidate that answers as the current release does."""
    supervisor = console.supervisor
    releases = Registry(supervisor.ledger, S3Store(supervisor.settings), supervisor.settings.cache_dir).releases
    current = releases.get(DEFAULT_TENANT, releases.current_id(DEFAULT_TENANT))
    made = current.model_copy(update={"parent": current.id, "created_at": utc_now()})
    releases.add(made)
    yield made
    releases.remove(made)


def test_one_is_begun_on_a_releases_page_and_taken_back(console, visit, candidate):
    page = visit().open(f"releases/{candidate.id}")
    page.click("[data-opens=rollout]")
    page.fill("#rollout [name=steps]", "50,100")
    page.click("#rollout button:has-text('Roll out')")
    page.wait_for_selector("#standing .state.running", timeout=30_000)  # told by its stream
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#standing button:has-text('Take back')")
    page.wait_for_selector("#standing .state.aborted", timeout=30_000)
    assert "aborted by hand" in page.text_content("#standing")


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_they_can_be_read_by_everybody(console, visit, candidate, scheme, width):
    rollout = console.client.begin_rollout(candidate.id, steps=[50, 100])
    seen = visit(scheme=scheme, width=width)
    for path in ("rollouts", f"rollouts/{rollout.id}"):
        page = seen.open(path)
        seen.picture(f"{path.replace('/', '-')}-{scheme}-{width}")
        assert seen.serious() == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    console.client.abort_rollout(rollout.id)
    page.wait_for_selector("#standing .state.aborted", timeout=30_000)
