"""`signalbox demo`: trains, serves and updates a real system in one terminal, and checks what it promises."""

import shutil
import signal
import threading
import time
from pathlib import Path

from rich.markup import escape

from services.cli.bars import lasting
from services.cli.demo import pages
from services.cli.demo.data import DemoData
from services.cli.demo.journey import TRAINERS, Journey
from services.cli.errors import known_errors
from services.cli.local.folder_lock import lock_folder
from services.cli.local.prepare import prepare_base_model
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import watch
from services.cli.output import err
from shared.contracts.durations import in_words
from shared.settings import Settings

WORKERS = ["bank,base", "travel"]


def run(*, fresh: bool, rate: float, keep: bool) -> int:
    """Run the demo; returns the exit code."""
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.default_int_handler)  # handle them as Ctrl-C, so that nothing is left running
    settings = Settings()
    journey = system = None
    started = time.monotonic()
    try:
        pages.opening(settings.data_dir, keep=keep)
        if fresh:
            forget(settings.data_dir)
        # Two processes of one thread are faster than one of two, whose barriers stall when the cores are shared.
        gate = settings.model_copy(update={"gate_max_loss": DemoData().max_loss})
        system = Supervisor(gate, WORKERS, selectors=2, trainers=TRAINERS)
        if system.notice:
            pages.say(system.notice)
        with lasting("preparing the base model, which the first run converts", "the base model is ready"):
            prepare_base_model(settings)
        journey = Journey(system, rate)
        journey.run()
        pages.say(f"done in {in_words(time.monotonic() - started)}")
        if keep:
            _stay(system, journey.key)
        else:
            pages.parting()
    except (*known_errors(), OSError) as error:
        err.print(f"[red]the demo failed:[/red] {escape(str(error))}")
        err.print(f"the processes' logs: {settings.data_dir}/logs", markup=False)
        return 1
    except KeyboardInterrupt:
        err.print(f"\nstopped by Ctrl-C after {in_words(time.monotonic() - started)}")
        pages.reached(journey.done if journey else [], settings.data_dir)
        return 130
    finally:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)  # a second Ctrl-C would leave processes running
        if system:
            with lasting("stopping everything: what is in flight is finished first", "stopped"):
                system.stop()
    return 0


def _stay(system: Supervisor, key: str) -> None:
    """Leave the system up until Ctrl-C or `signalbox down`."""
    pages.kept(system.api_url, key, system.settings.data_dir)
    try:
        watch(system, threading.Event())
    except KeyboardInterrupt:
        pages.say("")


def forget(data_dir: Path) -> None:
    """Remove what earlier runs trained; the converted base model stays. Raises `Conflict` where a system runs."""
    with lock_folder(data_dir):
        for folder in ("ledger", "broker", "s3", "trainer", "logs", "cache/adapters"):
            shutil.rmtree(data_dir / folder, ignore_errors=True)
