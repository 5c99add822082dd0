"""What a person sees of work that takes a while, at a terminal and in a log."""

import io
import re

import pytest
from rich.console import Console

from services.cli import bars
from tests.support.eventually import eventually


class Screen:
    """A console of 80 columns, and what it has been sent."""

    def __init__(self, *, is_terminal):
        self.file = io.StringIO()
        self.console = Console(file=self.file, force_terminal=is_terminal, width=80, color_system=None)

    @property
    def text(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.file.getvalue())

    @property
    def lines(self):
        return self.text.splitlines()


@pytest.fixture
def terminal(monkeypatch):
    screen = Screen(is_terminal=True)
    monkeypatch.setattr(bars, "err", screen.console)
    monkeypatch.setattr(bars, "out", screen.console)
    return screen


@pytest.fixture
def log(monkeypatch):
    screen = Screen(is_terminal=False)
    monkeypatch.setattr(bars, "err", screen.console)
    monkeypatch.setattr(bars, "out", screen.console)
    return screen


def training(console):
    """A bar amid a training with a long label."""
    progress = bars.progress_bars(console)
    bar = bars.add_bar(progress, "international.customer-complaints-escalated")
    bars.tell(progress, bar, "training", completed=1040, total=2200, note="loss 12.345", seconds_left=754.0)
    return progress


def test_a_bar_of_a_long_label_fits_eighty_columns_with_its_count_and_the_time_left(terminal):
    with bars.shown(training(terminal.console)):
        pass
    assert max(map(len, terminal.lines)) <= 80
    assert all(what in terminal.text for what in ("…", "1040/2200", "loss 12.345", "13 min left"))


def test_a_stage_without_steps_takes_back_the_count_of_the_one_before(log):
    progress = training(log.console)
    bars.tell(progress, progress.task_ids[0], "evaluating")
    (line,) = bars.lines_of(progress)
    assert re.fullmatch(r"international\.customer-complaints-escalated evaluating, \d+ s", line)


def test_a_line_says_the_same_as_a_bar(log):
    (line,) = bars.lines_of(training(log.console))
    assert line == "international.customer-complaints-escalated training 1040/2200, loss 12.345, 13 min left"


def test_there_are_no_lines_of_what_waits_or_has_ended(log):
    progress = bars.progress_bars(log.console)
    waiting = bars.add_bar(progress, "a", starts=False)
    assert bars.lines_of(progress) == []
    progress.start_task(waiting)
    assert len(bars.lines_of(progress)) == 1
    progress.stop_task(waiting)
    assert bars.lines_of(progress) == []


def test_without_a_terminal_lines_come_as_long_as_it_lasts(log, monkeypatch):
    monkeypatch.setattr(bars, "LINE_SECONDS", 0.01)
    with bars.lasting("preparing the model", "the model is ready"):
        assert log.lines == ["preparing the model"]
        eventually(lambda: len(log.lines) > 2, "two lines have come")
    first, *more, last = log.lines
    assert first == "preparing the model"
    assert all(re.fullmatch(r"preparing the model, \d+ s", line) for line in more)
    assert re.fullmatch(r"the model is ready \(\d+ s\)", last)


@pytest.mark.parametrize("screen", ["terminal", "log"])
def test_what_fails_is_not_said_to_have_ended(screen, request):
    seen = request.getfixturevalue(screen)
    with pytest.raises(ValueError, match="x"), bars.lasting("preparing", "ready"):
        raise ValueError("x")
    assert "preparing" in seen.text
    assert "ready" not in seen.text


def test_at_a_terminal_the_end_of_what_lasted_stays(terminal):
    with bars.lasting("preparing", "ready"):
        pass
    assert re.search(r"ready \(\d+ s\)\s*$", terminal.text)


def test_items_are_counted_as_they_are_through(terminal):
    assert list(bars.counted(iter("abc"), "letters read", total=3)) == ["a", "b", "c"]
    assert "letters read" in terminal.text
    assert "3/3" in terminal.text


def test_batches_are_counted_in_rows_as_each_one_begins(terminal):
    with bars.counted_batches("rows read", 40, 16) as next_batch:
        for _ in range(3):
            next_batch()
    assert "rows read" in terminal.text
    assert "32/40" in terminal.text


def test_nothing_is_shown_where_machines_read(terminal, log):
    for screen in (terminal, log):
        with bars.shown(training(screen.console), quiet=True):
            pass
        assert screen.text == ""
