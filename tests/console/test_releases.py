"""Releases, in a browser: a threshold becomes a candidate, is promoted and rolled back."""

import pytest

from services.cli.demo.data import DemoData
from shared.contracts.times import utc_now
from shared.names import DEFAULT_TENANT
from shared.registry import Registry
from shared.registry.store import S3Store
from tests.support.browser import LOOKS
from tests.support.echo_release import report_of
from tests.support.eventually import eventually


@pytest.fixture
def registry(console):
    supervisor = console.supervisor
    return Registry(supervisor.ledger, S3Store(supervisor.settings), supervisor.settings.cache_dir)


@pytest.fixture
def current(registry):
    return registry.releases.get(DEFAULT_TENANT, registry.releases.current_id(DEFAULT_TENANT))


@pytest.fixture
def candidate(registry, current):
    """A candidate that may replace the current release: without one label, and more easily sure."""
    selector = current.selector.model_copy(update={"threshold": 0.6})
    report = report_of(registry, DEFAULT_TENANT, selector, DemoData())
    made = current.model_copy(
        update={"parent": current.id, "selector": selector, "report": report, "created_at": utc_now()}
    )
    registry.releases.add(made)
    yield made
    registry.releases.remove(made)


def test_a_release_is_promoted_and_rolled_back(visit, registry, current, candidate):
    page = visit().open(f"releases/{candidate.id}")
    page.click("text=Promote…")
    assert "Workers serve every group of it" in page.inner_text("dialog#move")
    page.click("dialog#move button:text-is('Promote')")
    page.wait_for_selector("main .state.succeeded:text-is('current')")
    assert registry.releases.current_id(DEFAULT_TENANT) == candidate.id
    page.click("main >> text=The way back >> a")
    page.click("text=Roll back to this release…")
    page.click("dialog#move button:text-is('Roll back')")
    page.wait_for_selector("main .state.succeeded:text-is('current')")
    assert registry.releases.current_id(DEFAULT_TENANT) == current.id


@pytest.mark.slow
def test_the_slider_shows_what_a_threshold_does_and_makes_a_candidate_of_it(visit, registry, current):
    page = visit().open(f"releases/{current.id}")
    slider = page.locator("[data-thresholds] input[type=range]")
    before = page.inner_text("[data-at=background_reject]")
    slider.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("[data-at=threshold]") == "0.5"
    at_half = page.locator("[data-thresholds] details tr", has=page.locator('th[data-value="0.5"]'))
    assert page.inner_text("[data-at=background_reject]") == at_half.locator("td").last.text_content() != before
    assert "--threshold 0.5" in page.inner_text("[data-thresholds] code")
    page.fill("input[name=threshold]", "0.205")
    page.click("text=Make a candidate")
    page.wait_for_selector("text=No job runs under it yet")
    made = page.url.rpartition("/")[2]
    assert registry.releases.get(DEFAULT_TENANT, made).selector.threshold == 0.205
    registry.releases.remove(registry.releases.get(DEFAULT_TENANT, made))


@pytest.mark.slow
def test_a_chart_of_several_lines_is_drawn_again_from_its_table_alone(visit, current):
    page = visit().open(f"releases/{current.id}")
    lines = page.locator("[data-thresholds] .u-legend tr")
    eventually(lambda: lines.count() == 5, "the chart is drawn")
    page.evaluate(
        """() => {
            window.drawn = [];
            const note = (of, args) => { window.drawn.push(args[1][0].length); return new of(...args); };
            uPlot = new Proxy(uPlot, { construct: note });
        }"""
    )
    page.set_viewport_size({"width": 900, "height": 800})
    eventually(lambda: page.evaluate("window.drawn.length") > 0, "the chart is drawn again")
    assert page.evaluate("window.drawn.at(-1)") == page.locator("[data-thresholds] details tbody tr").count()


@pytest.mark.slow
def test_a_refusal_is_said_on_the_page(visit, registry, current):
    stale = current.model_copy(update={"parent": "rel_none", "made_by": "stale"})
    registry.releases.add(stale)
    seen = visit()
    page = seen.open(f"releases/{stale.id}")
    page.click("text=Promote…")
    page.click("dialog#move button:text-is('Promote')")
    page.wait_for_selector("#notices >> text=build the candidate anew")
    assert not page.is_visible("dialog#move")
    registry.releases.remove(stale)
    assert all("409" in complaint for complaint in seen.complaints)
    seen.complaints.clear()


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_they_can_be_read_by_everybody(visit, candidate, current, scheme, width):
    seen = visit(scheme=scheme, width=width)
    pages = {
        "releases": "releases",
        "release": f"releases/{candidate.id}",
        "compare": f"releases/compare?one={current.id}&other={candidate.id}",
    }
    for name, path in pages.items():
        seen.open(path).wait_for_load_state("networkidle")
        seen.picture(f"{name}-{scheme}-{width}")
        assert seen.serious() == [], name
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"
    seen.open(f"releases/{candidate.id}").click("text=Promote…")
    seen.picture(f"release-dialog-{scheme}-{width}")
    assert seen.serious() == []
