"""Keys on the console: states, limits, use; no key itself."""

import pytest

from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.console import words

FIN = "generate.fin"


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


async def test_each_key_shows_its_state_limits_and_use_and_never_itself(operator, api, ledger, tokens, worker):
    limits = {"requests_per_minute": 77, "tokens_per_minute": 5000}
    key, token = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}), name="<b>ours</b>", **limits)
    gone, _ = api_keys.create(ledger.redis, frozenset({Scope.READ}), name="gone")
    api_keys.revoke(ledger.redis, gone.id)
    sent = await api["anonymous"].post(
        "/v1/jobs", json={"input": "x", "label": "fin.sa"}, headers={"Authorization": f"Bearer {token}"}
    )
    worker.run(sent.json()["id"], FIN)
    answer = await operator.get("/console/keys")
    page = words(answer)
    assert f"{key.id} valid submit" in page
    assert "77 5000 1" in page
    assert "revoked" in page
    assert f"signalbox keys revoke {key.id}" in page
    assert f"revoke {gone.id}" not in page
    assert "<b>ours</b>" not in answer.text
    for secret in (token, *tokens.values(), key.sha256):
        assert secret not in answer.text


async def test_another_tenants_keys_are_not_listed(operator, stranger, ledger):
    key, _ = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))
    assert key.id in (await operator.get("/console/keys")).text
    assert key.id not in (await stranger.get("/console/keys")).text


async def test_only_an_administrator_sees_them(submitter):
    refused = await submitter.get("/console/keys")
    assert (refused.status_code, "'admin'" in words(refused)) == (403, True)


async def test_many_come_page_by_page(operator, ledger):
    for number in range(60):
        api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}), name=f"number {number}")
    first, second = await operator.get("/console/keys"), await operator.get("/console/keys?after=50")
    assert first.text.count('<th scope="row">') == 50
    assert "Older keys" in first.text
    assert "number 0" in second.text
