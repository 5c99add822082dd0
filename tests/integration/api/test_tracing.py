"""The span of a request, and the trace that its job carries."""

import pytest

from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.observability import tracing
from tests.support.api import client_of, serving
from tests.support.spans import CALLER, CALLERS_TRACE, Spans


@pytest.fixture
def spans():
    yield Spans()
    tracing.trace_with(None)


@pytest.fixture
async def client(spans, settings, tokens, release):
    async with serving(settings) as (_, url), client_of(url, tokens["admin"]) as client:
        yield client


async def test_a_job_goes_on_in_its_callers_trace(client, spans, ledger):
    headers = {"traceparent": CALLER, "tracestate": "vendor=1"}
    job_id = (await client.post("/v1/jobs", json={"input": "x"}, headers=headers)).json()["id"]
    span = spans.one("POST /v1/jobs")
    assert span.context.trace_id == CALLERS_TRACE
    assert format(span.parent.span_id, "016x") == CALLER.split("-")[2]
    assert span.attributes["http.response.status_code"] == 202
    carried = ledger.do(calls.get(job_id)).trace
    assert carried == {
        "traceparent": f"00-{CALLERS_TRACE:032x}-{span.context.span_id:016x}-01",
        "tracestate": "vendor=1",
    }


async def test_without_a_callers_trace_or_with_a_broken_one_the_job_has_its_own(client, spans, ledger):
    for headers in ({}, {"traceparent": "00-nonsense"}, {"traceparent": CALLER.replace("00-", "ff-", 1)}):
        job_id = (await client.post("/v1/jobs", json={"input": "x"}, headers=headers)).json()["id"]
        span = spans.named("POST /v1/jobs")[-1]
        assert span.parent is None
        assert f"{span.context.trace_id:032x}" in ledger.do(calls.get(job_id)).trace["traceparent"]
    assert len({span.context.trace_id for span in spans.named("POST /v1/jobs")}) == 3


async def test_a_callers_state_beyond_what_w3c_promises_is_left_out(client, spans, ledger):
    state = ",".join(f"vendor{n}={'x' * 200}" for n in range(4))
    headers = {"traceparent": CALLER, "tracestate": state}
    job_id = (await client.post("/v1/jobs", json={"input": "x"}, headers=headers)).json()["id"]
    assert set(ledger.do(calls.get(job_id)).trace) == {"traceparent"}


async def test_selections_and_training_carry_it_too(client, spans, ledger):
    headers = {"traceparent": CALLER}
    await client.post("/v1/select", json={"input": "x", "wait_seconds": 0.01}, headers=headers)
    rows = b'{"input": "a", "output": "b"}\n' * 8
    await client.post("/v1/datasets?name=rows", content=rows)
    body = {"kind": "adapter.train", "label": "fin.sa", "dataset": "rows"}
    answer = await client.post("/v1/training/jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    jobs = [
        ledger.do(calls.get(key.removeprefix(LedgerKey.JOB))) for key in ledger.redis.scan_iter(LedgerKey.JOB.pattern)
    ]
    assert {job.kind for job in jobs} == {"select", "train"}
    assert all(f"{CALLERS_TRACE:032x}" in job.trace["traceparent"] for job in jobs)


async def test_refusals_are_seen_and_what_supervisors_ask_is_not(client, spans):
    await client.get("/v1/jobs/job_none")
    for path in ("/healthz", "/readyz", "/metrics"):
        await client.get(path)
    (span,) = spans.all()
    assert (span.name, span.attributes["http.response.status_code"]) == ("GET /v1/jobs/{job_id}", 404)


async def test_while_tracing_is_off_a_job_carries_nothing(settings, tokens, release, ledger):
    tracing.trace_with(None)
    async with serving(settings) as (_, url), client_of(url, tokens["submit"]) as client:
        headers = {"traceparent": CALLER}
        job_id = (await client.post("/v1/jobs", json={"input": "x"}, headers=headers)).json()["id"]
    assert not ledger.redis.hexists(LedgerKey.JOB.of(job_id), "trace")
