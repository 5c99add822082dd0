"""Sessions of the console: how they begin, what ends them, whose forms they take."""

import re
from contextlib import aclosing

import pytest

from services.api.console import sessions
from services.api.console.sign_in import WRONG_KEYS
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from tests.support.api import client_of, serving
from tests.support.console import as_part, signed_in, words

CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}


@pytest.fixture
def anonymous(api):
    return api["anonymous"]


@pytest.fixture
async def visitor(api, tokens):
    async with aclosing(await signed_in(api["url"], tokens["admin"])) as client:
        yield client


def sign_in(client, key, **headers):
    return client.post("/console/sign-in", data={"key": key}, headers=headers)


async def test_a_wrong_key_is_refused_and_shown_nowhere(anonymous, ledger):
    answer = await sign_in(anonymous, "sbk_wrong")
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert "sbk_wrong" not in answer.text
    assert 'role="alert"' in answer.text
    assert ledger.redis.keys(LedgerKey.CONSOLE.pattern) == []


async def test_after_many_wrong_keys_an_address_has_to_wait(anonymous, tokens):
    for _ in range(WRONG_KEYS.amount):
        assert (await sign_in(anonymous, "sbk_wrong")).status_code == 401
    answer = await sign_in(anonymous, tokens["admin"])
    assert (answer.status_code, "set-cookie" in answer.headers) == (429, False)
    assert "try again in a minute" in words(answer)
    assert answer.headers["retry-after"] == "60"


async def test_right_keys_do_not_count(anonymous, tokens):
    for _ in range(WRONG_KEYS.amount + 1):
        assert (await sign_in(anonymous, tokens["admin"])).status_code == 303


async def test_no_script_and_no_other_site_gets_the_cookie(anonymous, tokens, ledger):
    answer = await sign_in(anonymous, tokens["admin"])
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/console"} <= set(cookie.split("; "))
    token = re.match(rf"{sessions.COOKIE}=([^;]+)", cookie)[1]
    (name,) = ledger.redis.keys(LedgerKey.CONSOLE.pattern)
    kept = ledger.redis.hgetall(name)
    assert token not in f"{name}{kept}", "the ledger knows the token's hash alone"
    assert tokens["admin"] not in str(kept)
    assert 0 < ledger.redis.ttl(name) <= sessions.IDLE_SECONDS


async def test_a_cookie_is_secure_where_a_trusted_proxy_says_that_it_ends_tls(anonymous, settings, tokens):
    sent = {"data": {"key": tokens["admin"]}, "headers": {"X-Forwarded-Proto": "https"}}
    assert "Secure" not in (await anonymous.post("/console/sign-in", **sent)).headers["set-cookie"]
    trusting = settings.model_copy(update={"trusted_proxies": "127.0.0.0/8"})
    async with serving(trusting) as (_, url), client_of(url) as client:
        assert "Secure" in (await client.post("/console/sign-in", **sent)).headers["set-cookie"]


@pytest.mark.parametrize(
    "then", ["https://evil.example/", "//evil.example", "/console/\\evil", "/console/..//evil.example", "/v1/jobs"]
)
async def test_after_signing_in_one_goes_to_the_console_alone(anonymous, tokens, then):
    answer = await anonymous.post("/console/sign-in", data={"key": tokens["admin"], "then": then})
    assert answer.headers["location"] == "/console/"


async def test_who_is_not_signed_in_is_sent_to_the_form_and_back(anonymous, tokens):
    answer = await anonymous.get("/console/adapters?text=bank")
    assert answer.status_code == 303
    form = await anonymous.get(answer.headers["location"])
    assert 'value="/console/adapters?text=bank"' in form.text
    answer = await anonymous.post(
        "/console/sign-in", data={"key": tokens["admin"], "then": "/console/adapters?text=bank"}
    )
    assert answer.headers["location"] == "/console/adapters?text=bank"
    assert (await as_part(anonymous).get("/console/adapters")).status_code == 200


async def test_a_session_ends_with_its_key(visitor, tokens, ledger):
    assert (await visitor.get("/console/adapters")).status_code == 200
    api_keys.revoke(ledger.redis, api_keys.key_id(tokens["admin"]))
    assert (await visitor.get("/console/adapters")).headers["location"].startswith("/console/sign-in")
    assert (await as_part(visitor).get("/console/adapters")).status_code == 401


async def test_a_session_ends_at_its_age_however_much_it_is_used(visitor, ledger):
    (name,) = ledger.redis.keys(LedgerKey.CONSOLE.pattern)
    began = float(ledger.redis.hget(name, "began"))
    ledger.redis.hset(name, "began", repr(began - sessions.MOST_SECONDS - 1))
    assert (await visitor.get("/console/adapters")).status_code == 303
    assert (await as_part(visitor).get("/console/adapters")).status_code == 401


async def test_signing_out_ends_the_session_itself(visitor, ledger):
    cookie = visitor.cookies[sessions.COOKIE]
    answer = await visitor.post("/console/sign-out")
    assert answer.headers["location"] == "/console/sign-in"
    assert ledger.redis.keys(LedgerKey.CONSOLE.pattern) == []
    visitor.cookies.set(sessions.COOKIE, cookie, path="/console")
    assert (await visitor.get("/console/adapters")).status_code == 303


async def test_forms_of_other_sites_are_refused(anonymous, visitor, tokens, ledger):
    assert (await sign_in(anonymous, tokens["admin"], **CROSS_SITE)).status_code == 403
    answer = await visitor.post("/console/sign-out", headers=CROSS_SITE)
    assert (answer.status_code, "form_foreign" in answer.text) == (403, True)
    answer = await visitor.post("/console/sign-out", headers={sessions.CSRF_HEADER: "x"}, data={"csrf": "x"})
    assert answer.status_code == 403
    assert len(ledger.redis.keys(LedgerKey.CONSOLE.pattern)) == 1, "the session goes on"


async def test_a_page_names_the_scope_that_a_key_lacks(api, tokens):
    async with aclosing(await signed_in(api["url"], tokens["train"])) as client:
        page = await client.get("/console/live")
        assert (page.status_code, "lacks the scope 'read'" in words(page)) == (403, True)
        listed = await client.get("/console/adapters")
        assert 'title="needs a key with the scope read">Live' in listed.text


async def test_an_operator_may_leave_the_console_out(settings, tokens):
    async with serving(settings.model_copy(update={"console": False})) as (_, url), client_of(url) as client:
        for path in ("/console/", "/console/sign-in", "/console/static/console.css"):
            assert (await client.get(path)).status_code == 404
