"""A rebase of real processes, whose trainer is killed twice, between base models that the caller brings."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from signalbox import Job, NotFoundError, Rebase, Signalbox

from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.ledger import calls
from shared.model.base import base_model_id
from shared.settings import Settings

KILLED_AT = (0, 2)
"""How many adapters are trained when the trainer is killed in the middle of another one."""
POLL_SECONDS = 0.2
LONGEST_SECONDS = 900.0


class Outcome(NamedTuple):
    """What a rebase came to."""

    rebase: Rebase
    on_new_base: int
    lost_leases: int
    """Of the trainings together: what was in the middle when its trainer was killed."""
    seconds: float


def rebased(
    folder: Path, old: Path, new: Path, rows: dict[str, list[dict[str, str]]], training: dict[str, Any]
) -> Outcome:
    """Make a release on the old base model, move it to the new one by a trainer that is killed twice."""
    settings = Settings(
        data_dir=folder / "data",
        base_model=str(old),
        engine="echo",  # nothing is answered here
        gate_min_accuracy=0,
        lease_seconds=5.0,
        heartbeat_seconds=1.0,
        lost_after_seconds=3.0,
        reconcile_seconds=1.0,
    )
    supervisor = Supervisor(settings, ["base"])
    try:
        supervisor.start()
        key = announce(supervisor)
        supervisor.wait_ready()
        with Signalbox(supervisor.api_url, key) as client:
            release = released(client, base_model_id(old), rows, training)
            return moved(supervisor, client, release, new, checkpoint=int(training["checkpoint_steps"]))
    finally:
        supervisor.stop()


def released(client: Signalbox, pin: str, rows: dict[str, list[dict[str, str]]], training: dict[str, Any]) -> str:
    """Train every adapter and a selector on the old base model; returns the candidate's id."""
    for label, own in rows.items():
        client.post("/v1/datasets", content="\n".join(map(json.dumps, own)).encode(), params={"name": label})
        common = {"settings": training, "base_model": pin, "evaluate_rows": 4, "long_answers": "cut"}
        ended(client, client.train("adapter.train", label=label, dataset=label, **common).id)
    selector = {"selector": "light", "labels": {label: label for label in rows}, "base_model": pin}
    return str(ended(client, client.train("selector.train", **selector).id)["release"])


def ended(client: Signalbox, job_id: str) -> dict[str, Any]:
    job = client.wait(Job(id=job_id, kind="train"), timeout=LONGEST_SECONDS)
    if job.state != "succeeded":
        raise RuntimeError(f"{job_id} is {job.state}: {job.error}")
    return dict(job.result or {})


def moved(supervisor: Supervisor, client: Signalbox, release: str, new: Path, *, checkpoint: int) -> Outcome:
    """Begin the rebase, kill its trainer twice in the middle of a training, and follow it to its end."""
    asked = {"release": release, "confirm_cost": True}
    started, running = time.monotonic(), start(supervisor, new)
    try:
        until(lambda: base_is_trained(client, new, release), running)
        begun = client.begin_rebase(str(new), **asked)
        jobs = [label["job"] for label in begun.labels]
        for over in KILLED_AT:
            until(lambda over=over: is_past(client, jobs, over, checkpoint), running)
            kill(running)
            again = client.begin_rebase(str(new), **asked)  # goes on where it was
            if again.id != begun.id:
                raise RuntimeError(f"rebase {begun.id} was begun anew as {again.id}")
            running = start(supervisor, new)
        until(lambda: client.rebase(begun.id).is_final, running)
    finally:
        kill(running)
    done = client.rebase(begun.id)
    return Outcome(
        done,
        on_new_base=sum(label["fate"] == "moved" and label["state"] == "succeeded" for label in done.labels),
        lost_leases=sum(supervisor.ledger.do(calls.get(job)).lost_leases for job in (*jobs, begun.id)),
        seconds=time.monotonic() - started,
    )


def start(supervisor: Supervisor, base: Path) -> psutil.Popen:
    """Start `signalbox trainer` with another base model; it joins the system of the data folder."""
    environment = psutil.Process().environ() | {
        "SIGNALBOX_DATA_DIR": str(supervisor.settings.data_dir),
        "SIGNALBOX_BASE_MODEL": str(base),
    }
    command = [sys.executable, "-c", "from services.cli.main import main; main()", "trainer"]
    return psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill(process: psutil.Popen) -> None:
    """Kill a trainer and the processes that train for it, as a machine that dies does."""
    if not process.is_running():
        return
    for one in [*process.children(recursive=True), process]:
        one.kill()
    process.wait()


def base_is_trained(client: Signalbox, base: Path, release: str) -> bool:
    return not any("no live trainer" in one for one in client.plan_rebase(str(base), release=release).warnings)


def is_past(client: Signalbox, jobs: list[str], over: int, step: int) -> bool:
    """Whether a training is past this step, at which it stores a checkpoint, once `over` others have ended."""
    states = [client.job(Job(id=job, kind="train")) for job in jobs]
    steps = [(job.raw.get("progress") or {}).get("step", 0) for job in states if job.state == "running"]
    return sum(job.is_final for job in states) >= over and any(reached > step for reached in steps)


def until(holds: Callable[[], bool], process: psutil.Popen) -> None:
    """Wait until something holds while a process runs."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not _quietly(holds):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the trainer ended by itself, or nothing came of it in {LONGEST_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)  # between two polls


def _quietly(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except NotFoundError:  # the new base model is not published yet
        return False
