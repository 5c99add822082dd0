"""`signalbox demo`: the whole journey on real parts, in one terminal, with a verdict at the end."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from services.cli.client import Client
from services.cli.demo_data import DemoData
from services.cli.demo_report import summary
from services.cli.demo_stream import Stream
from services.cli.prepare import prepare_base_model
from services.cli.show import err, follow_training, out
from services.cli.supervisor import Supervisor
from services.cli.up import announce
from shared.errors import Conflict, SignalboxError
from shared.settings import Settings

WORKERS = ["bank,base", "travel"]
MIN_REQUESTS = 24
MIN_AFTER_PROMOTION = 8
MIN_ACCURACY = 0.95


class DemoFailed(SignalboxError):
    """A promise of the demo did not hold."""


def run(*, fresh: bool, rate: float) -> int:
    """Run the demo; answers the exit code."""
    settings = Settings()
    system = None
    started = time.monotonic()
    try:
        if fresh:
            _forget(settings.data_dir)
        with out.status("preparing the base model"):
            prepare_base_model(settings)
        system = Supervisor(settings, WORKERS)
        journey(system, rate)
        out.print(f"done in {time.monotonic() - started:.0f} s")
    except (SignalboxError, OSError) as error:
        err.print(f"[red]the demo failed:[/red] {getattr(error, 'detail', error)}")
        return 1
    except KeyboardInterrupt:
        err.print("stopped by Ctrl-C")
        return 130
    finally:
        if system:
            with out.status("stopping everything"):
                system.stop()
    return 0


def journey(system: Supervisor, rate: float) -> None:
    """Start, train what is missing, serve a stream while a label is added, sum up, check."""
    data = DemoData()
    with out.status("starting Redis twice, S3, API, selector, two workers, trainer"):
        system.start()
        key = announce(system)
        system.wait_ready()
    client = Client(system.api_url, key)
    out.rule(f"running at {system.api_url}")
    data.upload(client)
    train_missing(client, data)
    start_from_first_release(client, data)
    stream = serve_while_adding(client, data, rate)
    out.rule("held-out rows, routed one by one")
    held_out = stream.route_held_out(data.held_out())
    verdict = summary(system, client, stream, held_out, data)
    out.print(verdict.table)
    broken = [line for line, holds in verdict.promises.items() if not holds]
    if broken:
        raise DemoFailed("promise_broken", "; ".join(broken))


def train_missing(client: Client, data: DemoData) -> None:
    """Queue what the data folder does not hold yet: adapters of the first four labels, then the selector."""
    known = {manifest["label"] for manifest in client.get("/v1/adapters")["items"]}
    for label in data.first_labels:
        if label not in known:
            out.print(f"queued: adapter.train {label}")
            finished(client, client.post("/v1/training/jobs", data.adapter_job(label))["id"])
    if not client.get("/v1/releases")["items"]:
        out.print(f"queued: selector.train over {', '.join(data.first_labels)}")
        result = finished(client, client.post("/v1/training/jobs", data.selector_job())["id"])["result"]
        if not result["promoted"]:
            raise DemoFailed("gate_failed", f"the first selector was not promoted: {result['why']}")


def finished(client: Client, job_id: str) -> dict[str, Any]:
    """Follow a training job; raises `DemoFailed` where it did not succeed."""
    job = follow_training(client, job_id, quiet=not err.is_terminal)
    if job["state"] != "succeeded":
        raise DemoFailed("training_failed", f"training job {job_id} {job['state']}: {json.dumps(job['error'])}")
    result = job["result"]
    if "adapter_exact_match" in result:
        out.print(
            f"  {result['ref']}: exact match {result['adapter_exact_match']:.2f}, "
            f"base model {result['base_exact_match']:.2f}, on {result['validation_rows']} rows it never saw"
        )
    else:
        out.print(
            f"  release {result['release']}: accuracy {result['accuracy']:.3f} on validation rows, {result['why']}"
        )
    return job


def start_from_first_release(client: Client, data: DemoData) -> None:
    """Where an earlier demo has added the label, go back by one step, so that it can be added again."""
    current = client.get("/v1/releases/current")
    if data.added_label in current["labels"]:
        client.post("/v1/releases/rollback", {"to": current["parent"]})
        out.print(f"rolled back to {current['parent']}, which does not know {data.added_label}")


def serve_while_adding(client: Client, data: DemoData, rate: float) -> Stream:
    """Serve a mixed stream; meanwhile a queued job trains the fifth label and promotes the new release."""
    out.rule(f"a mixed stream of requests, while {data.added_label} is learnt")
    jobs = _queue_added_label(client, data)
    stream = Stream(client, data.stream(), rate, followed=jobs)
    stream.run(
        until=lambda: (
            stream.training_ended
            and stream.finished_count >= MIN_REQUESTS
            and stream.count_after_promotion(data.added_label) >= MIN_AFTER_PROMOTION
        )
    )
    failed = [job for job in stream.training_jobs.values() if job["state"] != "succeeded"]
    if failed:
        raise DemoFailed("training_failed", f"adding the label {failed[0]['state']}: {json.dumps(failed[0]['error'])}")
    why = stream.training_jobs[jobs[-1]]["result"]["why"]
    if not stream.training_jobs[jobs[-1]]["result"]["promoted"]:
        raise DemoFailed("gate_failed", f"the release with {data.added_label} was not promoted: {why}")
    return stream


def _queue_added_label(client: Client, data: DemoData) -> list[str]:
    """Queue the fifth adapter where it is missing, and `selector.add` after it; answers their ids."""
    known = {manifest["label"] for manifest in client.get("/v1/adapters")["items"]}
    jobs: list[str] = []
    if data.added_label not in known:
        jobs.append(client.post("/v1/training/jobs", data.adapter_job(data.added_label))["id"])
    jobs.append(client.post("/v1/training/jobs", data.add_job(after=jobs))["id"])
    return jobs


def _forget(data_dir: Path) -> None:
    """Remove what earlier runs trained; the converted base model stays."""
    if (data_dir / "up.lock").is_file():
        for folder in ("ledger", "broker", "s3", "trainer", "logs"):
            shutil.rmtree(data_dir / folder, ignore_errors=True)
    elif data_dir.is_dir() and any(p.name != "cache" for p in data_dir.iterdir()):
        raise Conflict("not_ours", f"{data_dir} was not made by signalbox; name another folder in SIGNALBOX_DATA_DIR")
