"""Live, in a browser."""

import pytest

from tests.support.browser import LOOKS
from tests.support.eventually import eventually


def test_a_job_appears_by_itself(console, visit):
    page = visit().open("live")
    job = console.submit("what is my card limit", params={"max_new_tokens": 4})
    page.wait_for_selector(f'[sse-swap=jobs] a[href="/console/jobs/{job}"]')


def test_the_chart_draws_the_table_beside_it(visit):
    page = visit().open("live")
    eventually(lambda: page.locator(".plot canvas").count() == 1, "the chart is drawn")


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_it_can_be_read_by_everybody(visit, scheme, width):
    seen = visit(scheme=scheme, width=width)
    seen.open("live").wait_for_selector(".plot canvas")
    seen.picture(f"live-{scheme}-{width}")
    assert seen.serious() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"


def test_a_chart_that_is_drawn_again_draws_the_same_table(visit):
    page = visit().open("releases")
    page.click("main table a >> nth=0")
    chart = page.locator("figure[data-chart=line]").first
    chart.locator("canvas").wait_for()
    names = chart.locator(".u-label").all_text_contents()
    page.set_viewport_size({"width": 500, "height": 900})
    eventually(lambda: chart.locator(".uplot").evaluate("one => one.clientWidth") < 480, "the chart is drawn again")
    assert chart.locator(".u-label").all_text_contents() == names
    assert len(names) > 2
