"""Shows that work goes on: bars on a terminal, elsewhere a line every ten seconds for what is under way."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from threading import Event, Thread
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from services.cli.output import err, out
from shared.contracts.durations import in_words

T = TypeVar("T")
LINE_SECONDS = 10.0
"""How long nothing is said where no terminal is."""
REFRESHES = 4
"""Of a terminal, each second: more take a noticeable share of a core from the work itself."""


class _Told(ProgressColumn):
    """A column that a function of the task fills."""

    def __init__(self, tell: Callable[[Task], str], width: int) -> None:
        super().__init__(Column(min_width=width, no_wrap=True))
        self._tell = tell

    def render(self, task: Task) -> Text:
        return Text(self._tell(task))


def progress_bars(console: Console | None = None, **options: Any) -> Progress:
    """Bars that fit a terminal of 80 columns: what, a bar, how much of how much, a note, the time."""
    columns = (
        TextColumn(
            "{task.description} {task.fields[stage]}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        BarColumn(bar_width=12),
        _Told(_count, 7),
        _Told(lambda task: str(task.fields["note"]), 10),
        _Told(_time, 12),
    )
    return Progress(*columns, console=console or err, expand=True, refresh_per_second=REFRESHES, **options)


def add_bar(
    progress: Progress, what: str, *, total: float | None = None, stage: str = "", starts: bool = True
) -> TaskID:
    """Add one bar; one that does not start at once has to be started."""
    return progress.add_task(what, total=total, start=starts, stage=stage, note="", seconds_left=None)


def tell(
    progress: Progress,
    bar: TaskID,
    stage: str,
    *,
    completed: float = 0,
    total: float | None = None,
    note: str = "",
    seconds_left: float | None = None,
) -> None:
    """Say how far a bar is; one without `total` shows only that something goes on."""
    progress.tasks[bar].total = total  # `update` takes no total away
    progress.update(bar, completed=completed, stage=stage, note=note, seconds_left=seconds_left)


@contextlib.contextmanager
def shown(what: Progress, *, quiet: bool = False) -> Iterator[None]:
    """Show bars as long as this lasts: live on a terminal, in lines elsewhere."""
    if quiet:
        yield
    elif what.console.is_terminal:
        with what:
            yield
    else:
        with in_lines(what):
            yield


@contextlib.contextmanager
def in_lines(what: Progress) -> Iterator[None]:
    """Print every ten seconds how far each bar is that is under way."""
    ended = Event()

    def tell() -> None:
        while not ended.wait(LINE_SECONDS):
            for line in lines_of(what):
                what.console.print(line, markup=False, highlight=False, soft_wrap=True)

    thread = Thread(target=tell, name="lines of progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def lines_of(what: Progress) -> list[str]:
    """Return a line for each bar that has started and not ended."""
    return [_line(task) for task in what.tasks if task.started and task.stop_time is None]


def _line(task: Task) -> str:
    parts = [" ".join(filter(None, [task.description, task.fields["stage"]])), _count(task)]
    return ", ".join(filter(None, [" ".join(filter(None, parts)), task.fields["note"], _time(task)]))


def _count(task: Task) -> str:
    return f"{task.completed:.0f}/{task.total:.0f}" if task.total and task.stop_time is None else ""


def _time(task: Task) -> str:
    """How long it will take where that is known, else how long it has taken."""
    if not task.started:
        return ""
    left = None if task.stop_time else (task.fields["seconds_left"] or task.time_remaining)
    return f"{in_words(left)} left" if left else in_words(task.elapsed or 0)


def counted(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate over items while a bar on standard error counts them; `total` is given where they have no length."""
    progress = progress_bars(err, transient=True)
    total = len(items) if total is None else total  # type: ignore[arg-type]
    task = add_bar(progress, what, total=total)
    with shown(progress):
        for item in items:
            yield item
            progress.advance(task)


@contextlib.contextmanager
def counted_batches(what: str, rows: int, batch_size: int) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error; call what is yielded before each batch of the rows."""
    progress = progress_bars(err, transient=True)
    task = add_bar(progress, what, total=rows)
    progress.update(task, completed=-batch_size)
    with shown(progress):
        yield lambda: progress.advance(task, batch_size)


@contextlib.contextmanager
def lasting(what: str, end: str) -> Iterator[None]:
    """Show what takes long with the time that it has taken, and at its end how long it took."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        _Told(_time, 6),
        console=out,
        transient=True,
        refresh_per_second=REFRESHES,
    )
    add_bar(progress, what)
    (task,) = progress.tasks
    if not out.is_terminal:
        out.print(what, soft_wrap=True, markup=False)
    with shown(progress):
        yield
    out.print(f"{end} ({in_words(task.elapsed or 0)})", soft_wrap=True, markup=False, highlight=False)
