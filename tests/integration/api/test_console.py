"""The console's sessions, assets and errors, and its page Live, without a browser."""

import asyncio

import pytest
from fastapi.routing import iter_route_contexts

from services.api.console.sessions import COOKIE
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.api import client_of, serving
from tests.support.scopes import sample_path

OPEN_PATHS = {"/static/{name}", "/sign-in"}


@pytest.fixture
async def visitor(api, tokens):
    """Sign a kind of key in; answers its client, which holds the session's cookie."""
    clients = []

    async def sign_in(token):
        client = client_of(api["url"])
        clients.append(client)
        answer = await client.post("/console/sign-in", data={"key": token})
        assert answer.status_code == 303, answer.text
        return client

    yield sign_in
    for client in clients:
        await client.aclose()


def routes(app):
    (mount,) = [route for route in app.routes if getattr(route, "path", "") == "/console"]
    for route in iter_route_contexts(mount.app.routes):
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


async def test_no_other_site_signs_a_browser_in(api, tokens):
    headers = {"Sec-Fetch-Site": "cross-site"}
    answer = await api["anonymous"].post("/console/sign-in", data={"key": tokens["admin"]}, headers=headers)
    assert answer.status_code == 403


async def test_a_cookie_is_for_this_site_and_no_script(api, tokens):
    answer = await api["anonymous"].post("/console/sign-in", data={"key": tokens["admin"]})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/console" in cookie
    assert tokens["admin"] not in cookie


async def test_a_cookie_is_secure_where_a_trusted_proxy_says_that_it_ends_tls(api, settings, tokens):
    sent = {"data": {"key": tokens["admin"]}, "headers": {"X-Forwarded-Proto": "https"}}
    assert "Secure" not in (await api["anonymous"].post("/console/sign-in", **sent)).headers["set-cookie"]
    trusting = settings.model_copy(update={"trusted_proxies": "127.0.0.0/8"})
    async with serving(trusting) as (_, url), client_of(url) as client:
        assert "Secure" in (await client.post("/console/sign-in", **sent)).headers["set-cookie"]


@pytest.mark.parametrize("then", ["https://evil.example", "//evil.example", "/console/..//evil.example", "/v1/jobs"])
async def test_signing_in_leads_nowhere_else(api, tokens, then):
    answer = await api["anonymous"].post("/console/sign-in", data={"key": tokens["admin"], "then": then})
    assert answer.headers["location"] == "/console/"


async def test_a_wrong_key_is_told_so_and_many_are_held_back(api, tokens):
    for _ in range(20):
        answer = await api["anonymous"].post("/console/sign-in", data={"key": "sbk_wrong"})
        assert answer.status_code == 401
        assert "unknown or revoked" in answer.text
    answer = await api["anonymous"].post("/console/sign-in", data={"key": tokens["admin"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


async def test_a_session_ends_with_its_key_and_by_signing_out(api, visitor, tokens, ledger):
    client = await visitor(tokens["admin"])
    assert (await client.get("/console/live")).status_code == 200
    key, other = (api_keys.key_id(tokens[name]) for name in ("admin", "train"))
    api_keys.revoke(ledger.redis, key)
    assert (await client.get("/console/live")).headers["location"].startswith("/console/sign-in")
    client = await visitor(tokens["train"])
    assert (await client.get("/console/live")).status_code == 403
    names = [*ledger.redis.scan_iter(LedgerKey.CONSOLE.pattern)]
    stored = [ledger.redis.hgetall(name) for name in names]
    assert [one["key"] for one in stored if one["key"] == other] == [other]
    assert all(client.cookies[COOKIE] not in name for name in names)
    assert all(ledger.redis.ttl(name) > 0 for name in names)


async def test_a_page_names_the_scope_that_it_needs(visitor, tokens):
    client = await visitor(tokens["train"])
    answer = await client.get("/console/live")
    assert answer.status_code == 403
    assert "lacks the scope &#39;read&#39;" in answer.text


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


async def test_the_console_is_off_by_setting(settings):
    async with serving(settings.model_copy(update={"console": False})) as (_, url), client_of(url) as client:
        assert (await client.get("/console/sign-in")).status_code == 404


async def test_a_page_that_is_not_there_says_so_as_a_page(visitor, tokens):
    answer = await (await visitor(tokens["admin"])).get("/console/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


async def test_a_key_sees_first_what_it_may(visitor, ledger):
    _, token = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))
    client = await visitor(token)
    assert (await client.get("/console/")).headers["location"] == "/console/playground"
