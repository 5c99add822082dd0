"""A release moved to another base model: five adapters and a selector trained anew, by a trainer that is killed twice.

The new base model is a copy of the old one with words of the tasks as tokens of their own: another tokenizer, and an
embedding that is larger. `rebase_labels_ok` counts the labels of the candidate whose adapter is on the new base model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from signalbox import Job, NotFoundError, Rebase, Signalbox

from benchmarks.common import print_table, row, write_results
from benchmarks.selector_data import need_data, read
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.model.base import base_model_id, load_model, load_tokenizer, resolve_base_model
from shared.settings import Settings

LABELS = ("fin.sa", "fin.ha", "fin.red", "med.qa", "legal.mc")
KILLED_AT = (0, 2)
"""Labels during whose training the trainer is killed, by their number."""
TRAINING = {"epochs": 2, "batch_size": 4, "max_length": 128, "rank": 8, "checkpoint_steps": 2}
POLL_SECONDS = 0.2
LONGEST_SECONDS = 1800.0


class Outcome(NamedTuple):
    """What a rebase came to."""

    rebase: Rebase
    on_new_base: int
    tries: int
    """Attempts at the trainings of the adapters, together."""
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=24, help="of each of the five tasks")
    parser.add_argument("--tokens", type=int, default=256, help="that the new base model has more")
    args = parser.parse_args()
    need_data()
    rows = {label: task_rows(label, args.rows) for label in LABELS}
    with tempfile.TemporaryDirectory() as folder:
        old = resolve_base_model(Settings())
        new = with_more_tokens(old, Path(folder) / "new", words_of(rows, args.tokens))
        done = rebased(Path(folder), old, new, rows, TRAINING)
    for label in done.rebase.labels:
        before, after = label["old"], label["new"] or {}
        print(f"{label['label']}: {before['exact_match']} -> {after.get('exact_match')} exact, {label['fate']}")
    figures = [
        row("rebase_labels_ok", done.on_new_base, f"of {len(rows)}", goal=len(rows)),
        row("rebase_trainer_kills", len(KILLED_AT), "kills"),
        row("rebase_adapter_tries", done.tries, "attempts"),
        row("rebase_s", done.seconds, "s"),
    ]
    print_table(figures)
    write_results("rebase", figures)


def task_rows(label: str, count: int) -> list[dict[str, str]]:
    """Short rows of a task, with their answers."""
    found = [item for item in read(f"as12/{label}.train.jsonl.gz") if item["output"] and len(item["input"]) < 400]
    return [{name: item.get(name, "") for name in ("instruction", "input", "output")} for item in found[:count]]


def words_of(rows: dict[str, list[dict[str, str]]], count: int) -> list[str]:
    """The commonest longer words of the tasks."""
    words = Counter(word for own in rows.values() for item in own for word in item["input"].split() if len(word) > 4)
    return [word for word, _ in words.most_common(count)]


def with_more_tokens(old: Path, folder: Path, words: list[str]) -> Path:
    """Save a copy of a base model whose tokenizer has these words as tokens of their own."""
    tokenizer, model = load_tokenizer(old), load_model(old, "float32", "cpu")
    tokenizer.add_tokens(words)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


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
        tries=sum(int(client.job(Job(id=job, kind="train")).raw.get("try") or 1) for job in jobs),
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


if __name__ == "__main__":
    main()
