"""A real browser in front of a real system with the echo engine; whatever the browser complains of fails the test."""

import contextlib
from pathlib import Path

import pytest

from services.cli.demo.data import DemoData
from services.cli.local.servers import free_ports
from tests.support.browser import CHROMIUM, Console, Visit
from tests.support.echo_release import echo_system


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"))
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="package")
def console(tmp_path_factory):
    data = DemoData()
    port = free_ports(1)[0]
    with echo_system(tmp_path_factory.mktemp("console"), data, api_port=port, heartbeat_seconds=0.5) as (
        supervisor,
        client,
    ):
        made = Console(supervisor, client, data)
        for row, _ in zip(data.stream(), range(12), strict=False):
            made.ended(made.submit(row.text, params={"max_new_tokens": 8}))
        yield made


@pytest.fixture(scope="package")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(console, chromium):
    """`visit(*scopes, scheme=..., width=..., tenant=...)` signs in with a new key; the browser must have no complaint.

    A test that expects complaints, such as a refused form, empties `complaints`.
    """
    visits = []
    with contextlib.ExitStack() as stack:

        def sign_in(*scopes, scheme="light", width=1280, tenant="default", token=None):
            context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            stack.callback(context.close)
            visits.append(Visit(console, context))
            visits[-1].sign_in(token or console.key(*scopes, tenant=tenant))
            return visits[-1]

        yield sign_in
        assert [complaint for one in visits for complaint in one.complaints] == []
