"""What jobs used: counted once at the end of each, told to those who may see the jobs."""

import asyncio
import csv
import io
from datetime import timedelta

import pytest

from shared.contracts.jobs import JobState
from shared.ledger import calls
from shared.ledger.calls.usage import today
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from tests.support.api import code

FIN = "generate.fin"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
NOTHING = {"requests": 0, "failed": 0, "rejected": 0, "prompt_tokens": 0, "completion_tokens": 0}


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


@pytest.fixture
def own(ledger, api):
    """The header and the line of a key that sees its own jobs alone."""
    key, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    return {"Authorization": f"Bearer {token}"}, key.line


@pytest.fixture
def ended(api, worker):
    """Ends a job of a key, `succeeded` unless it is said otherwise."""

    async def end(client, label="fin.sa", state=JobState.SUCCEEDED, headers=None):
        sent = {"input": "x", "label": label}
        job_id = (await client.post("/v1/jobs", json=sent, headers=headers)).json()["id"]
        job = worker.take(job_id, FIN)
        result = {"choices": [{"text": "y"}], "usage": USAGE}
        fields = {"result": result} if state is JobState.SUCCEEDED else {"error": {"code": "x", "detail": "y"}}
        worker.end(job, state, **fields)
        worker.end(job, state, **fields)  # sent again after a lost reply: counted once
        return job

    return end


async def items(client, headers=None, **query):
    answer = await client.get("/v1/usage", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_requests_and_tokens_are_told_by_day_label_and_key(api, admin, ended, own):
    headers, line = own
    await ended(admin)
    await ended(admin, state=JobState.FAILED)
    await ended(api["anonymous"], label="fin.ha", headers=headers)
    day = today().isoformat()
    told = await items(admin)
    both = {"requests": 2, "failed": 1, "rejected": 0, "prompt_tokens": 14, "completion_tokens": 6}
    assert (told["items"], told["total"]) == ([{"day": day, **both}], both)
    one = NOTHING | {"requests": 1, **USAGE}
    assert (await items(admin, group_by=["label"]))["items"] == [
        {"label": "fin.ha", **one},
        {"label": "fin.sa", **one, "failed": 1},
    ]
    assert {"key": line, "label": "fin.ha", **one} in (await items(admin, group_by=["key", "label"]))["items"]


async def test_a_key_without_read_sees_its_own_line_and_other_tenants_nothing(api, admin, ended, own):
    headers, line = own
    await ended(admin)
    await ended(api["anonymous"], headers=headers)
    (row,) = (await items(api["anonymous"], headers, group_by=["key"]))["items"]
    assert (row["key"], row["requests"]) == (line, 1)
    assert (await items(api["other"]))["items"] == []


async def test_it_comes_as_csv_to_whoever_asks_for_that(admin, ended):
    await ended(admin)
    for asked in ({"params": {"format": "csv"}}, {"headers": {"Accept": "text/csv"}}):
        answer = await admin.get("/v1/usage", **asked)
        assert answer.headers["content-type"].startswith("text/csv")
        (row,) = csv.DictReader(io.StringIO(answer.text))
        assert (row["day"], row["requests"], row["completion_tokens"]) == (today().isoformat(), "1", "3")


async def test_days_are_bounded(admin, ended):
    await ended(admin)
    assert (await items(admin, **{"from": "2020-01-01", "to": "2020-12-31"}))["items"] == []
    for first, last in (("2020-01-02", "2020-01-01"), ("2018-01-01", "2020-01-01")):
        assert code(await admin.get("/v1/usage", params={"from": first, "to": last}), 422) == "span_invalid"


async def test_a_selection_counts_for_the_label_that_it_named(admin, ledger, worker):
    answer = await admin.post("/v1/select", json={"input": "x", "wait_seconds": 0})
    job = worker.take(answer.json()["id"], "select")
    selection = {"label": "fin.ha", "probability": 0.9}
    worker.end(job, JobState.SUCCEEDED, selection=selection, result=selection)
    assert (await items(admin, group_by=["label"]))["items"] == [{"label": "fin.ha", **NOTHING, "requests": 1}]


async def test_a_day_is_bounded_and_expires(admin, ended, ledger):
    (key,) = await _keys_after(ended, admin, ledger)
    assert 0 < ledger.redis.ttl(key) <= 400 * 86_400
    (field,) = ledger.redis.hgetall(key)
    ledger.redis.hset(key, mapping={f"old|l.x{number}": "1 0 0 1 1" for number in range(2000)})
    await ended(admin, label="fin.ha")
    line = field.partition("|")[0]
    assert ledger.redis.hget(key, f"{line}|*") == "1 0 0 7 3"
    assert (await items(admin, group_by=["label"]))["items"][0] == {"label": "*", **NOTHING, "requests": 1, **USAGE}


async def _keys_after(ended, admin, ledger):
    await ended(admin)
    return list(ledger.redis.scan_iter(LedgerKey.USAGE.pattern))


async def test_yesterday_is_told_apart(admin, ended, ledger):
    (key,) = await _keys_after(ended, admin, ledger)
    name, _, number = key.rpartition(":")
    ledger.redis.rename(key, f"{name}:{int(number) - 1}")
    yesterday = (today() - timedelta(days=1)).isoformat()
    assert [row["day"] for row in (await items(admin))["items"]] == [yesterday]
    assert ledger.do(calls.usage("default", today())) == []


async def test_the_command_line_prints_a_table_and_csv(command, admin, ended):
    await ended(admin)
    out, said = await asyncio.to_thread(command("usage", "--by", "label").communicate)
    assert out.splitlines()[1:] == ["fin.sa\t1\t0\t0\t7\t3", "total\t1\t0\t0\t7\t3"], said
    out, _ = await asyncio.to_thread(command("usage", "--csv").communicate)
    assert out.splitlines()[0] == "day,requests,failed,rejected,prompt_tokens,completion_tokens"
