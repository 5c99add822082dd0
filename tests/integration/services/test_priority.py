"""Batch work waits for interactive work in the worker, and gets its turn all the same."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.adapter_worker.handlers import generate
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.manifests import Release, Verdict
from tests.support.echo_release import prompts

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
    tools = {"engine": engine, "base_model": "tiny", "fetch": None, "prompts": prompts, "store_patience_seconds": 0}
    return lambda: attempts.run(QUEUE, lambda attempt: generate(attempt, RELEASE, **tools))


@pytest.fixture
def submit(jobs):
    def submit(**body):
        return jobs.new(JobKind.GENERATE, QUEUE, {"input": "how far is it", "params": {"max_new_tokens": 4}, **body})

    return submit


def wait_for(count, engine):
    until = time.monotonic() + 10
    while engine.running_count < count:
        assert time.monotonic() < until
        threading.Event().wait(0.005)


def test_a_batch_job_lets_interactive_ones_go_first_but_not_for_ever(jobs, engine, served, work, submit):
    batch = []
    may_begin = threading.Event()
    with ThreadPoolExecutor(12) as pool:
        pool.submit(engine._on_engine_thread, may_begin.wait)
        for count, priority in enumerate(["batch"] * 2 + ["interactive"] * 9, start=1):
            job_id = submit(priority=priority)
            batch += [job_id] * (priority == "batch")
            pool.submit(work)  # the only job that waits in the ledger
            wait_for(count, engine)
        may_begin.set()
    assert [job_id in batch for job_id in served] == [*[False] * 4, True, *[False] * 4, True, False]
    assert all(jobs.get(job_id).state == JobState.SUCCEEDED for job_id in served)


def test_what_a_worker_takes_ahead_keeps_an_interactive_job_waiting_no_longer_than_that(engine, served, work, submit):
    taken, ahead = 5, 4  # threads of a worker with one slot
    may_begin = threading.Event()
    with ThreadPoolExecutor(taken + 1) as pool:
        pool.submit(engine._on_engine_thread, may_begin.wait)
        batch = [submit(priority="batch") for _ in range(20)]
        for _ in batch:
            pool.submit(work)
        wait_for(taken, engine)
        live = submit()
        pool.submit(work)
        may_begin.set()
    assert list(served).index(live) <= 1 + ahead
    assert set(served) == {live, *batch}
