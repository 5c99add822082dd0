"""Follows jobs while the command line waits: the progress of trainings, and an answer's text as it arrives."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, as_completed
from threading import Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.text import Text

from services.cli.bars import add_bar, progress_bars, shown, tell
from services.cli.output import err, no_worker, out

if TYPE_CHECKING:
    from signalbox import Signalbox

P = ParamSpec("P")
T = TypeVar("T")
_BY_THE_WAY = {"checkpoint", "estimated", "memory"}
"""Progress events that tell something of a stage, and begin none."""


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
    """Show a training job's progress; returns the ended job."""
    progress = progress_bars()
    with shown(progress, quiet=quiet):
        return follow_into(client, progress, job_id, "")


def follow_all(
    client: "Signalbox", titles: Mapping[str, str], *, quiet: bool, console: Console | None = None
) -> Iterator[dict[str, Any]]:
    """Show a bar for each training job (id -> title); yields each job as it ends."""
    progress = progress_bars(console)
    with shown(progress, quiet=quiet):
        ends = [in_background(follow_into, client, progress, job_id, title) for job_id, title in titles.items()]
        for end in as_completed(ends):
            yield end.result()


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


def follow_into(
    client: "Signalbox",
    progress: Progress,
    job_id: str,
    title: str,
    on_progress: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Update one bar until its job has ended; `on_progress` gets the data of each progress event; returns the job."""
    from signalbox import Job

    task = add_bar(progress, title, stage="queued", starts=False)
    for event in client.events(f"/v1/training/jobs/{job_id}/events"):
        if event.type == "state" and event.data["state"] == "running":
            progress.start_task(task)
            tell(progress, task, "starting")
        elif event.type == "progress":
            on_progress(event.data)
            progress.start_task(task)
            if event.data["stage"] not in _BY_THE_WAY:
                tell(progress, task, **_told(event.data))
    job = client.job(Job(id=job_id, kind="train"))
    tell(progress, task, job.state, completed=job.state == "succeeded", total=1)
    progress.stop_task(task)
    return job.to_dict()


def _told(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a progress event says of its bar."""
    stage = {"stage": data["stage"].replace("_", " ")}
    if "steps" not in data:
        return stage
    about = {"note": f"loss {data['loss']:.3f}", "seconds_left": data["seconds_left"]}
    return stage | about | {"completed": data["step"], "total": data["steps"]}
