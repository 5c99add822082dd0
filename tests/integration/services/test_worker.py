"""A generation whose adapter is unloaded, or whose store is away, just then."""

import pytest

from services.adapter_worker.engine.echo import EchoEngine
from services.adapter_worker.handlers import generate, make_resident
from shared.contracts.jobs import JobKind, JobState
from shared.errors import NotFound, Unavailable
from shared.worker.leases import HeldJob
from tests.support.echo_release import DIGEST, RELEASE


class Unloading(EchoEngine):
    """Loses the adapter to a promotion, `times` times, when a job is about to use it."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def generate(self, request, on_text):
        self.times -= 1
        if self.times >= 0:
            self.unload_adapter(request.adapter)
        return super().generate(request, on_text)


@pytest.fixture
def generated(jobs, attempts, tmp_path):
    def run(engine):
        body = {"input": "card limit"}
        job_id = jobs.new(JobKind.GENERATE, "generate.bank", body, label="bank.cards", deadline_seconds=60)
        tools = {"engine": engine, "fetch": lambda _: tmp_path, "store_patience_seconds": 0}
        attempts.run(job_id, "generate.bank", lambda attempt: generate(attempt, RELEASE, **tools))
        return jobs.get(job_id)

    return run


def test_an_adapter_unloaded_just_before_its_job_is_loaded_again(generated):
    job = generated(Unloading(times=1))
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result["adapter"] == DIGEST


def test_an_adapter_that_never_stays_fails_its_job(generated):
    assert generated(Unloading(times=9)).error["code"] == "adapter_not_loaded"


def test_an_adapter_waits_for_the_store_and_a_lost_one_says_so(jobs, tmp_path):
    held = HeldJob(jobs.take(jobs.train()))
    engine, answers = EchoEngine(), [Unavailable("store_unavailable", "away"), NotFound("object_not_found", "gone")]

    def fetch(_):
        if answers:
            raise answers.pop(0)
        return tmp_path

    with pytest.raises(NotFound) as error:
        make_resident(engine, DIGEST, fetch, held, 0.05)
    assert error.value.code == "adapter_missing"
    make_resident(engine, DIGEST, fetch, held, 0)
    assert DIGEST in engine.resident
