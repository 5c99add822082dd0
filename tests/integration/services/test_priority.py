"""Batch work waits for interactive work in the worker, and gets its turn all the same."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.adapter_worker.handlers import generate
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.manifests import Release, Verdict

QUEUE = "generate.base"
RELEASE = Release(tenant_id="t", base_model="tiny", labels={}, verdict=Verdict(passed=True, reasons=()))


@pytest.fixture
def engine(kit):
    engine = kit.engine(max_batch=1)
    yield engine
    engine.close()


@pytest.fixture
def served(events):
    """Ids of jobs in the order in which the engine's thread shows their text."""
    order = {}
    put = events.put

    def note(job, kind, data):
        order.setdefault(job.id)
        put(job, kind, data)

    events.put = note
    return order


@pytest.fixture
def work(engine, attempts):
    tools = {"engine": engine, "base_model": "tiny", "fetch": None, "store_patience_seconds": 0}
    return lambda job_id: attempts.run(job_id, QUEUE, lambda attempt: generate(attempt, RELEASE, **tools))


def wait_for(count, engine):
    until = time.monotonic() + 10
    while engine.running_count < count:
        assert time.monotonic() < until
        threading.Event().wait(0.005)


def test_a_batch_job_lets_interactive_ones_go_first_but_not_for_ever(jobs, engine, served, work):
    def submit(**body):
        body = {"input": "how far is it", "params": {"max_new_tokens": 4}, **body}
        return jobs.new(JobKind.GENERATE, QUEUE, body)

    batch = [submit(priority="batch") for _ in range(2)]
    live = [submit() for _ in range(9)]
    may_begin = threading.Event()
    with ThreadPoolExecutor(12) as pool:
        pool.submit(engine._on_engine_thread, may_begin.wait)
        for count, job_id in enumerate(batch + live, start=1):
            pool.submit(work, job_id)
            wait_for(count, engine)
        may_begin.set()
    assert [job_id in batch for job_id in served] == [*[False] * 4, True, *[False] * 4, True, False]
    assert all(jobs.get(job_id).state == JobState.SUCCEEDED for job_id in served)
