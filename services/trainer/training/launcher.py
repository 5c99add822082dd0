"""A training in several processes, of one GPU each: a launcher starts them, the first one tells the trainer of them.

The launcher is a command such as `accelerate launch --config_file FILE` or `torchrun --standalone --nproc-per-node 4`.
What goes between trainer and process is JSON over a socket in a folder that nobody else may open.
"""

import ctypes
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.training.run import Experts, TrainingRun, train_here
from services.trainer.training.sequences import Example
from shared.contracts.training import LoraSettings
from shared.errors import Cancelled, Invalid, Unavailable

if TYPE_CHECKING:
    from services.trainer.training.loop import Callbacks

_SOCKET = "SIGNALBOX_TRAINING_SOCKET"
_LOOK_SECONDS = 0.5
_END_SECONDS = 40  # torchrun gives its processes 30
_SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
_PR_SET_PDEATHSIG = 1


def train_in_processes(run: TrainingRun, callbacks: "Callbacks", launcher: str) -> Path:
    """Train as `train_here` does, in the processes that the launcher starts, and return the folder of the weights.

    A batch goes to each process, so that a step's batch is as many times as large. Processes that end before they are
    done are started again from their last checkpoint, as long as each start reaches a new one. Raises `Cancelled`, what
    `Invalid` one of them met, and `Unavailable` where they end all the same.
    """
    run.work_dir.mkdir(parents=True, exist_ok=True)
    while True:
        folder, reached = _start(run, callbacks, launcher)
        if folder is not None:
            return folder
        if refusal := _refusal(run.work_dir):
            raise refusal
        if reached is None:
            raise Unavailable(
                "training_processes_ended",
                "the processes of the training ended before it was done: the trainer's output says why; "
                "check the setting SIGNALBOX_TRAINING_LAUNCHER",
            )
        run = run._replace(resume_from=reached)


def _start(run: TrainingRun, callbacks: "Callbacks", launcher: str) -> tuple[Path | None, Path | None]:
    """The folder of the weights, if it came to that, and the last checkpoint on the way."""
    file = run.work_dir / "training.json"
    file.write_text(json.dumps(_to_json(run)))
    with tempfile.TemporaryDirectory() as private, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{private}/trainer")
        server.listen()
        server.settimeout(_LOOK_SECONDS)
        with _processes(launcher, file, f"{private}/trainer") as processes:
            first = _first_call(server, processes, callbacks)
            if first is None:
                return None, None
            with first:
                came = _follow(first, callbacks)
            with suppress(subprocess.TimeoutExpired):  # to end by themselves, and to write down why
                processes.wait(_END_SECONDS)
            return came


def _first_call(server: socket.socket, processes: subprocess.Popen[bytes], callbacks: "Callbacks") -> Connection | None:
    while processes.poll() is None:
        _stop_if_asked(callbacks)
        with suppress(TimeoutError):
            return Connection(server.accept()[0].detach())
    return None


def _follow(first: Connection, callbacks: "Callbacks") -> tuple[Path | None, Path | None]:
    from services.trainer.training.loop import Progress

    reached = None
    while True:
        while not first.poll(_LOOK_SECONDS):
            _stop_if_asked(callbacks)
        try:
            what, said = json.loads(first.recv_bytes())
        except (EOFError, ConnectionError):
            return None, reached
        match what:
            case "progress":
                callbacks.on_progress(Progress(**said))
            case "checkpoint":
                reached = Path(said["folder"])
                callbacks.on_checkpoint(reached, said["step"])
            case "done":
                return Path(said), reached
        _stop_if_asked(callbacks)
        with suppress(ConnectionError):  # it ended; the next look at it tells
            first.send_bytes(b"go on")


def _stop_if_asked(callbacks: "Callbacks") -> None:
    if callbacks.should_stop():
        raise Cancelled("cancelled", "the training was cancelled")


def _refusal(work_dir: Path) -> Invalid | None:
    """What the first of the processes to say so met that no other start would mend."""
    files = sorted(work_dir.glob("refused-*.json"), key=lambda file: file.stat().st_mtime_ns)
    return Invalid(*json.loads(files[0].read_text())) if files else None


@contextmanager
def _processes(launcher: str, file: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    beside = str(Path(sys.executable).parent)
    environment = {**os.environ, _SOCKET: address, "PATH": os.pathsep.join([beside, os.environ.get("PATH", "")])}
    try:
        command = [*shlex.split(launcher), "-m", __name__, str(file)]
        # In a session of their own: what a terminal or a service manager sends the trainer's group is not for them.
        processes = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603  (the operator's)
    except (OSError, ValueError) as error:
        raise Unavailable(
            "training_launcher_missing", f"SIGNALBOX_TRAINING_LAUNCHER does not start: {error}"
        ) from error
    try:
        yield processes
    finally:
        _signal(processes, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            processes.wait(_END_SECONDS)
        _signal(processes, signal.SIGKILL)
        processes.wait()


def _signal(processes: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the launcher and whoever shares its session: accelerate's passes nothing on to a single process."""
    with suppress(ProcessLookupError):
        os.killpg(processes.pid, number)


def _to_json(run: TrainingRun) -> dict[str, Any]:
    paths = {name: str(path) for name, path in run._asdict().items() if isinstance(path, Path)}
    return {**run._asdict(), **paths, "config": run.config.model_dump(mode="json")}


def _from_json(said: dict[str, Any]) -> TrainingRun:
    paths = {name: Path(said[name]) for name in ("base_folder", "work_dir", "resume_from", "start_from") if said[name]}
    return TrainingRun(**{
        **said,
        **paths,
        "config": LoraSettings(**said["config"]),
        "examples": [Example(*example) for example in said["examples"]],
        "experts": Experts(*said["experts"]) if said["experts"] else None,
    })  # fmt: skip


def main(file: Path) -> None:
    """Be one of the processes."""
    import torch

    from services.trainer.training.loop import Callbacks
    from shared.model.hardware import limit_threads
    from shared.settings import Settings

    with suppress(AttributeError):  # Linux: a launcher that is killed takes its processes along
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # the job says what it computes in
    limit_threads(Settings())
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    run, rank = _from_json(json.loads(file.read_text())), os.environ.get("RANK", "0")
    try:
        _refuse_sharding()
        if rank == "0":
            _be_first(run)
        else:
            train_here(run, Callbacks())
    except Invalid as error:
        # Not to the trainer at once: whichever process ends first, the launcher ends the others.
        written = file.with_name(f"refused-{rank}.part")
        written.write_text(json.dumps([error.code, error.detail]))
        written.rename(written.with_suffix(".json"))
        raise


def _refuse_sharding() -> None:
    if any(os.environ.get(name, "").lower() == "true" for name in _SHARDING):
        raise Invalid(
            "launcher_unsupported",
            "trainings run data parallel alone: each process holds all weights, which FSDP and DeepSpeed shard; "
            "take them out of the configuration in SIGNALBOX_TRAINING_LAUNCHER",
        )


def _be_first(run: TrainingRun) -> None:
    """Train, and tell the trainer of it."""
    from services.trainer.training.loop import Callbacks

    with Client(os.environ[_SOCKET]) as trainer:

        def tell(what: str, said: Any) -> None:
            trainer.send_bytes(json.dumps([what, said]).encode())
            trainer.recv_bytes()  # the trainer may want the folder before it is cleared away

        callbacks = Callbacks(
            lambda progress: tell("progress", progress._asdict()),
            lambda folder, step: tell("checkpoint", {"folder": str(folder), "step": step}),
        )
        trainer.send_bytes(json.dumps(["done", str(train_here(run, callbacks))]).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
