"""Shows progress while the command line waits: progress bars, and a job's text as it arrives."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, track
from rich.text import Text

from services.cli.output import err, no_worker, out

if TYPE_CHECKING:
    from signalbox import Signalbox

P = ParamSpec("P")
T = TypeVar("T")


def counted(items: Sequence[T], what: str) -> Iterator[T]:
    """Iterate over the items with a progress bar on standard error."""
    return iter(track(items, what, console=err, transient=True))


@contextlib.contextmanager
def lasting(what: str, end: str) -> Iterator[None]:
    """Say what takes long: on a terminal as long as it does, elsewhere by a line before it and one at its end."""
    if out.is_terminal:
        with out.status(what):
            yield
        return
    out.print(what, soft_wrap=True)
    yield
    out.print(end, soft_wrap=True)


@contextlib.contextmanager
def counted_batches(what: str, rows: int, batch_size: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on standard error; call what is yielded before each batch of the rows."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=rows, completed=-batch_size)
        yield lambda: bar.advance(task, batch_size)


def follow_generation(client: "Signalbox", job_id: str, *, quiet: bool) -> dict[str, Any]:
    """Show a job's text as it arrives, and the queue if it has no worker; returns the ended job.

    Only a terminal can take back what a lost worker wrote: elsewhere the last try's text is printed at the end.
    """
    from signalbox import Answer

    answer = Answer()
    with Live(console=out, transient=True) as live:
        for event in client.stream(job_id):
            text = answer.add(event)
            if event.type in ("token", "restart") and not quiet:
                live.update(_end_of(text))
            elif event.type == "state" and event.data["state"] in ("queued", "routed"):
                _warn_of_no_worker(client, job_id)
    if not quiet:
        out.print(answer.text, markup=False, highlight=False, soft_wrap=True)
    return client.job(job_id).to_dict()


def _end_of(text: str) -> Text:
    """The last lines of a text, as many as the terminal shows."""
    return Text("\n").join(Text(text).wrap(out, out.width)[1 - out.height :])


def _warn_of_no_worker(client: "Signalbox", job_id: str) -> None:
    job = client.job(job_id)
    if job.waiting_for_group:
        err.print(no_worker(job.to_dict()), markup=False)


def follow_training(client: "Signalbox", job_id: str, *, quiet: bool) -> dict[str, Any]:
    """Show a training job's progress bar; returns the ended job."""
    with progress_bars(disable=quiet) as bars:
        return follow_into(client, bars, job_id, "")


def follow_all(client: "Signalbox", titles: Mapping[str, str], *, quiet: bool) -> dict[str, dict[str, Any]]:
    """Show a progress bar for each training job (id -> title); returns the ended jobs by id."""
    with progress_bars(disable=quiet) as bars:
        ends = {job_id: in_background(follow_into, client, bars, job_id, title) for job_id, title in titles.items()}
        return {job_id: end.result() for job_id, end in ends.items()}


def in_background(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run a call in a thread that ends with the process: a pool's threads would keep Ctrl-C waiting for them."""
    end: Future[T] = Future()

    def run() -> None:
        try:
            end.set_result(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            end.set_exception(error)

    Thread(target=run, daemon=True).start()
    return end


def progress_bars(**options: Any) -> Progress:
    """Progress bars of training jobs."""
    columns = (
        TextColumn("{task.description:34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=err, **options)


def follow_into(
    client: "Signalbox",
    bars: Progress,
    job_id: str,
    title: str,
    on_progress: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Update one bar until its job has ended; `on_progress` gets the data of each progress event; returns the job."""
    from signalbox import Job

    task = bars.add_task(f"{title} queued".strip(), total=None, note="")
    for event in client.events(f"/v1/training/jobs/{job_id}/events"):
        if event.type == "progress":
            on_progress(event.data)
            fields = progress_fields(event.data)
            bars.update(task, **fields | {"description": f"{title} {fields['description']}".strip()})
    job = client.job(Job(id=job_id, kind="train"))
    bars.update(task, description=f"{title} {job.state}".strip(), note="")
    return job.to_dict()


def progress_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a rich progress task for a progress event."""
    fields: dict[str, Any] = {"description": data["stage"].replace("_", " ")}
    if "steps" in data:
        note = f"loss {data['loss']:.3f}, {data['seconds_left']:.0f} s left"
        fields |= {"completed": data["step"], "total": data["steps"], "note": note}
    return fields
