"""The demo's stream: requests at a steady rate, a live table of their state, and the training's progress."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from signalbox import Signalbox
from signalbox.results import FINAL_STATES

from services.cli.bars import counted, in_lines, progress_bars
from services.cli.demo.data import DemoRow
from services.cli.errors import known_errors
from services.cli.output import out
from services.cli.progress import follow_into
from shared.contracts.labels import BACKGROUND
from shared.errors import Unavailable

SHOWN = 16
POLL_SECONDS = 0.2
STALLED_SECONDS = 180.0
HELD_OUT_READERS = 16
RUNNING_AT_ONCE = 4
NARROW = {"text": 0, "label": 0, "prob": 4, "answer": 0, "ms": 6}
"""Columns of a terminal, with their widths in characters; 0 for those that share the rest."""
WIDE = NARROW | {"by": 10, "adapter": 10, "select ms": 9, "generate ms": 11}
WIDE_COLUMNS = 120


@dataclass(slots=True)
class Sent:
    """One request of the stream; `job` is its last known view."""

    row: DemoRow
    job: dict[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended."""
        return self.job.get("state") in FINAL_STATES

    @property
    def label(self) -> str:
        """The selector's label; `none.none` if it rejected the row."""
        return str((self.job.get("selection") or {}).get("label") or BACKGROUND)


@dataclass(frozen=True, slots=True)
class Selected:
    """One held-out row and the selector's label for it."""

    row: DemoRow
    label: str


class Stream:
    """Submits and polls requests and shows them; a thread follows each training job."""

    def __init__(self, client: Signalbox, rows: Iterator[DemoRow], rate: float, followed: Mapping[str, str]) -> None:
        self._client = client
        self._rows = rows
        self._every_seconds = 1 / rate
        self._followed = dict(followed)
        self.sent: list[Sent] = []
        self.training_jobs: dict[str, dict[str, Any]] = {}
        self.promoted_release = ""
        self._bars = progress_bars(out, auto_refresh=False)
        self._printed = 0

    @property
    def training_ended(self) -> bool:
        """Whether all followed training jobs have ended."""
        return len(self.training_jobs) == len(self._followed)

    @property
    def finished_count(self) -> int:
        """Requests that have ended."""
        return sum(sent.is_finished for sent in self.sent)

    def count_after_promotion(self, label: str) -> int:
        """Finished requests that belong to `label` and were accepted under the new release."""
        return sum(s.row.label == label and s.is_finished for s in self.after_promotion())

    def after_promotion(self) -> list[Sent]:
        """Requests accepted under the release that the training promoted."""
        return [s for s in self.sent if self.promoted_release and s.job.get("release") == self.promoted_release]

    def run(self, until: Callable[[], bool]) -> None:
        """Send until `until` holds and all requests have ended; raises `Unavailable` if no request ends for long."""
        for job_id, title in self._followed.items():
            threading.Thread(target=self._follow, args=(job_id, title), name=f"follow {title}", daemon=True).start()
        next_at = moved_at = time.monotonic()
        seen = 0
        with self._display() as show:
            while not (until() and self._open() == 0):
                now = time.monotonic()
                if now >= next_at and not until() and self._open() < RUNNING_AT_ONCE:
                    self._send(next(self._rows))
                    # Once the training has ended, the machine is free for requests.
                    next_at = now + (0.0 if self.training_ended else self._every_seconds)
                self._poll()
                if self.finished_count != seen:
                    seen, moved_at = self.finished_count, now
                if now - moved_at > STALLED_SECONDS:
                    raise Unavailable("stalled", f"no request has ended for {STALLED_SECONDS:.0f} s; see the logs")
                show()
                threading.Event().wait(POLL_SECONDS)

    def route_held_out(self, rows: Sequence[DemoRow]) -> list[Selected]:
        """Select a label for every row over HTTP, several at once."""

        def select(row: DemoRow) -> Selected:
            return Selected(row, self._client.select(row.text, wait_seconds=60).label or BACKGROUND)

        with ThreadPoolExecutor(HELD_OUT_READERS) as pool:
            return list(counted(pool.map(select, rows), "held-out rows, routed one by one", len(rows)))

    def _send(self, row: DemoRow) -> None:
        self.sent.append(Sent(row, self._client.submit(row.text, max_new_tokens=12).to_dict()))

    def _open(self) -> int:
        return len(self.sent) - self.finished_count

    def _poll(self) -> None:
        for sent in self.sent:
            if not sent.is_finished:
                sent.job = self._client.job(sent.job["id"]).to_dict()

    def _follow(self, job_id: str, title: str) -> None:
        try:
            job = follow_into(self._client, self._bars, job_id, title)
        except known_errors() as error:
            job = {"id": job_id, "state": "unknown", "error": error.detail}
        result = job.get("result") or {}
        if result.get("promoted"):
            self.promoted_release = result["release"]
        self.training_jobs[job_id] = job

    @contextlib.contextmanager
    def _display(self) -> Iterator[Callable[[], None]]:
        """Yield what shows how everything stands: the last requests on a terminal, elsewhere a line for each."""
        if out.is_terminal:
            with Live(self.view(), console=out, auto_refresh=False) as live:
                yield lambda: live.update(self.view(), refresh=True)
        else:
            with in_lines(self._bars):
                yield self._print_finished

    def _print_finished(self) -> None:
        while self._printed < len(self.sent) and self.sent[self._printed].is_finished:
            out.print(" | ".join(_cells(self.sent[self._printed]).values()), markup=False, soft_wrap=True)
            self._printed += 1

    def view(self) -> Group:
        """The last requests, the training's bar, and how many have been answered."""
        shown = WIDE if out.width >= WIDE_COLUMNS else NARROW
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True)
        for name, width in shown.items():
            table.add_column(name, width=width or None, ratio=None if width else 1, no_wrap=True, overflow="ellipsis")
        for sent in self.sent[-SHOWN:]:
            cells = _cells(sent)
            table.add_row(*(Text(cells[name], overflow="ellipsis", no_wrap=True) for name in shown))
        note = f"{self.finished_count} of {len(self.sent)} answered" + (
            f"; release {self.promoted_release} is current" if self.promoted_release else ""
        )
        return Group(table, self._bars, Text(note))


def _cells(sent: Sent) -> dict[str, str]:
    job = sent.job
    selection, result, stages = job.get("selection") or {}, job.get("result") or {}, job.get("stage_ms") or {}
    rejected = selection.get("rejected")
    return {
        "text": " ".join(sent.row.text.split())[:48],
        "label": "rejected → base" if rejected else (selection.get("label") or job["state"]),
        "prob": f"{selection['probability']:.2f}" if selection else "",
        "by": selection.get("by", ""),
        "adapter": (result.get("adapter") or "base")[:10] if result else "",
        "answer": " ".join(result.get("text", "").split())[:28],
        "select ms": f"{stages['selecting']:.0f}" if "selecting" in stages else "",
        "generate ms": f"{stages['running']:.0f}" if "running" in stages else "",
        "ms": f"{sum(stages.values()):.0f}" if sent.is_finished else "",
    }
