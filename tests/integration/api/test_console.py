"""What holds on every page of the console, its files, and its page Live, without a browser."""

import asyncio
import contextlib

import pytest
from fastapi.routing import iter_route_contexts

from services.api.console.sessions import CSRF_HEADER
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.console import signed_in
from tests.support.scopes import sample_path

OPEN_PATHS = {"/static/{name}", "/sign-in"}


@pytest.fixture
async def visitor(api):
    """Sign a key in; answers its client, which holds the session's cookie and sends no token of forms."""
    async with contextlib.AsyncExitStack() as stack:

        async def sign_in(token):
            client = await stack.enter_async_context(await signed_in(api["url"], token))
            del client.headers[CSRF_HEADER]
            return client

        yield sign_in


def mounted(app):
    (mount,) = [route for route in app.routes if getattr(route, "path", "") == "/console"]
    return mount


def routes(app):
    for route in iter_route_contexts(mounted(app).app.routes):
        for method in route.methods - {"HEAD"}:
            yield method, route.path


async def test_no_page_opens_without_a_session(api):
    found = [(method, path) for method, path in routes(api["app"]) if path not in OPEN_PATHS]
    assert len(found) > 3
    for method, path in found:
        answer = await api["anonymous"].request(method, f"/console{sample_path(path)}")
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/console/sign-in"), path


async def test_no_form_is_taken_without_its_token_or_from_another_site(api, visitor, tokens):
    client = await visitor(tokens["admin"])
    forms = [(method, path) for method, path in routes(api["app"]) if method != "GET" and path not in OPEN_PATHS]
    assert len(forms) > 10
    for method, path in forms:
        for headers in ({}, {"X-CSRF-Token": "x"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = await client.request(method, f"/console{sample_path(path)}", headers=headers)
            assert answer.status_code == 403, (path, headers)
            assert "form_foreign" in answer.text


async def test_a_part_of_a_page_is_refused_without_moving_the_page(api):
    answer = await api["anonymous"].get("/console/live", headers={"HX-Request": "true"})
    assert answer.status_code == 401


async def test_live_says_what_to_do_first_and_then_what_is_there(visitor, tokens, release, ledger):
    other = await visitor(tokens["other"])
    assert "There is no release yet" in (await other.get("/console/live")).text
    client = await visitor(tokens["admin"])
    text = (await client.get("/console/live")).text
    assert release.id in text
    assert "generate.fin" in text
    assert "generate.fin" not in (await other.get("/console/live")).text


async def test_a_job_whose_label_is_markup_is_text(api, admin, visitor, tokens, release, ledger):
    job = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    ledger.redis.hset(LedgerKey.JOB.of(job), "label", "<script>alert(1)</script>")
    text = (await (await visitor(tokens["admin"])).get("/console/live")).text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text


async def test_the_stream_sends_what_changes_and_ends_with_the_process(api, admin, visitor, tokens, release, ledger):
    client = await visitor(tokens["admin"])
    async with client.stream("GET", "/console/live/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        seen = {await _next_event(lines) for _ in range(4)}
        assert seen == {"standing", "board", "numbers", "jobs"}
        job = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
        async for line in lines:
            if job in line:
                break
        api["app"].state.server.should_exit = True
        async with asyncio.timeout(10):
            assert [line async for line in lines if line.startswith("event: never")] == []


async def _next_event(lines):
    async for line in lines:
        if line.startswith("event: "):
            return line.removeprefix("event: ")
    raise AssertionError("the stream has ended")


async def test_assets_are_kept_for_a_year_and_compressed(api):
    page = (await api["anonymous"].get("/console/sign-in")).text
    path = page.partition('href="/console/static/console.css')[2].partition('"')[0]
    answer = await api["anonymous"].get(f"/console/static/console.css{path}")
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    plain = await api["anonymous"].get("/console/static/console.css", headers={"Accept-Encoding": "identity"})
    assert plain.content == answer.content
    assert (await api["anonymous"].get("/console/static/VENDORED.md")).status_code == 404


async def test_pages_are_never_kept_and_run_no_others_script(api):
    headers = (await api["anonymous"].get("/console/sign-in")).headers
    assert headers["cache-control"] == "no-store"
    assert "script-src 'self'" in headers["content-security-policy"]


async def test_a_page_that_is_not_there_says_so_as_a_page(visitor, tokens):
    answer = await (await visitor(tokens["admin"])).get("/console/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


async def test_a_crash_is_a_page_or_a_notice_that_names_the_logs_entry(api):
    console = mounted(api["app"]).app

    @console.get("/crash")
    async def crash():
        raise RuntimeError

    for headers, form in (({}, "<!DOCTYPE html>"), ({"HX-Request": "true"}, '<div class="notice"')):
        answer = await api["anonymous"].get("/console/crash", headers=headers)
        assert answer.status_code == 500
        assert answer.text.startswith(form)
        assert "urn:uuid:" in answer.text
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


async def test_a_key_sees_first_what_it_may(visitor, ledger):
    _, token = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))
    client = await visitor(token)
    assert (await client.get("/console/")).headers["location"] == "/console/playground"
