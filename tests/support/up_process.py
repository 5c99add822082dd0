"""`signalbox up` as a process of its own, the way a person starts it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from services.cli.local.run_state import RunState
from services.cli.local.servers import free_ports
from tests.support.eventually import eventually

PROGRAM = Path(sys.executable).parent / "signalbox"


class UpProcess:
    """A system of one echo worker in a data folder, started again and again."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.data = folder / "data"
        self.state = RunState(self.data)
        self._output = folder / "up.txt"
        self.environment = os.environ | {
            "SIGNALBOX_DATA_DIR": str(self.data),
            "SIGNALBOX_ENGINE": "echo",
            "SIGNALBOX_API_PORT": str(free_ports(1)[0]),
            "COLUMNS": "300",
            **environment,
        }
        self.process: psutil.Popen | None = None

    def start(self, *options: str) -> "UpProcess":
        command = [PROGRAM, "up", "--selectors", "0", "--trainers", "0", *options]
        with self._output.open("w") as output:
            self.process = psutil.Popen(command, env=self.environment, stdout=output, stderr=output)
        return self

    @property
    def says(self) -> str:
        return self._output.read_text()

    def ready(self) -> "UpProcess":
        eventually(lambda: "\nkey " in self.says or self.process.poll() is not None, "`up` is ready", 120)
        assert self.process.poll() is None, self.says
        return self

    def run(self, *arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        """Another command in the same data folder."""
        return subprocess.run(
            [PROGRAM, *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def running(self) -> dict[str, psutil.Process]:
        """What the state file names, by name."""
        state = self.state.read()
        pids = state.get("services", {}) | state.get("servers", {})
        return {name: psutil.Process(pid) for name, pid in pids.items() if psutil.pid_exists(pid)}

    def kill(self, sig: int = signal.SIGKILL) -> None:
        self.process.send_signal(sig)
        self.process.wait(60)
