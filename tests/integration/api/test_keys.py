"""Who may do what: keys, scopes, tenants."""

import asyncio
import json
import time
from datetime import timedelta

import pytest

from services.api.http.envelope import is_spoken
from shared.errors import Conflict, NotFound
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.api import code
from tests.support.scopes import RULES, keyed_routes, sample_path


@pytest.fixture
def scoped(api, ledger):
    """A client of a new key of the default tenant, by its scopes."""

    def make(*scopes, **fields):
        _, token = api_keys.create(ledger.redis, frozenset(scopes), **fields)
        return Caller(api["anonymous"], {"Authorization": f"Bearer {token}"})

    return make


class Caller:
    """The shared client with one key."""

    def __init__(self, http, headers):
        self._http = http
        self._headers = headers

    def __getattr__(self, method):
        def send(path, headers=None, **more):
            return getattr(self._http, method)(path, headers={**self._headers, **(headers or {})}, **more)

        return send


@pytest.mark.parametrize(("method", "template"), sorted(RULES))
async def test_every_route_asks_for_a_key_and_its_scope(api, scoped, method, template):
    path = sample_path(template)
    missing = await api["anonymous"].request(method, path)
    assert code(missing, 401) == "key_missing"
    assert missing.headers["www-authenticate"] == "Bearer"
    for scope in Scope:
        answer = await getattr(scoped(scope), method.lower())(path)
        if scope in RULES[method, template]:
            assert answer.status_code not in (401, 403)
        else:
            assert code(answer, 403) == "scope_missing"


@pytest.mark.parametrize(("method", "template"), sorted(RULES))
async def test_no_route_takes_a_query_parameter_that_it_does_not_know(api, method, template):
    answer = await api["admin"].request(method, sample_path(template), params={"lable": "x"})
    assert code(answer, 400 if is_spoken(template, "") else 422) == "parameter_unknown"
    assert "'lable'" in answer.json()["detail"]


def test_every_route_has_a_rule():
    assert keyed_routes() == set(RULES)


async def test_a_key_without_read_has_its_own_jobs_alone(scoped, release, worker):
    mine, other, reader = scoped(Scope.SUBMIT), scoped(Scope.SUBMIT), scoped(Scope.READ)
    ask = {"json": {"input": "x", "label": "fin.sa"}, "headers": {"Idempotency-Key": "k"}}
    job_id = (await mine.post("/v1/jobs", **ask)).json()["id"]
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events"):
        assert code(await other.get(path), 404) == "job_not_found"
    assert code(await other.delete(f"/v1/jobs/{job_id}"), 404) == "job_not_found"
    assert (await other.get("/v1/jobs")).json()["items"] == []
    assert (await other.post("/v1/jobs", **ask)).json()["id"] != job_id  # its Idempotency-Keys are its own, too
    assert job_id in [job["id"] for job in (await reader.get("/v1/jobs")).json()["items"]]
    assert (await mine.get(f"/v1/jobs/{job_id}")).json()["id"] == job_id
    assert [job["id"] for job in (await mine.get("/v1/jobs")).json()["items"]] == [job_id]
    assert (await mine.post("/v1/jobs", **ask)).json()["id"] == job_id
    assert (await mine.delete(f"/v1/jobs/{job_id}")).json()["state"] == "cancelled"


async def test_a_job_names_its_key_and_the_keys_of_one_line_of_rotations_share_their_jobs(api, ledger, release):
    old, old_token = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))
    _, new_token = api_keys.rotate(ledger.redis, old.id, timedelta(hours=1))
    before, after = (Caller(api["anonymous"], {"Authorization": f"Bearer {t}"}) for t in (old_token, new_token))
    by_old = (await before.post("/v1/jobs", json={"input": "x"})).json()["id"]
    by_new = (await after.post("/v1/jobs", json={"input": "x"})).json()["id"]
    assert (await after.get(f"/v1/jobs/{by_old}")).json()["key"] == old.id
    assert (await before.get(f"/v1/jobs/{by_new}")).json()["key"] == api_keys.key_id(new_token)


