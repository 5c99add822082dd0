"""A real vLLM server on this machine, from the virtual environment of its own that `make test-vllm` makes."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from services.cli.servers import Server, free_ports

VARIABLE = "SIGNALBOX_TEST_VLLM"
"""Names the environment's `bin/python`: vLLM pins another transformers, so it cannot be imported here."""
START_SECONDS = 300
ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # as many threads as the next line says, on any core
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


class VllmProcess:
    """A running server: where it answers, and what it has used."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self._pid = pid

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the HTTP server and the engine core together."""
        process = psutil.Process(self._pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return float(sum(time.user + time.system for time in times))


@contextlib.contextmanager
def vllm_process(model: Path, folder: Path, *options: str) -> Iterator[VllmProcess]:
    """Serve the model folder until the block ends; its log goes to `folder`. Skips where no vLLM is named."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    server = Server("vllm", command(model, port, *options), folder, lambda: is_healthy(url))
    try:
        server.start(START_SECONDS)
        assert server.process is not None
        yield VllmProcess(url, server.process.pid)
    finally:
        server.stop(timeout_seconds=20)
        if server.process is not None:
            with contextlib.suppress(ProcessLookupError):  # what it left behind, in the session of its own
                os.killpg(server.process.pid, signal.SIGKILL)


def python() -> str:
    """The Python that has vLLM."""
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no Python with vLLM: run `make test-vllm`")
    return os.environ[VARIABLE]


def command(model: Path, port: int, *options: str) -> list[str]:
    # Not `vllm serve`: it looks for a package of that name, and the one for processors is called `vllm-cpu`.
    program = [python(), "-m", "vllm.entrypoints.openai.api_server"]
    return [
        *("env", *(f"{name}={value}" for name, value in ENVIRONMENT.items()), *program),
        *("--model", str(model), "--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port)),
        *("--enforce-eager", "--enable-lora", *options),
    ]


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1).is_success
    except httpx.TransportError:
        return False
