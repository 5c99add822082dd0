"""What a training job's context decides by itself; whatever needs a ledger stands in tests/integration/services."""

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest

from services.trainer.context import TrainerClients, TrainingContext, attempt_folder, forget_checkpoints
from shared.contracts.jobs import Job
from shared.contracts.training import SelectorDelete
from shared.contracts.training_settings import LoraSettings
from shared.contracts.training_tasks import AdapterTrain
from shared.errors import Cancelled, Unavailable
from shared.registry.store import FolderStore
from shared.worker.attempt import Attempt
from shared.worker.leases import HeldJob

ADAPTER = AdapterTrain(label="fin.sa", dataset="fin.sa")


class UnreachableStore(FolderStore):
    """Does not answer."""

    def keys(self, prefix):
        raise Unavailable("store_unreachable", f"no answer about {prefix}")


@pytest.fixture
def clients(tmp_path):
    """The clients that these tests use; the others are None."""
    unused = dict.fromkeys(field.name for field in fields(TrainerClients))
    return TrainerClients(**unused | {"work_dir": tmp_path / "work", "store": FolderStore(tmp_path / "store")})


def job(job_id="j", attempt=0):
    fixed = {
        "tenant_id": "t",
        "kind": "train",
        "stage": "train",
        "state": "running",
        "queue": "train",
        "body": {},
        "timestamps": {},
    }
    return Job(id=job_id, attempt=attempt, **fixed)


def context_of(job, clients):
    attempt = Attempt(job, HeldJob(job), ledger=None, bus=None, events=None, retry_seconds=0)
    return TrainingContext(attempt, ADAPTER, clients)


def test_an_attempt_gets_an_empty_folder_and_those_of_the_jobs_killed_attempts_go(clients):
    killed, other = attempt_folder(clients, job(attempt=1)), attempt_folder(clients, job("other"))
    for folder in (killed, other):
        folder.mkdir(parents=True)
        (folder / "weights").write_text("left")

    folder = context_of(job(attempt=2), clients).folder()

    assert list(folder.iterdir()) == []
    assert not killed.exists()
    assert (other / "weights").exists()


def test_a_temporary_folder_is_gone_when_it_closes(clients):
    with context_of(job(), clients).temporary() as folder:
        (folder / "light.safetensors").write_text("x")

    assert list(clients.work_dir.iterdir()) == []


def test_a_job_that_has_to_stop_ends_at_the_next_check_and_within_one_step_of_its_run(clients):
    context = context_of(job(), clients)
    should_stop = context.callbacks().should_stop
    context.check()
    assert not should_stop()

    context.lease.stop("cancel")

    assert should_stop()
    with pytest.raises(Cancelled):
        context.check()


def test_another_body_belongs_to_the_same_attempt(clients):
    context = context_of(job(), clients)
    narrowed = context.with_body(SelectorDelete(labels=("fin.sa",)))

    assert narrowed.body.kind == "selector.delete"
    assert (narrowed.attempt, narrowed.clients) == (context.attempt, context.clients)


def test_a_jobs_attempts_keep_the_precision_that_the_first_one_settled(clients, monkeypatch):
    stored = replace(clients, registry=SimpleNamespace(store=clients.store))
    for first_or_later, here in ((1, "bfloat16"), (2, "float32")):
        monkeypatch.setattr("services.trainer.context.training_precision", lambda here=here: here)
        assert context_of(job(attempt=first_or_later), stored).settled().body.settings.precision == "bfloat16"
    assert context_of(job("other"), stored).settled().body.settings.precision == "float32"


def test_a_precision_that_a_job_names_stays(clients):
    body = ADAPTER.model_copy(update={"settings": LoraSettings(precision="bfloat16")})
    named = context_of(job(), clients).with_body(body)
    assert named.settled() is named


def test_the_checkpoints_of_an_ended_job_go_and_those_of_others_stay(clients):
    for key in ("checkpoints/j/000000002.tar", "checkpoints/j/0.5/000000004.tar", "checkpoints/j2/000000002.tar"):
        clients.store.put(key, b"x")

    forget_checkpoints(clients, job("j"))

    assert clients.store.keys("checkpoints/") == ["checkpoints/j2/000000002.tar"]


def test_a_store_that_does_not_answer_keeps_no_job_from_ending(clients, tmp_path):
    forget_checkpoints(replace(clients, store=UnreachableStore(tmp_path)), job())