async def test_a_key_from_before_these_scopes_keeps_what_it_had(api, ledger, release, worker, registry):
    key, token = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))
    record = key.model_dump(mode="json", exclude={"line"}) | {"scopes": ["submit"]}
    ledger.redis.hset(LedgerKey.API_KEYS, key.id, json.dumps(record))
    old = Caller(api["anonymous"], {"Authorization": f"Bearer {token}"})
    job_id = (await api["admin"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job_id, "generate.fin")
    assert (await old.get(f"/v1/jobs/{job_id}")).status_code == 200
    assert (await old.post(f"/v1/jobs/{job_id}/feedback", json={"rating": 1})).status_code == 200
    assert [row.label for row in registry.datasets.rows("default", "feedback")] == ["fin.sa"]
    assert code(await old.post("/v1/releases/rollback"), 403) == "scope_missing"


async def test_feedback_is_data_from_a_reviewer_alone_and_names_its_key(api, scoped, release, worker, registry):
    mine, reviewer = scoped(Scope.SUBMIT), scoped(Scope.REVIEW)
    job_id = (await mine.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job_id, "generate.fin")
    await mine.post(f"/v1/jobs/{job_id}/feedback", json={"label": "fin.ha"})
    first = (await mine.get(f"/v1/jobs/{job_id}")).json()
    assert (first["feedback"]["label"], first["feedback"]["key"]) == ("fin.ha", first["key"])
    with pytest.raises(NotFound):
        registry.datasets.rows("default", "feedback")
    assert code(await reviewer.get(f"/v1/jobs/{job_id}"), 403) == "scope_missing"
    assert (await reviewer.post(f"/v1/jobs/{job_id}/feedback", json={"label": "med.qa"})).status_code == 200
    assert [row.label for row in registry.datasets.rows("default", "feedback")] == ["med.qa"]


async def test_a_training_job_is_cancelled_by_who_may_train_whatever_the_path(api, scoped):
    rows = b'{"input": "a"}\n' * 4
    await api["train"].post("/v1/datasets?name=d", content=rows)
    body = {"kind": "adapter.train", "label": "fin.sa", "dataset": "d"}
    job_id = (await api["train"].post("/v1/training/jobs", json=body)).json()["id"]
    assert code(await scoped(Scope.SUBMIT, Scope.READ).delete(f"/v1/jobs/{job_id}"), 403) == "scope_missing"
    assert (await scoped(Scope.TRAIN).delete(f"/v1/training/jobs/{job_id}")).json()["state"] == "cancelled"


@pytest.mark.parametrize("header", ["Bearer sbk_wrong", "Bearer", "Basic abc", "sbk_x", "Bearer \xff"])
async def test_a_wrong_key_is_unknown(api, header):
    answer = await api["anonymous"].get("/v1/models", headers={"Authorization": header.encode("latin-1")})
    assert code(answer, 401) in ("key_unknown", "key_missing")


async def test_health_and_metrics_need_no_key(api):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await api["anonymous"].get(path)).status_code == 200


async def test_a_tenant_sees_nothing_of_another(api, release, worker):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    dataset = (await api["train"].post("/v1/datasets?name=d", content=b'{"input": "a"}\n' * 4)).json()["id"]
    other = api["other"]
    for path in (
        f"/v1/jobs/{job_id}",
        f"/v1/jobs/{job_id}/events",
        f"/v1/datasets/{dataset}",
        f"/v1/releases/{release.id}",
    ):
        assert code(await other.get(path), 404).endswith("_not_found")
    assert code(await other.delete(f"/v1/jobs/{job_id}"), 404) == "job_not_found"
    assert code(await other.post(f"/v1/jobs/{job_id}/feedback", json={"rating": 1}), 404) == "job_not_found"
    body = {"kind": "adapter.train", "label": "fin.sa", "dataset": dataset}
    assert code(await other.post("/v1/training/jobs", json=body), 404) == "dataset_not_found"
    for path in ("/v1/jobs", "/v1/datasets", "/v1/releases", "/v1/adapters", "/v1/training/jobs"):
        assert (await other.get(path)).json()["items"] == []
    assert code(await other.post("/v1/jobs", json={"input": "x"}), 409) == "no_release"


async def test_a_key_that_was_never_used_here_is_refused_from_the_moment_it_is_revoked(api, ledger):
    key, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    api_keys.revoke(ledger.redis, key.id)
    answer = await api["anonymous"].get("/v1/models", headers={"Authorization": f"Bearer {token}"})
    assert code(answer, 401) == "key_unknown"


def test_only_the_hash_of_a_key_is_stored(ledger):
    key, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.TRAIN}), name="ci")
    assert len(token) >= 4 + 43  # 256 bits in base64
    for name in ledger.redis.keys("*"):
        assert token not in str(ledger.redis.hgetall(name))
    assert api_keys.authenticate(ledger.redis, token) == key
    assert [known.name for known in api_keys.list_all(ledger.redis)] == ["ci"]


