"""A training in several processes, of one GPU each: a launcher starts them, the first one tells the trainer of them.

The launcher is a command such as `accelerate launch --config_file FILE` or `torchrun --nproc-per-node 4`. What goes
between trainer and process is JSON over a connection that both prove a random key for.
"""

import json
import os
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.infra.config import LoraConfigSettings
from services.trainer.infra.sequences import Example
from services.trainer.infra.training_run import Experts, TrainingRun, train_here
from shared.errors import Cancelled, Invalid, SignalboxError, Unavailable

if TYPE_CHECKING:
    from services.trainer.infra.loop import Hooks

_PORT, _KEY = "SIGNALBOX_TRAINING_PORT", "SIGNALBOX_TRAINING_KEY"
_LOOK_SECONDS = 0.5
_END_SECONDS = 40  # torchrun gives its processes 30


def train_in_processes(run: TrainingRun, hooks: "Hooks", launcher: str) -> Path:
    """Train as `train_here` does, in the processes that the launcher starts, and return the folder of the weights.

    A batch goes to each process, so that a step's batch is as many times as large. Raises as `train_here` does, and
    `Unavailable` where the processes end before they are done.
    """
    run.work_dir.mkdir(parents=True, exist_ok=True)
    file = run.work_dir / "training.json"
    file.write_text(json.dumps(_to_json(run)))
    key = secrets.token_bytes(32)
    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        port = str(listener.address[1])
        with _started(launcher, file, {_PORT: port, _KEY: key.hex()}) as processes:
            threading.Thread(target=_tell_the_end, args=(processes, listener.address, key), daemon=True).start()
            with _first_call(listener) as first:
                folder = _follow(first, hooks)
            if folder is None:
                with suppress(subprocess.TimeoutExpired):
                    processes.wait(_END_SECONDS)
                raise _reason(run.work_dir)
            return folder


def _first_call(listener: Listener) -> Connection:
    while True:
        with suppress(AuthenticationError, EOFError, ConnectionError):  # whoever else found the port
            return listener.accept()


def _follow(first: Connection, hooks: "Hooks") -> Path | None:
    from services.trainer.infra.loop import Progress

    while True:
        while not first.poll(_LOOK_SECONDS):
            if hooks.should_stop():
                raise Cancelled("cancelled", "the training was cancelled")
        try:
            what, said = json.loads(first.recv_bytes())
        except (EOFError, ConnectionError):
            return None
        match what:
            case "progress":
                hooks.on_progress(Progress(**said))
            case "checkpoint":
                hooks.on_checkpoint(Path(said["folder"]), said["step"])
            case "done":
                return Path(said)
            case "ended":
                return None
        if hooks.should_stop():
            raise Cancelled("cancelled", "the training was cancelled")
        with suppress(ConnectionError):  # it ended; the next look at it tells
            first.send_bytes(b"go on")


def _reason(work_dir: Path) -> SignalboxError:
    """Why the processes ended: what one of them wrote down, whichever was first."""
    for file in sorted(work_dir.glob("failed-*.json")):
        return Invalid(*json.loads(file.read_text()))
    return Unavailable(
        "training_processes_ended",
        "the processes of the training ended before it was done: the trainer's output says why; "
        "check the setting SIGNALBOX_TRAINING_LAUNCHER",
    )


@contextmanager
def _started(launcher: str, file: Path, told: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    beside = str(Path(sys.executable).parent)
    environment = {**os.environ, **told, "PATH": os.pathsep.join([beside, os.environ.get("PATH", "")])}
    try:
        command = [*shlex.split(launcher), "-m", __name__, str(file)]
        processes = subprocess.Popen(command, env=environment)  # noqa: S603  (the operator's own command)
    except (OSError, ValueError) as error:
        raise Unavailable(
            "training_launcher_missing", f"SIGNALBOX_TRAINING_LAUNCHER does not start: {error}"
        ) from error
    try:
        yield processes
    finally:
        processes.terminate()
        try:
            processes.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            processes.kill()
            processes.wait()


def _tell_the_end(processes: subprocess.Popen[bytes], address: Any, key: bytes) -> None:
    """Take the first process's place where it never called: the trainer waits for a call."""
    processes.wait()
    with suppress(OSError, EOFError), Client(address, authkey=key) as trainer:
        trainer.send_bytes(json.dumps(["ended", None]).encode())


def _to_json(run: TrainingRun) -> dict[str, Any]:
    paths = {name: str(path) for name, path in run._asdict().items() if isinstance(path, Path)}
    return {**run._asdict(), **paths, "config": run.config.model_dump(mode="json")}


def _from_json(said: dict[str, Any]) -> TrainingRun:
    paths = {name: Path(said[name]) for name in ("base_folder", "work_dir", "resume_from", "start_from") if said[name]}
    return TrainingRun(**{
        **said,
        **paths,
        "config": LoraConfigSettings(**said["config"]),
        "examples": [Example(*example) for example in said["examples"]],
        "experts": Experts(*said["experts"]) if said["experts"] else None,
    })  # fmt: skip


def main(file: Path) -> None:
    """Be one of the processes."""
    import torch

    from services.trainer.infra.loop import Hooks
    from shared.model.processor import limit_threads
    from shared.settings import Settings

    limit_threads(Settings())
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    run, rank = _from_json(json.loads(file.read_text())), os.environ.get("RANK", "0")
    try:
        if rank == "0":
            _be_first(run)
        else:
            train_here(run, Hooks())
    except Invalid as error:
        # Not to the trainer at once: whichever process ends first, the launcher ends the others.
        written = file.with_name(f"failed-{rank}.part")
        written.write_text(json.dumps([error.code, error.detail]))
        written.rename(written.with_suffix(".json"))
        raise


def _be_first(run: TrainingRun) -> None:
    """Train, and tell the trainer of it."""
    from services.trainer.infra.loop import Hooks

    port, key = int(os.environ[_PORT]), bytes.fromhex(os.environ[_KEY])
    with Client(("127.0.0.1", port), authkey=key) as trainer:

        def tell(what: str, said: Any) -> None:
            trainer.send_bytes(json.dumps([what, said]).encode())
            trainer.recv_bytes()  # the trainer may want the folder before it is cleared away

        hooks = Hooks(
            lambda progress: tell("progress", progress._asdict()),
            lambda folder, step: tell("checkpoint", {"folder": str(folder), "step": step}),
        )
        trainer.send_bytes(json.dumps(["done", str(train_here(run, hooks))]).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
