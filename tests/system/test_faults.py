"""Faults injected for real: processes killed, servers killed and restarted, releases moved under load."""

import contextlib
import os
import shutil
import signal

import psutil
import redis
from signalbox import Answer

from shared.ledger.keys import LedgerKey
from tests.support.eventually import eventually
from tests.support.samples import TRAINING

SLOW = {"max_new_tokens": 600, "temperature": 1.0, "seed": 1}
QUICK = {"max_new_tokens": 4}


def running(system, job_id):
    return eventually(lambda: system.job(job_id)["state"] == "running" and system.worker_of(job_id), "the job runs")


def all_ended(system, jobs):
    return [system.ended(job_id) for job_id in jobs]


def test_a_worker_killed_in_mid_job_is_replaced_and_the_job_succeeds_elsewhere(released):
    job_id = released.submit(label="bank.cards", params=SLOW)
    worker = running(released, job_id)
    started = released.job(job_id)["timestamps"]["running"]
    worker.kill()
    job = released.ended(job_id)
    assert job["state"] == "succeeded", job["error"]
    assert job["attempt"] == 2
    assert job["timestamps"]["running"] - started < 30_000
    answer, tries = Answer(), []
    for event in released.client.stream(job_id):
        answer.add(event)
        tries += [event.data["try"]] if event.type == "restart" else []
    assert (answer.text, tries) == (job["result"]["text"], [2])
    released.wait_serving()


def test_a_frozen_worker_that_wakes_up_late_writes_nothing(released):
    job_id = released.submit(label="bank.cards", params=SLOW)
    worker = running(released, job_id)
    worker.suspend()
    try:
        job = released.ended(job_id)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # on a slow machine the supervisor has replaced it by now
            worker.resume()
    assert job["state"] == "succeeded"
    assert job["attempt"] == 2
    released.wait_serving()
    assert released.job(job_id)["result"] == job["result"]
    finals = [e for _, e in released.redis.xrange(LedgerKey.EVENTS.of(job_id)) if '"succeeded"' in e["data"]]
    assert len(finals) == 1


def test_the_selector_killed_under_load_loses_nothing(released):
    jobs = [released.submit(f"card {n}", params=QUICK) for n in range(20)]
    released.kill("selector-1")
    jobs += [released.submit(f"balance {n}", params=QUICK) for n in range(5)]
    assert {job["state"] for job in all_ended(released, jobs)} == {"succeeded"}
    released.wait_serving()


def test_a_worker_that_is_told_to_stop_finishes_or_gives_back_and_fails_nothing(released):
    jobs = [released.submit(label="bank.cards", params=SLOW) for _ in range(6)]
    running(released, jobs[0]).send_signal(signal.SIGTERM)
    ended = all_ended(released, jobs)
    assert {job["state"] for job in ended} == {"succeeded"}
    assert all(released.redis.hget(LedgerKey.JOB.of(job["id"]), "lost_leases") == "0" for job in ended)
    released.wait_serving()


def test_a_release_promoted_while_jobs_are_in_flight_changes_none_of_them(released):
    current = released.client.get("/v1/releases/current")["id"]
    jobs = [released.submit(f"card {n}", params=SLOW | {"max_new_tokens": 60}) for n in range(16)]
    copy = next_release(released, current)
    released.client.post(f"/v1/releases/{copy}/promote", {})
    jobs += [released.submit(f"card {n}", params=QUICK) for n in range(4)]
    ended = all_ended(released, jobs)
    released.client.post("/v1/releases/rollback", {})
    assert {job["state"] for job in ended} == {"succeeded"}
    assert [job["release"] for job in ended] == [current] * 16 + [copy] * 4
    assert all(job["result"]["release"] == job["release"] for job in ended)


def next_release(system, current):
    """A candidate that differs from the current release in an instruction alone."""
    from shared.registry import Registry
    from shared.registry.store import S3Store

    settings = system.supervisor.settings
    registry = Registry(system.supervisor.ledger, S3Store(settings), settings.cache_dir)
    release = registry.releases.get("default", current)
    labels = {n: entry.model_copy(update={"instruction": "another"}) for n, entry in release.labels.items()}
    return registry.releases.add(release.model_copy(update={"parent": current, "labels": labels, "made_by": "test"}))