def test_a_revoked_key_stays_in_the_list_and_opens_nothing(ledger):
    key, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.TRAIN}))
    first = api_keys.revoke(ledger.redis, key.id).revoked_at
    assert api_keys.revoke(ledger.redis, key.id).revoked_at == first
    assert api_keys.list_all(ledger.redis)[0].revoked_at == first
    with pytest.raises(api_keys.Unauthenticated):
        api_keys.authenticate(ledger.redis, token)


async def status_with(api, token):
    return await api["anonymous"].get("/v1/models", headers={"Authorization": f"Bearer {token}"})


async def test_a_key_opens_nothing_once_it_has_expired_even_where_it_is_remembered(api, ledger):
    key, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}), lifetime=timedelta(seconds=2))
    assert (await status_with(api, token)).status_code == 200
    ended = await eventually_not(api, token)
    assert code(ended, 401) == "key_expired"
    assert key.seconds_left <= 0


async def eventually_not(api, token):
    """The first refusal; a key is remembered for five seconds, this one no longer than it lives."""
    until = time.monotonic() + 4
    while (answer := await status_with(api, token)).status_code == 200:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    return answer


async def test_a_rotated_key_works_beside_its_successor_for_the_overlap(api, ledger):
    scopes = frozenset({api_keys.Scope.SUBMIT, api_keys.Scope.TRAIN})
    old, old_token = api_keys.create(ledger.redis, scopes, tenant_id="acme", name="ci", tokens_per_minute=5)
    new, new_token = api_keys.rotate(ledger.redis, old.id, timedelta(hours=1))
    same = {"tenant_id", "name", "scopes", "requests_per_minute", "tokens_per_minute", "expires_at"}
    assert new.model_dump(include=same) == old.model_dump(include=same)
    assert (new.replaces, new_token != old_token) == (old.id, True)
    for token in (old_token, new_token):
        assert (await status_with(api, token)).status_code == 200
    known = {key.id: key for key in api_keys.list_all(ledger.redis)}
    assert 3590 < known[old.id].seconds_left <= 3600


async def test_a_key_rotated_without_overlap_is_refused_at_once(api, ledger):
    old, old_token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}), lifetime=timedelta(days=30))
    new, new_token = api_keys.rotate(ledger.redis, old.id, timedelta())
    assert code(await status_with(api, old_token), 401) == "key_expired"
    assert (await status_with(api, new_token)).status_code == 200
    assert 29.9 * 86_400 < new.seconds_left <= 30 * 86_400  # as long as the old one was made for


def test_a_rotation_never_lengthens_a_keys_life_and_an_ended_key_has_no_successor(ledger):
    old, _ = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}), lifetime=timedelta(minutes=1))
    api_keys.rotate(ledger.redis, old.id, timedelta(days=1))
    known = {key.id: key for key in api_keys.list_all(ledger.redis)}
    assert known[old.id].expires_at == old.expires_at
    api_keys.revoke(ledger.redis, old.id)
    with pytest.raises(Conflict, match="revoked or has expired"):
        api_keys.rotate(ledger.redis, old.id, timedelta())
    with pytest.raises(NotFound):
        api_keys.rotate(ledger.redis, "key_none", timedelta())


LACKS = {
    "proposals": "review",
    "jobs": "train",
    "select": "train",
    "training": "submit",
    "datasets": "submit",
    "corpora": "submit",
    "adapters": "submit",
    "releases": "submit",
    "rebases": "submit",
    "templates": "train",
    "aliases": "train",
    "chat": "train",
    "completions": "train",
    "webhooks": "train",
    "fine_tuning": "submit",
    "files": "review",
    "batches": "train",
    "users": "train",
    "feedback": "train",
    "traffic": "train",
}
"""A key without the scope, for each kind of route."""


async def test_no_route_reads_a_body_before_it_knows_the_key(api):
    operations = [
        (method.upper(), sample_path(path))
        for path, methods in api["app"].openapi()["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation
    ]
    assert len(operations) >= 7
    for method, path in operations:
        for key, status in (("", b"401"), (api[LACKS[path.split("/")[2]]].headers["authorization"], b"403")):
            reader, writer = await asyncio.open_connection(*api["url"].removeprefix("http://").split(":"))
            head = f"{method} {path}?name=x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Authorization: {key}\r\nContent-Length: 1000\r\n\r\n".encode())
            async with asyncio.timeout(10):
                assert (await reader.readuntil(b"\r\n"))[9:12] == status, (method, path)
            writer.close()
