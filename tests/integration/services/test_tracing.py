"""The spans of real attempts in selector, worker and trainer: below the request that made the job, in its trace."""

import json

import pytest

from services.adapter_worker.engine.echo import EchoEngine
from services.adapter_worker.handlers import generate
from services.selector.handlers import Reader, select
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.manifests import Release, ReleaseSelector, Verdict
from shared.errors import Invalid
from shared.ledger.keys import LedgerKey
from shared.observability import tracing
from tests.support.echo_release import DIGEST, RELEASE, prompts
from tests.support.spans import CALLER, CALLERS_TRACE, Spans, is_below

TRACED = {"trace": {"traceparent": CALLER}}
ROUTED = {"state": JobState.ROUTED, "label": "bank.cards", "deadline_seconds": 60}


@pytest.fixture
def spans():
    yield Spans()
    tracing.trace_with(None)


@pytest.fixture
def generated(attempts, tmp_path):
    tools = {"base_model": "tiny", "fetch": lambda _: tmp_path, "prompts": prompts, "store_patience_seconds": 0}

    def run(job_id, engine=None):
        def work(attempt):
            generate(attempt, RELEASE, engine=engine or EchoEngine(), **tools)

        attempts.run("generate.bank", work)

    return run


def test_a_generation_is_one_trace_of_delivery_work_adapter_and_engine(spans, jobs, generated):
    job_id = jobs.new(JobKind.GENERATE, "generate.bank", {"input": "card limit"}, **ROUTED, **TRACED)
    generated(job_id)
    receive, process = spans.one("receive generate.bank"), spans.one("process generate.bank")
    assert {span.context.trace_id for span in spans.all()} == {CALLERS_TRACE}
    assert format(receive.parent.span_id, "016x") == CALLER.split("-")[2]
    assert is_below(process, receive)
    assert is_below(spans.one("load adapter"), process)
    engine = spans.one("engine")
    assert is_below(engine, process)
    assert spans.one("load adapter").attributes["signalbox.adapter"] == DIGEST
    assert engine.attributes["signalbox.generated_tokens"] == 3
    (first_token,) = engine.events
    assert engine.start_time <= first_token.timestamp <= engine.end_time
    assert process.attributes["signalbox.job"] == job_id
    assert process.attributes["signalbox.label"] == "bank.cards"
    assert process.links == ()
    waited_ms = jobs.get(job_id).stage_ms()["routed"]
    assert receive.end_time - receive.start_time == pytest.approx(waited_ms * 1e6, abs=2e3)


def test_a_job_that_carries_no_trace_makes_none(spans, jobs, generated):
    job_id = jobs.new(JobKind.GENERATE, "generate.bank", {"input": "card limit"}, **ROUTED)
    generated(job_id)
    assert jobs.get(job_id).state is JobState.SUCCEEDED
    assert spans.names() == []


def test_what_the_caller_does_not_sample_is_not_recorded(spans, jobs, generated):
    trace = {"traceparent": CALLER.removesuffix("01") + "00"}
    generated(jobs.new(JobKind.GENERATE, "generate.bank", {"input": "card limit"}, **ROUTED, trace=trace))
    assert spans.names() == []


def test_an_attempt_after_a_lost_one_links_to_the_first_delivery(spans, jobs, generated, attempts):
    job_id = jobs.new(JobKind.GENERATE, "generate.bank", {"input": "card limit"}, **ROUTED, **TRACED)
    jobs.lose_after(job_id, attempt_that_dies, queue="generate.bank")
    generated(job_id)
    first, again = spans.named("receive generate.bank")
    assert [span.attributes["signalbox.attempt"] for span in (first, again)] == [1, 2]
    _, process = spans.named("process generate.bank")
    (link,) = process.links
    assert (link.context.trace_id, link.context.span_id) == (CALLERS_TRACE, first.context.span_id)
    assert is_below(process, again)


def attempt_that_dies(job):
    with tracing.attempt(job):
        pass


def test_the_first_attempt_of_the_next_queue_links_to_nothing(spans, jobs, attempts, generated):
    job_id = jobs.new(JobKind.GENERATE, "select", {"input": "card limit"}, deadline_seconds=60, **TRACED)
    selected(attempts, job_id)
    generated(job_id)
    assert jobs.get(job_id).state is JobState.SUCCEEDED
    assert spans.one("process select").links == spans.one("process generate.bank").links == ()
    score = spans.one("score")
    assert is_below(score, spans.one("process select"))
    assert (score.attributes["signalbox.by"], score.attributes["signalbox.best_label"]) == ("light", "bank.cards")
    assert {span.context.trace_id for span in spans.all()} == {CALLERS_TRACE}


def selected(attempts, job_id):
    """What the selector does, with a light part that is sure."""
    chooser = ReleaseSelector(light="f" * 64, labels=("bank.cards", "none.none"))
    release = Release(
        tenant_id="t",
        base_model="tiny",
        labels=RELEASE.labels,
        selector=chooser,
        verdict=Verdict(passed=True, reasons=()),
    )
    tools = {"prefetch": lambda _: None, "base_model": lambda: "tiny", "store_patience_seconds": 0}

    def work(attempt):
        reader = Reader(light=lambda *_: [0.0, -9.0], llm=lambda *_: [], near=lambda *_: [], **tools)
        select(attempt, release, reader)

    attempts.run("select", work)


def test_a_failed_attempt_says_why(spans, jobs, attempts):
    jobs.new(JobKind.GENERATE, "generate.bank", {"input": "x"}, **ROUTED, **TRACED)

    def work(*_):
        raise Invalid("label_unknown", "release r has no label bank.cards")

    attempts.run("generate.bank", work)
    span = spans.one("process generate.bank")
    assert not span.status.is_ok
    assert "release r has no label bank.cards" in span.status.description


def test_a_training_tells_its_stages(spans, jobs, run, clients, ledger):
    job_id = jobs.train(kind="adapter.train", label="bank.cards", dataset="bank.cards")
    ledger.redis.hset(LedgerKey.JOB.of(job_id), "trace", json.dumps(TRACED["trace"]))
    job = run(job_id)
    assert job.state is JobState.SUCCEEDED, job.error
    stages = [event.name for event in spans.one("process train").events]
    assert "checkpoint" in stages
    assert "training" not in stages