def test_a_trainer_killed_in_mid_training_goes_on_from_its_last_checkpoint(released):
    settings = TRAINING["settings"] | {"epochs": 12, "checkpoint_steps": 4, "seed": 5}
    body = {"kind": "adapter.train", "label": "bank.spare", "dataset": "bank.cards", "settings": settings}
    job_id = released.client.post("/v1/training/jobs", body)["id"]
    stages, killed_at = [], 0
    for event in released.client.stream(job_id):
        if event.type == "progress":
            stages.append((event.data["stage"], event.data.get("step")))
            if event.data["stage"] == "checkpoint" and not killed_at:
                killed_at = event.data["step"]
                released.kill("trainer-1")
    job = released.client.get(f"/v1/training/jobs/{job_id}")
    assert job["state"] == "succeeded", job["error"]
    resumed_at = next(step for stage, step in stages if stage == "resuming")
    assert resumed_at >= killed_at
    steps_after = [step for stage, step in stages[stages.index(("resuming", resumed_at)) :] if stage == "training"]
    assert steps_after[0] == resumed_at + 1
    released.wait_serving()


def test_a_cancelled_training_job_stops_and_publishes_nothing(released):
    settings = TRAINING["settings"] | {"epochs": 100}
    body = {"kind": "adapter.train", "label": "bank.never", "dataset": "bank.cards", "settings": settings}
    job_id = released.client.post("/v1/training/jobs", body)["id"]
    for event in released.client.stream(job_id):
        if event.type == "progress" and event.data["stage"] == "training":
            released.client.delete(f"/v1/training/jobs/{job_id}")
    assert released.client.get(f"/v1/training/jobs/{job_id}")["state"] == "cancelled"
    assert "bank.never" not in {m["label"] for m in released.client.get("/v1/adapters")["items"]}


def test_the_ledger_killed_and_restarted_loses_no_accepted_job(released):
    jobs = [released.submit(label="bank.cards", params=SLOW | {"max_new_tokens": 50}) for _ in range(10)]
    ledger = released.server("ledger")
    ledger.kill()  # the supervisor starts it again
    assert {job["state"] for job in all_ended(released, jobs)} == {"succeeded"}
    released.wait_serving()


def test_the_broker_emptied_and_killed_loses_no_accepted_job(released):
    broker = released.server("broker")
    jobs = [released.submit(f"card {n}", params=QUICK) for n in range(10)]
    redis.Redis.from_url(released.supervisor.settings.broker_url).flushall()
    broker.kill()
    jobs += [released.submit(f"late {n}", params=QUICK) for n in range(3)]  # accepted: the ledger is the truth
    assert {job["state"] for job in all_ended(released, jobs)} == {"succeeded"}
    released.wait_serving()


def test_a_worker_without_object_store_waits_for_it_and_then_serves(released):
    store = released.server("s3")
    config = released.supervisor.settings.data_dir / "s3" / "s3.json"
    identities = config.read_text()
    config.write_text("not JSON")  # what the supervisor starts meanwhile ends at once
    store.kill()
    shutil.rmtree(released.supervisor.settings.cache_dir / "adapters")
    for name in ("worker-1", "worker-2"):
        os.kill(released.child(name).process.pid, signal.SIGKILL)
    released.wait_serving()
    job_id = released.submit(label="bank.cards", params=QUICK)
    running(released, job_id)
    config.write_text(identities)
    job = released.ended(job_id)
    assert job["state"] == "succeeded", job["error"]
    assert job["result"]["adapter_ref"] == "bank.cards@1"


def test_the_api_killed_comes_back_and_readers_resume(released):
    job_id = released.submit(label="bank.cards", params=SLOW)
    released.kill("api")
    eventually(lambda: released.child("api").restarts and not released.supervisor._not_ready(), "the API is back")
    assert released.ended(job_id)["state"] == "succeeded"
