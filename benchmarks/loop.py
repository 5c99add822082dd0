"""The loop over a simulated month: traffic, feedback, reviews, proposals, canaries, under the policy `auto`.

`benchmarks/month.py` says what a month is, what is planted, and what people do. The system is real: API, worker of the
API, selector, trainer and an adapter worker with a tiny random model, which answers one token; the selector is a light
one. The loop sees no true labels. After each window the stream waits until the review is read and what was confirmed
is trained: a month's days are longer than trainings. Rollouts go on with the next window's requests.
"""

import argparse
import asyncio
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from signalbox import ApiError, AuditEntry, Signalbox

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.month import (
    BAD_SHARE_REJECTED,
    JUDGED,
    MISJUDGED,
    MOVED,
    NEW,
    REGRESSES_AT,
    SURE_OF_TEN,
    WINDOW,
    WINDOWS,
    Month,
    Request,
    at,
    month,
)
from benchmarks.selector_data import DATA, Pairs, Texts, need_data
from benchmarks.selector_outside import trained
from services.cli.local.servers import free_ports
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.selector import SelectorScores, selections
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector
from shared.model.light import LightSelector
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.security import api_keys
from shared.settings import Settings
from tests.support.tiny_model import save_tiny_model

READERS = 16
"""Clients at once."""
FALSE_REJECTS = 0.02
"""What a training aims at by default."""
RETRAINED_EVERY, ROWS_PER_LABEL = 10, 200
"""Windows between two trainings on all true labels, and the newest rows of a label that each takes."""
CANARY = {"steps": [10, 50, 100], "seconds": 0, "requests": 40}
AT_WORK = {"confirmed", "training"}
COMING = {*AT_WORK, "candidate", "rolling_out"}
PATIENCE_SECONDS = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--window", type=int, default=WINDOW)
    args = parser.parse_args()
    need_data(args.data)
    planted = month(args.data, windows=args.windows, size=args.window)
    with tempfile.TemporaryDirectory() as folder:
        lived = live(Path(folder), planted)
    rows = figures(planted, lived)
    print_table(rows)
    if (args.windows, args.window) == (WINDOWS, WINDOW):
        write_results("loop", rows)


class Lived(NamedTuple):
    """What became of a month."""

    answers: list[list[str]]
    """Of each window's requests the label that answered; `none.none` where it was rejected."""
    first: list[list[str]]
    """The same by the first selector."""
    proposals: list[dict[str, Any]]
    audit: list[AuditEntry]
    """The newest steps of what traffic led to."""
    confirmed: list[str]
    """New tasks that the person confirmed, by name."""
    regression: str
    """The end of the rollout of the candidate that rejects three in four."""
    seconds: float


def live(folder: Path, planted: Month) -> Lived:
    """Run a system through the month."""
    started = time.monotonic()
    settings = Settings(
        data_dir=folder / "data",
        base_model=str(save_tiny_model(folder / "base")),
        api_port=free_ports(1)[0],
        engine_dtype="float32",
        pointer_poll_seconds=0.5,
        gate_min_accuracy=0.6,  # ten validation rows of a label say little
    )
    supervisor = Supervisor(settings, ["*,base"])
    try:
        supervisor.start()
        client = Signalbox(supervisor.api_url, announce(supervisor), timeout=120)
        supervisor.wait_ready(150)
        town = Town(supervisor, client, folder)
        first = town.found(planted)
        answers = [town.window(number, planted.windows) for number in range(len(planted.windows))]
        town.rest()
        return Lived(
            answers=answers,
            first=[routed(*first, [request.text for request in window]) for window in planted.windows],
            proposals=client.get("/v1/proposals")["items"],
            audit=client.audit(limit=500).items,
            confirmed=town.confirmed,
            regression=town.regression,
            seconds=time.monotonic() - started,
        )
    finally:
        supervisor.stop()


