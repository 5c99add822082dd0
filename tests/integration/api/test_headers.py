"""What every answer tells a browser, whatever kind of answer it is."""

from html.parser import HTMLParser

import pytest

from services.api.http.security_headers import DATA_POLICY, PAGE_POLICY, SECURITY_HEADERS
from tests.support.api import client_of, serving

ANSWERS = [
    ("anonymous", "GET", "/healthz", {}, 200),
    ("anonymous", "GET", "/metrics", {}, 200),
    ("anonymous", "GET", "/openapi.json", {}, 200),
    ("submit", "GET", "/v1/models", {}, 200),
    ("anonymous", "GET", "/v1/models", {}, 401),
    ("submit", "GET", "/v1/jobs/dead", {}, 403),
    ("submit", "GET", "/v1/jobs/none", {}, 404),
    ("anonymous", "GET", "/nowhere", {}, 404),
    ("anonymous", "PUT", "/v1/jobs", {}, 405),
    ("submit", "POST", "/v1/jobs", {"content": b"x" * (2 << 20)}, 413),
    ("submit", "POST", "/v1/jobs", {"json": {}}, 422),
]


@pytest.mark.parametrize(("who", "method", "path", "more", "status"), ANSWERS)
async def test_every_answer_bears_the_headers(api, who, method, path, more, status):
    answer = await api[who].request(method, path, **more)
    assert answer.status_code == status
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


async def test_an_answer_to_a_crash_bears_them_too(settings):
    async with serving(settings) as (app, url), client_of(url) as client:

        @app.get("/crash")
        async def crash():
            raise RuntimeError

        answer = await client.get("/crash")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


async def test_a_streams_answer_bears_them(api, release):
    job = (await api["submit"].post("/v1/jobs", json={"input": "x"})).json()
    async with api["submit"].stream("GET", job["events_url"]) as events:
        assert events.headers["content-security-policy"] == DATA_POLICY
        assert events.headers["cache-control"].startswith("no-")


def test_the_policy_of_pages_allows_nothing_inline_and_no_other_host():
    rules = dict(rule.strip().split(" ", 1) for rule in PAGE_POLICY.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert {word for value in rules.values() for word in value.split()} == {"'none'", "'self'", "data:"}
    assert "data:" not in rules["script-src"] + rules["style-src"]


class Clients(HTMLParser):
    """What a page loads, and what stands in it that its policy would stop."""

    def __init__(self):
        super().__init__()
        self.loaded, self.inline, self._inside = [], [], ""

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.loaded += [known[name] for name in ("src", "href") if name in known]
        self.inline += [name for name in known if name.startswith("on") or name == "style"]
        self._inside = tag

    def handle_data(self, data):
        if self._inside in ("script", "style") and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag):
        self._inside = ""


async def test_every_page_keeps_to_its_policy_and_all_that_it_loads_is_here(api):
    page = await api["anonymous"].get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"] == PAGE_POLICY
    parts = Clients()
    parts.feed(page.text)
    assert parts.inline == []
    assert len(parts.loaded) == 3
    for path in parts.loaded:
        loaded = await api["anonymous"].get(path)
        assert loaded.status_code == 200
        assert loaded.headers["content-type"].startswith("text/css" if path.endswith(".css") else "text/javascript")
    assert 'url: "/openapi.json"' in loaded.text
    assert (await api["anonymous"].get("/redoc")).status_code == 404


async def test_pages_of_named_origins_alone_may_call_the_api(settings, tokens):
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    shared = settings.model_copy(update={"cors_origins": "https://app.example.org, https://b.example.org"})
    async with serving(shared) as (_, url), client_of(url, tokens["submit"]) as client:
        for origin, allowed in (("https://app.example.org", True), ("https://evil.example.org", False)):
            preflight = await client.options("/v1/chat/completions", headers=asked | {"Origin": origin})
            assert (preflight.status_code == 200) == allowed
            answer = await client.get("/v1/models", headers={"Origin": origin})
            assert (answer.headers.get("access-control-allow-origin") == origin) == allowed
    async with serving(settings) as (_, url), client_of(url, tokens["submit"]) as client:
        answer = await client.get("/v1/models", headers={"Origin": "https://app.example.org"})
        assert "access-control-allow-origin" not in answer.headers
