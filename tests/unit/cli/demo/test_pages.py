"""What the demo tells: before, beside and after its parts, on a terminal of 80 columns."""

import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from signalbox import TrainingEstimate

from services.cli import output
from services.cli.demo import pages, stream
from services.cli.demo.data import DemoRow

KEY = "sbk_" + "x" * 43
DATA = Path(".data")


@pytest.fixture
def terminal(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=40, color_system=None)
    for module in (output, pages, stream):
        monkeypatch.setattr(module, "out", console)
    return screen


def text_of(terminal):
    lines = terminal.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= 80
    return " ".join(terminal.getvalue().split())


@pytest.mark.parametrize(("keep", "says"), [(True, "the system stays up"), (False, "`--keep` leaves it up")])
def test_it_opens_with_what_will_happen_how_long_it_takes_and_what_stays(terminal, keep, says):
    pages.opening(DATA, keep=keep)
    said = text_of(terminal)
    assert all(f"{number} {name}" in said for number, name in enumerate(pages.PARTS, start=1))
    assert all(what in said for what in (pages.FIRST_RUN, pages.LATER_RUN, str(DATA), "Ctrl-C", says))


def test_the_console_and_its_key_are_on_lines_that_can_be_copied(terminal):
    pages.access("http://127.0.0.1:8000", KEY)
    lines = terminal.getvalue().splitlines()
    assert any(line.split() == ["console", "http://127.0.0.1:8000/console"] for line in lines)
    assert any(line.split() == ["key", KEY] for line in lines)


def test_a_system_that_stays_up_says_how_it_is_asked_and_ended(terminal):
    pages.kept("http://127.0.0.1:8000", KEY, DATA)
    said = text_of(terminal)
    for what in ("http://127.0.0.1:8000/console", KEY, "signalbox submit", "/v1", ".data/logs", "signalbox down"):
        assert what in said


def test_after_an_interruption_it_says_how_far_it_came_and_how_it_goes_on(terminal):
    pages.reached(["the system was started", "bank.cards@1 was trained"], DATA)
    said = text_of(terminal)
    assert "bank.cards@1 was trained" in said
    assert "`signalbox demo` goes on from there" in said


def test_an_interruption_before_anything_was_reached_promises_nothing(terminal):
    pages.reached([], DATA)
    assert terminal.getvalue() == ""


def estimate(seconds):
    known = {"seconds": seconds, "steps": 1, "tokens": 1, "basis": "measured"}
    return TrainingEstimate.from_dict({"language_model": "trained", "estimate": known if seconds else None})


@pytest.mark.parametrize(
    ("each", "at_once", "says"),
    [
        ((300, 300, 300, 300), 2, "about 10 min"),
        ((60, 900), 2, "about 15 min"),
        ((300, None), 2, "how long is not known"),
        ((), 1, "an earlier run has begun it"),
    ],
)
def test_the_time_of_trainings_is_that_of_all_beside_each_other_and_at_least_the_longest(each, at_once, says):
    assert pages.forecast([estimate(seconds) for seconds in each], at_once).startswith(says)


def test_the_stream_of_requests_fits_beside_the_bar_of_the_training(terminal):
    shown = stream.Stream(None, iter(()), 1, {})
    done = {
        "state": "succeeded",
        "selection": {"label": "international.customer-complaints", "probability": 0.98, "by": "light"},
        "result": {"text": "an answer of many words " * 5, "adapter": "0" * 64},
        "stage_ms": {"selecting": 12.0, "running": 12345.0},
    }
    rejected = done | {"selection": {"rejected": True, "probability": 0.1}, "result": {"text": "", "adapter": None}}
    for job in (done, rejected, {"state": "routed"}):
        shown.sent.append(stream.Sent(DemoRow("my card was declined at the restaurant last night", "bank.cards"), job))
    stream.out.print(shown.view())
    said = text_of(terminal)
    assert re.search(r"my card \S+.*… international\.\S*… 0\.98 an answer .*… 12357", said)
    assert "rejected → base" in said
    assert "2 of 3 answered" in said
