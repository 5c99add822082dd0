"""Limits of a key: requests and tokens a minute, counted in the ledger."""

import contextlib

import pytest

from services.api.infra.rate_limits import estimated_tokens
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.api import client_of, code, serving


@pytest.fixture
def limited(api, ledger):
    """A client with a new key of these limits."""
    opened = []

    def make(**limits):
        _, token = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}), **limits)
        opened.append(client_of(api["url"], token))
        return opened[-1]

    return make


def refused(answer, why):
    assert code(answer, 429) == why
    assert answer.json()["retryable"]
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    return answer


async def test_a_key_is_refused_what_is_above_its_requests_a_minute_and_no_other_key_is(limited):
    first, second = limited(requests_per_minute=3), limited(requests_per_minute=3)
    assert [(await first.get("/v1/models")).status_code for _ in range(3)] == [200] * 3
    refused(await first.get("/v1/models"), "too_many_requests")
    refused(await first.post("/v1/jobs", json={"input": "x"}), "too_many_requests")
    assert (await second.get("/v1/models")).status_code == 200


async def test_the_limit_is_one_for_all_processes_and_connections(settings, limited, api):
    client = limited(requests_per_minute=4)
    async with serving(settings) as (_, url), client_of(url) as elsewhere:
        elsewhere.headers = client.headers
        for one in (client, elsewhere, client, elsewhere):
            assert (await one.get("/v1/models")).status_code == 200
        for one in (client, elsewhere):
            refused(await one.get("/v1/models"), "too_many_requests")


async def test_a_key_without_a_limit_has_the_settings_and_zero_means_none(settings, release, ledger):
    bounded = settings.model_copy(update={"requests_per_minute": 2})
    _, plain = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}))
    _, free = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}), requests_per_minute=0)
    async with serving(bounded) as (_, url), client_of(url, plain) as usual, client_of(url, free) as unbounded:
        assert [(await usual.get("/v1/models")).status_code for _ in range(3)] == [200, 200, 429]
        assert [(await unbounded.get("/v1/models")).status_code for _ in range(5)] == [200] * 5


async def test_a_job_counts_its_text_and_the_answer_it_asks_for(limited, release, ledger):
    client = limited(tokens_per_minute=100)
    body = {"input": "x" * 80, "label": "fin.sa", "params": {"max_new_tokens": 30}}  # 20 + 30
    assert [(await client.post("/v1/jobs", json=body)).status_code for _ in range(2)] == [202, 202]
    refused(await client.post("/v1/jobs", json=body), "too_many_tokens")
    refused(await client.post("/v1/select", json={"input": "x" * 40}), "too_many_tokens")
    several = await client.post("/v1/jobs", json=body | {"params": {"max_new_tokens": 30, "n": 3}})  # 20 + 90
    assert code(several, 422) == "above_token_limit"
    assert ledger.redis.zcard(LedgerKey.JOBS.of("default")) == 2


async def test_a_repeated_request_costs_no_tokens_and_another_one_does(limited, release):
    client = limited(tokens_per_minute=100)
    body = {"input": "x" * 80, "label": "fin.sa", "params": {"max_new_tokens": 40}}  # 20 + 40
    same = {"headers": {"Idempotency-Key": "k1"}, "json": body}
    answers = [await client.post("/v1/jobs", **same) for _ in range(3)]
    assert [(a.status_code, a.json()["id"]) for a in answers] == [(202, answers[0].json()["id"])] * 3
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    named = {"headers": {"Idempotency-Key": "k3"}, "json": {"input": "x" * 80, "wait_seconds": 0}}  # 20
    assert [(await client.post("/v1/select", **named)).status_code for _ in range(3)] == [202] * 3
    refused(await client.post("/v1/jobs", headers={"Idempotency-Key": "k2"}, json=body), "too_many_tokens")


async def test_a_job_above_a_whole_minutes_tokens_is_told_so_and_not_to_wait(limited, release):
    client = limited(tokens_per_minute=100)
    body = {"input": "x", "params": {"max_new_tokens": 200}}
    answer = await client.post("/v1/jobs", json=body)
    assert code(answer, 422) == "above_token_limit"
    assert not answer.json()["retryable"]
    assert (await client.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).status_code == 202  # 1 + 64


async def test_an_answer_without_a_stated_length_counts_as_long_as_it_may_get(limited, release):
    client = limited(tokens_per_minute=64)
    assert code(await client.post("/v1/jobs", json={"input": "x"}), 422) == "above_token_limit"


async def test_limits_leave_nothing_in_the_ledger_for_long(limited, ledger):
    with contextlib.closing(ledger.redis) as client:
        await limited(requests_per_minute=5, tokens_per_minute=100).get("/v1/models")
        found = client.keys(LedgerKey.LIMITS.pattern)
        assert found
        assert all(0 < client.ttl(name) <= 120 for name in found)


def test_tokens_are_estimated_by_bytes_and_never_to_nothing():
    assert [estimated_tokens(text) for text in ("", "a", "abcde", "ääää", "字字字字")] == [0, 1, 2, 2, 3]


async def test_a_request_counts_once_however_many_parts_of_its_route_ask_for_the_key(limited, release, worker):
    client = limited(requests_per_minute=3)
    job = (await client.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job, "generate.fin")
    answers = [await client.post(f"/v1/jobs/{job}/feedback", json={"rating": 1}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_feedback_of_a_key_that_may_not_review_is_limited_and_costs_its_tokens(settings, release, ledger, worker):
    bounded = settings.model_copy(update={"feedback_per_minute": 2})
    _, plain = api_keys.create(ledger.redis, frozenset({Scope.SUBMIT}), tokens_per_minute=100)
    _, reviewing = api_keys.create(ledger.redis, frozenset({Scope.REVIEW}))
    async with serving(bounded) as (_, url), client_of(url, plain) as submitter, client_of(url, reviewing) as reviewer:
        ask = {"input": "x", "label": "fin.sa", "params": {"max_new_tokens": 1}}
        job_id = (await submitter.post("/v1/jobs", json=ask)).json()["id"]
        worker.run(job_id, "generate.fin")
        path = f"/v1/jobs/{job_id}/feedback"
        assert code(await submitter.post(path, json={"output": "y" * 500}), 422) == "above_token_limit"
        assert (await submitter.post(path, json={"rating": 1})).is_success
        refused(await submitter.post(path, json={"rating": 1}), "too_many_feedback")
        assert [(await reviewer.post(path, json={"rating": 1})).status_code for _ in range(4)] == [200] * 4
