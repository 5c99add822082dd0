"""A real vLLM server on this machine, from the virtual environment of its own that `make vllm` makes."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from services.cli.local.servers import Server, free_ports

VARIABLE = "SIGNALBOX_TEST_VLLM"
"""Names a Python that has vLLM, where `make vllm` has not made one: its transformers is another than ours."""
MADE = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
MISSING = f"no Python with vLLM: run `make vllm`, or let {VARIABLE} name one"
START_SECONDS = 300
ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # as many threads as OMP_NUM_THREADS says, on any core
    "VLLM_NO_USAGE_STATS": "1",
}


class VllmProcess:
    """A running server: where it answers, the model folder it serves, and what it has used."""

    def __init__(self, url: str, model: Path, pid: int) -> None:
        self.url = url
        self.model = model
        self._process = psutil.Process(pid)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the HTTP server and of the engine core, which is another process."""
        return _cpu_seconds(self._process) + self.core_cpu_seconds

    @property
    def core_cpu_seconds(self) -> float:
        """CPU time of the engine core alone."""
        return sum(map(_cpu_seconds, self._process.children(recursive=True)))


def find_python() -> str | None:
    """The Python that has vLLM, if there is one."""
    return os.environ.get(VARIABLE) or (str(MADE) if MADE.is_file() else None)


@contextlib.contextmanager
def vllm_process(python: str, model: Path, folder: Path, *options: str, threads: int = 1) -> Iterator[VllmProcess]:
    """Serve the model folder as `base` until the block ends; the log goes to `folder`."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = _command(python, model, port, threads, *options)
    server = Server("vllm", command, folder, lambda: _is_healthy(url))
    try:
        server.start(START_SECONDS)
        assert server.process is not None
        yield VllmProcess(url, model, server.process.pid)
    finally:
        server.stop(timeout_seconds=20)
        if server.process is not None:
            with contextlib.suppress(ProcessLookupError):  # what it left behind, in the session of its own
                os.killpg(server.process.pid, signal.SIGKILL)


def _command(python: str, model: Path, port: int, threads: int, *options: str) -> list[str]:
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)}
    return [
        *("env", *(f"{name}={value}" for name, value in environment.items())),
        # Not `vllm serve`: it looks for a package of that name, and the one for processors is called `vllm-cpu`.
        *(python, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model.resolve()), "--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port)),
        *("--enforce-eager", *options),
    ]


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1).is_success
    except httpx.TransportError:
        return False


def _cpu_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)
