"""The demo's four parts: start, train what is missing, serve while a label is added, check what was promised."""

import itertools
import json
from typing import TYPE_CHECKING, Any

from signalbox import Release, Signalbox

from services.cli.bars import lasting
from services.cli.demo import pages
from services.cli.demo.data import DemoData
from services.cli.demo.openai_calls import ask_as_openai
from services.cli.demo.report import summary
from services.cli.demo.stream import Stream
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce, kept_api_key
from services.cli.output import out
from services.cli.progress import follow_all
from shared.errors import SignalboxError
from shared.model.hardware import engine_dtype
from shared.security.api_keys import Scope

if TYPE_CHECKING:
    from signalbox import TrainingEstimate

TRAINERS = 2
MIN_REQUESTS = 24
MIN_AFTER_PROMOTION = 3
OPENAI_CALLS = 4
SCOPES = frozenset({Scope.SUBMIT, Scope.READ, Scope.REVIEW, Scope.TRAIN, Scope.PROMOTE})
"""Of the key that is shown: all but an operator's rights."""


class DemoFailed(SignalboxError):
    """A promise of the demo did not hold."""


class Journey:
    """One run over a system; `done` says how far it came."""

    def __init__(self, system: Supervisor, rate: float) -> None:
        self._system = system
        self._rate = rate
        self._data = DemoData(precision=engine_dtype(system.settings))  # bfloat16 in software takes hours
        self.done: list[str] = []
        self.key = ""

    def run(self) -> None:
        """Go through all parts; raises `DemoFailed`."""
        client = self._start()
        self._data.upload(client)
        self._train_missing(client)
        self._start_from_first_release(client)
        stream = self._serve_while_adding(client)
        self._check(client, stream)

    def _start(self) -> Signalbox:
        pages.part("start")
        count = len(self._system.servers) + len(self._system.children)
        with lasting(f"starting {count} processes, which load the base model", "all of them answer"):
            self._system.start()
            admin_key = announce(self._system)
            self._system.wait_ready()
        self.key = kept_api_key(self._system, "demo_key", SCOPES, name="demo")
        pages.access(self._system.api_url, self.key)
        self.done.append("the system was started")
        return Signalbox(self._system.api_url, admin_key)

    def _train_missing(self, client: Signalbox) -> None:
        """Queue what the data folder does not hold yet: five adapters, and a selector over the first four labels."""
        pages.part("train")
        queue = Queue(client)
        known = {adapter.label for adapter in client.adapters()}
        first, *others = [label for label in self._data.labels if label not in known] or [""]
        if first:
            queue.add(first, self._data.adapter_job(first))
        before = list(queue.titles)
        for label in others:
            queue.add(label, self._data.adapter_job(label) | {"after": before})
        if not current_release(client):
            # Trained in parallel with the adapters: it needs only their data until its release is made. The other
            # adapters wait for the first one, so that a trainer takes this job second.
            queue.add("selector", self._data.selector_job())
        if not queue.titles:
            pages.say("everything is trained already, by an earlier run")
            return
        pages.say(f"{len(queue.titles)} jobs are queued: {', '.join(queue.titles.values())}")
        pages.say(pages.forecast(queue.estimates, TRAINERS))
        for job in follow_all(client, queue.titles, quiet=False, console=out):
            self._note_result(job)

    def _note_result(self, job: dict[str, Any]) -> None:
        """Print a training job's result; raises `DemoFailed` if it failed or its release was not promoted."""
        if job["state"] != "succeeded":
            raise DemoFailed(
                "training_failed", f"training job {job['id']} {job['state']}, see the logs: {json.dumps(job['error'])}"
            )
        result = job["result"]
        if "adapter_exact_match" in result:
            pages.say(
                f"  {result['ref']}: exact match {result['adapter_exact_match']:.2f}, without it "
                f"{result['base_exact_match']:.2f}, on {result['validation_rows']} rows it never saw"
            )
            self.done.append(f"{result['ref']} was trained")
            return
        pages.say(
            f"  release {result['release']}: accuracy {result['accuracy']:.3f} on validation rows; {result['why']}"
        )
        if not result["promoted"]:
            raise DemoFailed("gate_failed", f"release {result['release']} was not promoted: {result['why']}")
        self.done.append(f"{result['release']} was promoted")

    def _start_from_first_release(self, client: Signalbox) -> None:
        """If an earlier demo added the label, roll back one release, so that it can be added again."""
        current = current_release(client)
        if current and self._data.added_label in current.labels:
            client.rollback(current.parent)
            pages.say(f"rolled back to {current.parent}, which does not know {self._data.added_label}")

    def _serve_while_adding(self, client: Signalbox) -> Stream:
        """Serve a mixed stream; meanwhile a queued job trains the fifth label and promotes the new release."""
        pages.part("serve")
        queue = Queue(client)
        queue.add("selector.add", self._data.add_job())
        pages.say(f"{self._data.added_label} is learnt meanwhile: {pages.forecast(queue.estimates, 1)}")
        stream = Stream(client, self._data.stream(), self._rate, followed=queue.titles)

        def is_over() -> bool:
            if not (stream.training_ended and stream.promoted_release):
                return stream.training_ended  # without a promoted release there is nothing to wait for
            enough = stream.count_after_promotion(self._data.added_label) >= MIN_AFTER_PROMOTION
            return enough and stream.finished_count >= MIN_REQUESTS

        stream.run(until=is_over)
        for job in stream.training_jobs.values():
            self._note_result(job)
        self.done.append(f"{stream.finished_count} requests were answered")
        return stream

    def _check(self, client: Signalbox, stream: Stream) -> None:
        pages.part("check")
        ask_as_openai(self._system.api_url, self.key, itertools.islice(self._data.stream(), OPENAI_CALLS))
        verdict = summary(self._system, client, stream, stream.route_held_out(self._data.held_out()), self._data)
        out.print(verdict.table)
        broken = [line for line, holds in verdict.promises.items() if not holds]
        if broken:
            raise DemoFailed("promise_broken", f"see the logs: {'; '.join(broken)}")
        self.done.append("every promise was kept")


class Queue:
    """Training jobs by title, with what each will take; what an earlier run has begun is not queued anew."""

    def __init__(self, client: Signalbox) -> None:
        self._client = client
        self._under_way = {
            _subject(job.trains or {}): job.id for job in client.jobs(kind="train", limit=200) if not job.is_final
        }
        self.titles: dict[str, str] = {}
        self.estimates: list[TrainingEstimate] = []

    def add(self, title: str, body: dict[str, Any]) -> None:
        """Queue a job, unless one for the same is under way."""
        labels = body.get("labels") or [body["label"]]
        job_id = self._under_way.get(_subject({"kind": body["kind"], "labels": labels}))
        if not job_id:
            self.estimates.append(self._client.estimate(**body))
        self.titles[job_id or self._client.train(**body).id] = title


def _subject(trains: Any) -> tuple[str, frozenset[str]]:
    return trains.get("kind", ""), frozenset(trains.get("labels", ()))


def current_release(client: Signalbox) -> Release | None:
    """The current release, if there is one."""
    return next((release for release in client.releases() if release.current), None)