class Town:
    """A running system, those who send it requests, two reviewers and one person who decides."""

    def __init__(self, supervisor: Supervisor, client: Signalbox, folder: Path) -> None:
        self._supervisor, self._client, self._folder = supervisor, client, folder
        self._chance = random.Random("people")
        self._reviewers = [self._reviewer(), self._reviewer()]
        self._intents: dict[str, str] = {}
        self._labels: set[str] = set()  # of the current release, as people see it
        self._sent = 0
        self._began = ""  # time of the newest window
        self._regression = ""
        self._told: set[str] = set()
        self.confirmed: list[str] = []
        self.regression = "not tried"

    def found(self, planted: Month) -> tuple[ReleaseSelector, LightSelector]:
        """Train and promote the first release, and let the loop begin; returns its selector."""
        client = self._client
        self._intents = {one.text: one.gold for window in planted.windows for one in window}
        labels = sorted(label for label in planted.learnt if label != BACKGROUND)
        rows = [{"input": text, "label": label} for label, own in planted.learnt.items() for text in own]
        client.upload_dataset(rows, "learnt")
        for label in labels:
            self._adapter(label)
        sets = dict.fromkeys(labels, "learnt")
        job = client.wait(
            client.train("selector.train", labels=sets, background="learnt", selector="light", promote=True)
        )
        if not (job.result or {}).get("promoted"):
            raise SystemExit(f"the first selector was not promoted: {job.error or job.result}")
        client.set_traffic_policy({"on": True, "rows": 100_000})
        client.set_proposal_policy("auto", review_every_rows=len(planted.windows[0]), canary=CANARY)
        registry = Registry(self._supervisor.ledger, S3Store(self._supervisor.settings), self._folder / "cache")
        release = registry.releases.get(registry_tenant(registry), client.get("/v1/releases/current")["id"])
        assert release.selector is not None
        light = LightSelector.load(registry.weights.fetch_light(release.selector.light))
        return release.selector, light.in_order(release.selector.labels)

    def window(self, number: int, windows: Sequence[Sequence[Request]]) -> list[str]:
        """Send a window, judge some of it, and wait until the loop has nothing left to do by itself."""
        if number >= at(REGRESSES_AT, len(windows)) and not self._regression:
            self._regression = self._plant_regression()
        self._began = datetime.now(UTC).isoformat()
        sent = asyncio.run(self._send(windows[number]))
        self._labels = set(self._client.release().labels)
        for request, (job, _) in zip(windows[number], sent, strict=True):
            if self._chance.random() < JUDGED:
                self._judge(request, job)
        self._sent += 1
        self._settle()
        answers = [label for _, label in sent]
        right = sum(label == one.gold for label, one in zip(answers, windows[number], strict=True))
        standing = Counter(f"{one['kind']} {one['state']}" for one in self._client.get("/v1/proposals")["items"])
        print(f"window {number}: {right / len(sent):.3f} right; {dict(standing)}", flush=True)
        self._tell_failures()
        return answers

    def _tell_failures(self) -> None:
        for one in self._client.get("/v1/proposals")["items"]:
            if one["state"] == "failed" and one["id"] not in self._told:
                self._told.add(one["id"])
                print(f"  failed: {one['kind']} of {', '.join(one['labels'])}: {one['note']}", flush=True)

    def rest(self) -> None:
        """Note how the rollout of the planted regression ended."""
        if self._regression:
            self.regression = self._client.get(f"/v1/rollouts/{self._regression}")["state"]

    async def _send(self, requests: Sequence[Request]) -> list[tuple[str, str]]:
        """The id of each request's job, and what it was answered under."""
        numbers, sent = iter(range(len(requests))), [("", "")] * len(requests)
        headers = {"Authorization": f"Bearer {self._token(api_keys.Scope.SUBMIT, api_keys.Scope.READ)}"}

        async def reader() -> None:
            async with httpx.AsyncClient(base_url=self._supervisor.api_url, headers=headers, timeout=120) as http:
                for number in numbers:
                    messages = [{"role": "user", "content": requests[number].text}]
                    body = {"model": "auto", "messages": messages, "max_completion_tokens": 1}
                    answer = await http.post("/v1/chat/completions", json=body)
                    if answer.is_error:
                        raise SystemExit(answer.text)
                    said = answer.json()["signalbox"]
                    sent[number] = answer.headers["x-request-id"], said.get("label") or BACKGROUND

        await asyncio.gather(*(reader() for _ in range(READERS)))
        return sent

    def _judge(self, request: Request, job: str) -> None:
        known = self._labels | {BACKGROUND}
        wrong = self._chance.random() < MISJUDGED
        label = self._chance.choice(sorted(known)) if wrong else request.gold
        if label in known:
            self._chance.choice(self._reviewers).feedback(job, label=label)

    def _settle(self) -> None:
        """Wait until this window's review is read and nothing is in training; decide what asks a person."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            policy, proposals = self._client.get("/v1/proposals/policy"), self._client.get("/v1/proposals")["items"]
            is_read = policy["reviews"] >= self._sent and not policy["review_job"]
            asked = [one for one in proposals if one["state"] == "open" and one["kind"] in ("add", "delete")]
            asked += [one for one in proposals if one["state"] == "open" and one["kind"] == "lower_threshold"]
            if is_read and asked:
                for one in asked:
                    self._decide(self._client.get(f"/v1/proposals/{one['id']}"))
            elif is_read and not any(one["state"] in AT_WORK for one in proposals):
                return
            threading.Event().wait(0.3)
        raise SystemExit(f"the loop did not come to rest: {self._client.get('/v1/proposals/policy')}")

    def _decide(self, proposal: dict[str, Any]) -> None:
        """What a person does who reads the ten examples."""
        path = f"/v1/proposals/{proposal['id']}"
        seen = Counter(self._intents.get(one["text"] or "", "") for one in proposal["examples"])
        intent, count = seen.most_common(1)[0] if seen else ("", 0)
        is_new = proposal["kind"] == "add" and intent in NEW and intent not in self._under_way()
        if not is_new or count < SURE_OF_TEN:
            self._client.post(f"{path}/dismiss", {"reason": f"not a task of its own: {dict(seen)}"})
            return
        self._adapter(intent)
        self._client.post(f"{path}/confirm", {"label": intent})
        self.confirmed.append(intent)
        print(f"  confirmed {intent}", flush=True)

    def _under_way(self) -> set[str]:
        """The labels that there are, or that a confirmed proposal brings."""
        proposals = self._client.get("/v1/proposals")["items"]
        coming = [one for one in proposals if one["kind"] == "add" and one["state"] in COMING]
        return set(self._client.release().labels).union(*(one["labels"] for one in coming))

    def _plant_regression(self) -> str:
        """Begin a rollout that rejects three in four; nothing where another is open."""
        current, rows = (
            self._client.get("/v1/releases/current")["id"],
            self._client.traffic(since=self._began, limit=400),
        )
        own = sorted(row.confidence for row in rows.items if row.release == current and row.confidence is not None)
        if not own:
            return ""
        threshold = round(own[int(BAD_SHARE_REJECTED * len(own))], 4)
        made = self._client.post("/v1/releases/edit", {"start_from": current, "threshold": threshold})
        body = {**CANARY, "steps": [10, 50, 100], "force": True}
        try:
            return str(self._client.post(f"/v1/releases/{made['id']}/rollout", body)["id"])
        except ApiError as error:
            if error.status != 409:
                raise
            return ""

    def _adapter(self, label: str) -> None:
        self._client.upload_adapter(tiny_adapter(Path(self._supervisor.settings.base_model), self._folder), label)

    def _reviewer(self) -> Signalbox:
        scopes = (api_keys.Scope.SUBMIT, api_keys.Scope.READ, api_keys.Scope.REVIEW)
        return Signalbox(self._supervisor.api_url, self._token(*scopes))

    def _token(self, *scopes: api_keys.Scope) -> str:
        return api_keys.create(self._supervisor.ledger.redis, frozenset(scopes))[1]


def registry_tenant(registry: Registry) -> str:
    (tenant,) = registry.releases.tenants()
    return tenant


def tiny_adapter(base: Path, folder: Path) -> Path:
    """The PEFT folder of an adapter on the tiny model, made once: every label has the same."""
    from peft import LoraConfig, get_peft_model

    from shared.model.base import load_model

    made = folder / "adapter"
    if not made.exists():
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
        get_peft_model(load_model(base, "float32", device="cpu"), config).save_pretrained(str(made))
    return made


def routed(selector: ReleaseSelector, light: LightSelector, texts: Sequence[str]) -> list[str]:
    """Where a selector sends each text; `none.none` where it is rejected."""
    found = selections(selector, SelectorScores(light.score(list(texts)), None))
    return [one.label or BACKGROUND for one in found]


def with_true_labels(planted: Month) -> list[list[str]]:
    """What the same code answers that is trained on all true labels of what came before, again and again."""
    learnt: Texts = {label: list(own) for label, own in planted.learnt.items()}
    validation: Pairs = list(planted.validation)
    answers: list[list[str]] = []
    for number, window in enumerate(planted.windows):
        if number % RETRAINED_EVERY == 0:
            newest = {label: own[-ROWS_PER_LABEL:] for label, own in learnt.items()}
            selector, score = trained(newest, validation, CalibrationTarget(FALSE_REJECTS))
        made = selections(selector, score([(one.text, "") for one in window]))
        answers.append([one.label or BACKGROUND for one in made])
        for one in window:
            own = learnt.setdefault(one.gold, [])
            if one.text not in own:
                own.append(one.text)
    return answers


def figures(planted: Month, lived: Lived) -> list[Row]:
    """Accuracies of the month, and the loop's decisions beside what was planted."""
    without, loop = accuracy(planted, lived.first), accuracy(planted, lived.answers)
    most = accuracy(planted, with_true_labels(planted))
    done = [one for one in lived.proposals if one["state"] == "done"]
    learnt = {label for one in done if one["kind"] in ("balance", "retrain") for label in one["labels"]}
    added = {label for one in done if one["kind"] == "add" for label in one["labels"]}
    states = Counter(one["kind"] + " " + one["state"] for one in lived.proposals)
    return [
        row("loop_gain_points", 100 * (loop - without), "points", goal=50 * (most - without)),
        row("loop_true_label_points", 100 * (most - without), "points", spread="trained on all true labels"),
        row("loop_accuracy", loop, "share"),
        row("loop_accuracy_without", without, "share"),
        row("loop_new_tasks", len(added & set(NEW)), f"of {len(NEW)}"),
        row("loop_moved_learnt", len(learnt & set(MOVED)), f"of {len(MOVED)}"),
        row("loop_regression_stopped", float(lived.regression in ("failed", "aborted")), "of 1", goal=1),
        row("loop_proposals", len(lived.proposals), "", spread=", ".join(f"{n} {s}" for s, n in states.items())),
        row("loop_minutes", lived.seconds / 60, "min"),
    ]


def accuracy(planted: Month, answers: Sequence[Sequence[str]]) -> float:
    pairs = [(one.gold, label) for window, own in zip(planted.windows, answers, strict=True)
             for one, label in zip(window, own, strict=True)]  # fmt: skip
    return sum(gold == label for gold, label in pairs) / len(pairs)


if __name__ == "__main__":
    main()
