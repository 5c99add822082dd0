"""A training in several processes with one GPU each: a launcher starts them, the first reports to the trainer.

The launcher is a command such as `accelerate launch --config_file FILE` or `torchrun --standalone --nproc-per-node 4`.
Trainer and process exchange JSON over a socket in a folder that only their user may open.
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
from shared.contracts.training_settings import LoraSettings
from shared.errors import Cancelled, Invalid, Unavailable

if TYPE_CHECKING:
    from services.trainer.training.loop import Callbacks

_SOCKET = "SIGNALBOX_TRAINING_SOCKET"
_POLL_SECONDS = 0.5
_END_SECONDS = 40  # torchrun gives its processes 30
_SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
_PR_SET_PDEATHSIG = 1


def train_in_processes(run: TrainingRun, callbacks: "Callbacks", launcher: str) -> Path:
    """Train as `train_here` does, in the processes that the launcher starts, and return the folder of the weights.

    Each process gets a batch of its own: the batch of a step is `batch_size` times the number of processes. Processes
    that end too early are started again from their last checkpoint, as long as each start reaches a new checkpoint.
    Raises `Cancelled`, the `Invalid` that a process raised, and `Unavailable` where a start reaches no new checkpoint.
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
    """The folder of the weights, None where the processes ended too early, and the last checkpoint."""
    file = run.work_dir / "training.json"
    file.write_text(json.dumps(_to_json(run)))
    with tempfile.TemporaryDirectory() as private, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{private}/trainer")
        server.listen()
        server.settimeout(_POLL_SECONDS)
        with _processes(launcher, file, f"{private}/trainer") as processes:
            first = _accept_first(server, processes, callbacks)
            if first is None:
                return None, None
            with first:
                outcome = _follow(first, callbacks)
            with suppress(subprocess.TimeoutExpired):  # they end by themselves, and write down why
                processes.wait(_END_SECONDS)
            return outcome


def _accept_first(
    server: socket.socket, processes: subprocess.Popen[bytes], callbacks: "Callbacks"
) -> Connection | None:
    """The connection of the first process; None where the processes end before it connects."""
    while processes.poll() is None:
        _stop_if_asked(callbacks)
        with suppress(TimeoutError):
            return Connection(server.accept()[0].detach())
    return None


def _follow(first: Connection, callbacks: "Callbacks") -> tuple[Path | None, Path | None]:
    """Pass the messages of the first process on to the callbacks; returns what `_start` returns."""
    from services.trainer.training.loop import Progress

    reached = None
    while True:
        while not first.poll(_POLL_SECONDS):
            _stop_if_asked(callbacks)
        try:
            kind, payload = json.loads(first.recv_bytes())
        except (EOFError, ConnectionError):
            return None, reached
        match kind:
            case "progress":
                callbacks.on_progress(Progress(**payload))
            case "checkpoint":
                reached = Path(payload["folder"])
                callbacks.on_checkpoint(reached, payload["step"])
            case "done":
                return Path(payload), reached
        _stop_if_asked(callbacks)
        with suppress(ConnectionError):  # the process has ended: the next read notices that
            first.send_bytes(b"go on")


def _stop_if_asked(callbacks: "Callbacks") -> None:
    if callbacks.should_stop():
        raise Cancelled("cancelled", "the training was cancelled; submit it again if it is wanted")


def _refusal(work_dir: Path) -> Invalid | None:
    """The earliest `Invalid` that a process wrote down: another start would meet it again."""
    files = sorted(work_dir.glob("refused-*.json"), key=lambda file: file.stat().st_mtime_ns)
    return Invalid(*json.loads(files[0].read_text())) if files else None


@contextmanager
def _processes(launcher: str, file: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    beside = str(Path(sys.executable).parent)
    environment = {**os.environ, _SOCKET: address, "PATH": os.pathsep.join([beside, os.environ.get("PATH", "")])}
    try:
        command = [*shlex.split(launcher), "-m", __name__, str(file)]
        # In a session of their own, so that signals to the trainer's process group do not reach them. They keep what
        # the trainer inherited: the lock by which `signalbox down` finds those that a killed trainer left.
        processes = subprocess.Popen(command, env=environment, start_new_session=True, close_fds=False)  # noqa: S603
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
    """Signal the launcher and all processes of its session: accelerate passes no signal on to a single process."""
    with suppress(ProcessLookupError):
        os.killpg(processes.pid, number)


def _to_json(run: TrainingRun) -> dict[str, Any]:
    paths = {name: str(path) for name, path in run._asdict().items() if isinstance(path, Path)}
    return {**run._asdict(), **paths, "config": run.config.model_dump(mode="json")}


def _from_json(run: dict[str, Any]) -> TrainingRun:
    names = ("base_folder", "work_dir", "resume_from", "start_from", "on")
    paths = {name: Path(run[name]) for name in names if run[name]}
    return TrainingRun(**{
        **run,
        **paths,
        "config": LoraSettings(**run["config"]),
        "examples": [Example(*example) for example in run["examples"]],
        "experts": Experts(*run["experts"]) if run["experts"] else None,
    })  # fmt: skip


def main(file: Path) -> None:
    """Run as one of the processes that the launcher starts."""
    import torch

    from services.trainer.training.loop import Callbacks
    from shared.model.hardware import limit_threads
    from shared.settings import Settings

    with suppress(AttributeError):  # on Linux, the process dies with its launcher
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # the job names its precision
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
        # In a file: the launcher ends all processes as soon as one ends, so this one may have no time for a message.
        written = file.with_name(f"refused-{rank}.part")
        written.write_text(json.dumps([error.code, error.detail]))
        written.rename(written.with_suffix(".json"))
        raise


def _refuse_sharding() -> None:
    if any(os.environ.get(name, "").lower() == "true" for name in _SHARDING):
        raise Invalid(
            "launcher_unsupported",
            "trainings are data parallel only: each process holds all weights, which FSDP and DeepSpeed shard; "
            "take them out of the configuration in SIGNALBOX_TRAINING_LAUNCHER",
        )


def _be_first(run: TrainingRun) -> None:
    """Train, and report progress, checkpoints and the folder of the weights to the trainer."""
    from services.trainer.training.loop import Callbacks

    with Client(os.environ[_SOCKET]) as trainer:

        def send(kind: str, payload: Any) -> None:
            trainer.send_bytes(json.dumps([kind, payload]).encode())
            trainer.recv_bytes()  # the trainer reads a checkpoint folder before the run removes it

        callbacks = Callbacks(
            lambda progress: send("progress", progress._asdict()),
            lambda folder, step: send("checkpoint", {"folder": str(folder), "step": step}),
        )
        trainer.send_bytes(json.dumps(["done", str(train_here(run, callbacks))]).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
