"""`signalbox demo`: trains, serves and updates a real system in one terminal, and checks what it promises."""

import itertools
import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from signalbox import Release, Signalbox

from services.cli.demo.data import DemoData
from services.cli.demo.openai_calls import ask_as_openai
from services.cli.demo.report import summary
from services.cli.demo.stream import Stream
from services.cli.errors import known_errors
from services.cli.local.prepare import prepare_base_model
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from services.cli.output import err, out
from services.cli.progress import follow_all
from shared.errors import SignalboxError
from shared.model.hardware import engine_dtype
from shared.settings import Settings

WORKERS = ["bank,base", "travel"]
MIN_REQUESTS = 24
MIN_AFTER_PROMOTION = 3
OPENAI_CALLS = 4


class DemoFailed(SignalboxError):
    """A promise of the demo did not hold."""


def run(*, fresh: bool, rate: float) -> int:
    """Run the demo; returns the exit code."""
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.default_int_handler)  # handle them as Ctrl-C, so that nothing is left running
    settings = Settings()
    system = None
    started = time.monotonic()
    try:
        # Two processes of one thread are faster than one of two, whose barriers stall when the cores are shared.
        gate = settings.model_copy(update={"gate_max_loss": DemoData().max_loss})
        system = Supervisor(gate, WORKERS, selectors=2, trainers=2)
        if system.notice:
            out.print(system.notice, markup=False)
        with out.status("preparing the base model"):
            prepare_base_model(settings)
        if fresh:
            _forget(settings.data_dir)
        journey(system, rate)
        out.print(f"done in {time.monotonic() - started:.0f} s")
    except (*known_errors(), OSError) as error:
        err.print(f"[red]the demo failed:[/red] {error}")
        return 1
    except KeyboardInterrupt:
        err.print("stopped by Ctrl-C")
        return 130
    finally:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)  # a second Ctrl-C would leave processes running
        if system:
            with out.status("stopping everything"):
                system.stop()
    return 0


def journey(system: Supervisor, rate: float) -> None:
    """Start, train what is missing, serve a stream while a label is added, then summarise and check."""
    data = DemoData(precision=engine_dtype(system.settings))  # bfloat16 in software takes hours
    with out.status("starting Redis twice, S3, API, two selectors, workers and trainers each"):
        system.start()
        key = announce(system)
        system.wait_ready()
    client = Signalbox(system.api_url, key)
    out.rule(f"running at {system.api_url}")
    data.upload(client)
    train_missing(client, data)
    start_from_first_release(client, data)
    stream = serve_while_adding(client, data, rate)
    ask_as_openai(system.api_url, key, itertools.islice(data.stream(), OPENAI_CALLS))
    out.rule("held-out rows, routed one by one")
    held_out = stream.route_held_out(data.held_out())
    verdict = summary(system, client, stream, held_out, data)
    out.print(verdict.table)
    broken = [line for line, holds in verdict.promises.items() if not holds]
    if broken:
        raise DemoFailed("promise_broken", f"see the logs: {'; '.join(broken)}")


def train_missing(client: Signalbox, data: DemoData) -> None:
    """Queue what the data folder does not hold yet: five adapters, and a selector over the first four labels."""
    known = {adapter.label for adapter in client.adapters()}
    jobs: dict[str, str] = {}

    def queue(title: str, body: dict[str, Any]) -> None:
        jobs[client.train(**body).id] = title

    first, *others = [label for label in data.labels if label not in known] or [""]
    if first:
        queue(first, data.adapter_job(first))
    before = list(jobs)
    for label in others:
        queue(label, data.adapter_job(label) | {"after": before})
    if not current_release(client):
        # Trained in parallel with the adapters: it needs only their data until its release is made. The other adapters
        # wait for the first one, so that a trainer takes this job second.
        queue("selector", data.selector_job())
    if not jobs:
        return
    out.print(f"queued {len(jobs)} training jobs: {', '.join(jobs.values())}")
    for job in follow_all(client, jobs, quiet=not err.is_terminal).values():
        print_result(job)


def print_result(job: dict[str, Any]) -> None:
    """Print a training job's result; raises `DemoFailed` if it did not succeed or its release was not promoted."""
    if job["state"] != "succeeded":
        raise DemoFailed(
            "training_failed", f"training job {job['id']} {job['state']}, see the logs: {json.dumps(job['error'])}"
        )
    result = job["result"]
    if "adapter_exact_match" in result:
        out.print(
            f"  {result['ref']}: exact match {result['adapter_exact_match']:.2f}, "
            f"base model {result['base_exact_match']:.2f}, on {result['validation_rows']} rows it never saw"
        )
        return
    out.print(f"  release {result['release']}: accuracy {result['accuracy']:.3f} on validation rows; {result['why']}")
    if not result["promoted"]:
        raise DemoFailed("gate_failed", f"release {result['release']} was not promoted: {result['why']}")


def current_release(client: Signalbox) -> Release | None:
    """The current release, if there is one."""
    return next((release for release in client.releases() if release.current), None)


def start_from_first_release(client: Signalbox, data: DemoData) -> None:
    """If an earlier demo added the label, roll back one release, so that it can be added again."""
    current = current_release(client)
    if current and data.added_label in current.labels:
        client.rollback(current.parent)
        out.print(f"rolled back to {current.parent}, which does not know {data.added_label}")


def serve_while_adding(client: Signalbox, data: DemoData, rate: float) -> Stream:
    """Serve a mixed stream; meanwhile a queued job trains the fifth label and promotes the new release."""
    out.rule(f"a mixed stream of requests, while {data.added_label} is learnt")
    job_id = client.train(**data.add_job()).id
    stream = Stream(client, data.stream(), rate, followed={job_id: "selector.add"})

    def is_over() -> bool:
        if not (stream.training_ended and stream.promoted_release):
            return stream.training_ended  # without a promoted release there is nothing to wait for
        enough = stream.count_after_promotion(data.added_label) >= MIN_AFTER_PROMOTION
        return enough and stream.finished_count >= MIN_REQUESTS

    stream.run(until=is_over)
    for job in stream.training_jobs.values():
        print_result(job)
    return stream


def _forget(data_dir: Path) -> None:
    """Remove what earlier runs trained (the folder is locked by this one); the converted base model stays."""
    for folder in ("ledger", "broker", "s3", "trainer", "logs", "cache/adapters"):
        shutil.rmtree(data_dir / folder, ignore_errors=True)
