"""The label that a conversation was last answered with: whose it is, who writes it, how long it is kept."""

import json

import pytest

from shared.contracts.dialogue import Kept
from shared.contracts.jobs import JobKind, NewJob, new_job_id
from shared.errors import StaleAttempt
from shared.ledger import calls
from shared.ledger.calls import CancelledMeanwhile
from shared.ledger.keys import LedgerKey

CARDS = Kept("bank.cards", 0.75)
DAY = 24 * 3600


def make(ledger, conversation="c", tenant="t", line="", kind=JobKind.GENERATE, **fields):
    metadata = {"conversation_id": conversation} if conversation else {}
    job = NewJob(
        id=new_job_id(tenant),
        tenant_id=tenant,
        kind=kind,
        stage="select",
        queue="select",
        body={"input": "x", "metadata": metadata},
        key_line=line,
        **fields,
    )
    ledger.do(calls.create(job, ttl_seconds=60))
    return ledger.do(calls.acquire(job.id, "select", "w", 60))


def route(ledger, job, kept=CARDS):
    ledger.do(calls.route(job, queue="generate.bank", label="bank.cards", selection={}, kept=kept))


def known(ledger, **whose):
    return ledger.do(calls.kept_label(make(ledger, **whose)))


def keys(ledger):
    return list(ledger.redis.scan_iter(LedgerKey.CONVERSATION.pattern))


def test_the_next_job_of_the_conversation_knows_the_label(ledger):
    assert known(ledger) is None
    route(ledger, make(ledger))
    assert known(ledger) == CARDS
    route(ledger, make(ledger), Kept("bank.loans", 1.0))
    assert known(ledger) == Kept("bank.loans", 1.0)


def test_a_label_that_the_caller_names_is_noted_once_the_job_exists(ledger):
    first = make(ledger, kept_label="bank.cards")
    assert known(ledger) == Kept("bank.cards", 1.0)
    route(ledger, make(ledger), Kept("bank.loans", 0.9))
    again = NewJob(**first.model_dump(include=NewJob.model_fields.keys() - {"release"}), kept_label="bank.cards")
    assert ledger.do(calls.create(again, ttl_seconds=60)).existing
    assert known(ledger) == Kept("bank.loans", 0.9)


@pytest.mark.parametrize(
    "other",
    [{"conversation": "d"}, {"tenant": "u"}, {"line": "another"}, {"conversation": ""}, {"conversation": '["", "c"]'}],
)
def test_no_other_conversation_tenant_or_key_knows_it(ledger, other):
    route(ledger, make(ledger))
    assert known(ledger, **other) is None


def test_a_new_key_of_the_same_line_knows_it(ledger):
    route(ledger, make(ledger, line="one"))
    assert known(ledger, line="one") == CARDS


def test_nothing_is_noted_without_a_conversation_or_without_a_label(ledger):
    route(ledger, make(ledger, conversation=""))
    route(ledger, make(ledger), kept=None)
    assert keys(ledger) == []


def test_a_stale_attempt_notes_nothing(ledger):
    old = make(ledger)
    ledger.redis.zadd(LedgerKey.LEASED.of("select"), {old.id: 1})
    ledger.redis.hset(LedgerKey.JOB.of(old.id), "lease_until", 1)
    ledger.do(calls.expire("select"))
    with pytest.raises(StaleAttempt):
        route(ledger, old)
    assert keys(ledger) == []
    new = ledger.do(calls.acquire(old.id, "select", "w2", 60))
    route(ledger, new, Kept("bank.loans", 0.5))
    with pytest.raises(StaleAttempt):
        route(ledger, old)
    assert known(ledger) == Kept("bank.loans", 0.5)


def test_a_job_that_was_cancelled_meanwhile_notes_nothing(ledger):
    job = make(ledger)
    ledger.do(calls.cancel(job.id, "t"))
    with pytest.raises(CancelledMeanwhile):
        route(ledger, job)
    assert keys(ledger) == []


def test_it_is_forgotten_a_day_after_the_last_answer(ledger):
    route(ledger, make(ledger))
    (key,) = keys(ledger)
    ledger.redis.expire(key, 60)
    route(ledger, make(ledger))
    assert DAY - 60 < ledger.redis.ttl(key) <= DAY


def test_what_it_takes_counts_for_its_tenant_and_is_given_back(ledger):
    before = held(ledger)
    jobs = [make(ledger, conversation=name) for name in ("c", "d")]
    of_jobs = held(ledger)
    for job in jobs:
        route(ledger, job)
    assert held(ledger) > of_jobs > before
    forget(ledger, held(ledger))
    assert (held(ledger), keys(ledger)) == (of_jobs, [])


def test_an_older_answers_place_does_not_take_a_newer_answers_label_along(ledger):
    route(ledger, make(ledger))
    shift_kept_to_the_past(ledger)
    route(ledger, make(ledger), Kept("bank.loans", 0.5))
    forget(ledger, 0)
    assert known(ledger) == Kept("bank.loans", 0.5)


def held(ledger):
    return int(ledger.redis.hget(LedgerKey.HELD, "t") or 0)


def forget(ledger, size):
    ledger.do(calls.forget("t", 1000, free_bytes=size, min_ttl_seconds=0))


def shift_kept_to_the_past(ledger):
    """Let more than a day pass for what is kept so far."""
    of_tenant = LedgerKey.KEPT.of("t")
    for member, at in ledger.redis.zrange(of_tenant, 0, -1, withscores=True):
        name, size, end, *more = member.split("|")
        past = json.loads(end) - 2 * DAY * 1000
        ledger.redis.zrem(of_tenant, member)
        ledger.redis.zadd(of_tenant, {"|".join([name, size, f"{past:.3f}", *more]): at - 2 * DAY * 1000})
