"""How a training is followed: each event on its bar, each job handed on as it ends."""

import io
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from services.cli import bars, progress

RUNNING = ("state", {"state": "running"})
STEP = ("progress", {"stage": "training", "step": 3, "steps": 8, "loss": 0.5, "seconds_left": 12.0})


class Trainings:
    """A client that knows a few training jobs: their events, and how each ends."""

    def __init__(self, events, state="succeeded"):
        self._events, self._state = events, state
        self.gates = {}

    def events(self, path):
        for kind, data in self._events:
            yield SimpleNamespace(type=kind, data=data)
        if gate := self.gates.get(path.split("/")[-2]):
            gate.wait(10)

    def job(self, job):
        return SimpleNamespace(state=self._state, to_dict=lambda: {"id": job.id, "state": self._state})


@pytest.fixture
def shown_in():
    return bars.progress_bars(Console(file=io.StringIO()))


def line_after(events, shown_in):
    """The bar's line as it is when the last of these events has come."""
    seen = []

    class Watched(Trainings):
        def events(self, path):
            yield from super().events(path)
            seen.extend(bars.lines_of(shown_in))

    progress.follow_into(Watched(events), shown_in, "job_1", "bank.cards")
    return seen


def test_a_job_that_waits_has_no_line_and_one_that_runs_begins_with_its_start(shown_in):
    assert line_after([], shown_in) == []
    (line,) = line_after([RUNNING], shown_in)
    assert line.startswith("bank.cards starting, ")


def test_a_step_shows_how_many_there_are_the_loss_and_the_time_left(shown_in):
    assert line_after([RUNNING, STEP], shown_in) == ["bank.cards training 3/8, loss 0.500, 12 s left"]


@pytest.mark.parametrize("stage", ["checkpoint", "memory", "estimated"])
def test_what_is_told_by_the_way_leaves_the_stage_as_it_is(shown_in, stage):
    (line,) = line_after([RUNNING, STEP, ("progress", {"stage": stage})], shown_in)
    assert line.startswith("bank.cards training 3/8")


def test_a_stage_without_steps_has_the_time_that_it_takes(shown_in):
    (line,) = line_after([RUNNING, STEP, ("progress", {"stage": "fitting_light_selector", "rows": 9})], shown_in)
    assert line.startswith("bank.cards fitting light selector, ")


@pytest.mark.parametrize(("state", "share"), [("succeeded", 100), ("failed", 0)])
def test_at_its_end_a_bar_says_what_became_of_the_job(shown_in, state, share):
    job = progress.follow_into(Trainings([RUNNING, STEP], state), shown_in, "job_1", "bank.cards")
    (task,) = shown_in.tasks
    assert (job["state"], task.fields["stage"], task.percentage) == (state, state, share)
    assert task.stop_time is not None


def test_jobs_are_handed_on_as_they_end_not_as_they_were_queued():
    client = Trainings([RUNNING])
    client.gates["job_1"] = threading.Event()
    ended = progress.follow_all(client, {"job_1": "first", "job_2": "second"}, quiet=True)
    assert next(ended)["id"] == "job_2"
    client.gates["job_1"].set()
    assert [job["id"] for job in ended] == ["job_1"]
