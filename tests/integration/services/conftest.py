"""What a service is made of, on the test session's real servers and a tiny random model."""

import pytest
import redis

from services.trainer.context import TrainerClients
from services.trainer.handlers import train
from shared.contracts.jobs import JobState
from shared.contracts.rows import Row
from shared.ledger import calls
from shared.model.base import base_model_id, load_tokenizer
from shared.prompts.bound import BasePrompts
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.worker.attempt import AttemptRunner
from shared.worker.event_writer import EventWriter
from shared.worker.leases import LeaseKeeper
from tests.support.samples import rows
from tests.support.training import LABELS, SELECTOR, Jobs, add_adapter


@pytest.fixture
def attempts(ledger, settings, events):
    leases = LeaseKeeper(ledger, settings, owner="test", queues=[], info=dict)
    return AttemptRunner(ledger, Bus(make_celery(settings, "test")), leases, events, "test")


@pytest.fixture
def events(ledger):
    return EventWriter(ledger)


@pytest.fixture
def jobs(ledger):
    return Jobs(ledger)


@pytest.fixture
def base_folder(tiny_folder):
    """The base model that jobs train on; tests on the real one override it."""
    return tiny_folder


def note_workers(ledger):
    ledger.do(calls.heartbeat("w", ["generate.bank", "generate.travel", "generate.base"], [], {}, 600))


@pytest.fixture
def clients(registry, store, ledger, settings, base_folder):
    """A trainer's clients; a data set for every label, and live workers for all groups."""
    store.ensure_bucket()
    for label in LABELS:
        registry.datasets.add("t", label, [Row(**row) for row in rows(label, 24)])
    note_workers(ledger)
    tokenizer = load_tokenizer(base_folder)
    return TrainerClients(
        base_folder=base_folder,
        base_model=base_model_id(base_folder),
        base_manifest="d" * 64,
        tokenizer=tokenizer,
        prompts=BasePrompts(tokenizer, base_folder),
        registry=registry,
        store=store,
        ledger=ledger,
        work_dir=settings.data_dir / "trainer",
        store_patience_seconds=0.1,
    )


@pytest.fixture
def adapters(clients, tmp_path):
    """An adapter for every label; nobody loads these."""
    return {label: add_adapter(clients, label, tmp_path / label) for label in LABELS}


@pytest.fixture
def run(attempts, clients, jobs):
    """Run a queued training job to its end."""

    def to_end(job_id):
        attempts.run("train", lambda attempt: train(attempt, clients))
        return jobs.get(job_id)

    return to_end


@pytest.fixture(scope="session")
def made_once():
    """By base model, the job that `first` is and what the ledger held when it had ended."""
    return {}


@pytest.fixture
def first(run, jobs, adapters, ledger, settings, base_folder, made_once):
    """The job that made the current release; it is trained once, and found in the ledger as it was then."""
    with redis.Redis.from_url(settings.redis_url) as server:
        if base_folder not in made_once:
            job = run(jobs.train(**SELECTOR))
            assert job.state is JobState.SUCCEEDED, job.error
            assert job.result["promoted"], job.result
            made_once[base_folder] = job, {key: server.dump(key) for key in server.scan_iter()}
        job, held = made_once[base_folder]
        for key, value in held.items():
            server.restore(key, 0, value, replace=True)
    note_workers(ledger)
    return job
