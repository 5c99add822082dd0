"""Runs the system on one machine: every service, and the servers without a given URL; restarts what dies."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import redis
from pydantic import SecretStr

from services.cli.local.endings import KILL_MARGIN_SECONDS, end, terminate, wait_or_kill
from services.cli.local.folder_lock import holders, lock_folder
from services.cli.local.logs import rotate
from services.cli.local.ports import listens, why_not
from services.cli.local.processes import Backoff, Child, peak_mib_of
from services.cli.local.redis_acl import ACCOUNTS, OPERATOR, acl_file, url_of
from services.cli.local.run_state import RunState
from services.cli.local.secrets import kept_key, new_passwords
from services.cli.local.servers import Server, free_ports, redis_server, s3_server
from shared.errors import Conflict, Unavailable
from shared.ledger import Ledger
from shared.ledger.keys import LedgerKey
from shared.names import SELECT_QUEUE, TRAIN_QUEUE, generate_queue
from shared.redis_servers import RedisName
from shared.registry.store import S3Store
from shared.settings import Settings

SERVER_STOP_SECONDS = 2.0
"""An S3 server takes up to 30 s to end by itself; what it acknowledged is on disk already."""
WATCH_SECONDS = 0.25
JOINING = ("worker", "trainer")
"""Accounts of the processes that people may add to a running system."""
HEARTBEAT_CHECK_SECONDS = 5.0


class Supervisor:
    """The system of one data folder."""

    def __init__(
        self, settings: Settings, worker_groups: Sequence[str], *, selectors: int = 1, trainers: int = 1
    ) -> None:
        self._lock = lock_folder(settings.data_dir)
        # Inherited by every process: if the supervisor is killed, the folder stays locked until the last process ends.
        self._lock_fds = (self._lock.fileno(),)
        self._worker_groups = list(worker_groups)
        self._selectors = selectors
        self._trainers = trainers
        self.run_state = RunState(settings.data_dir)
        self.servers: list[Server] = []
        self.notice = ""
        """What a person should know about the ports that were chosen; empty where all are the usual ones."""
        self._urls: dict[str, dict[str, str]] = {account: {} for account in ACCOUNTS}
        self.settings = self._with_servers(settings)
        self._server_backoff = {server.name: Backoff() for server in self.servers}
        self.children = self._children()
        self.ledger = Ledger(self.settings.redis_url)
        self._noted: dict[str, dict[str, int]] = {}
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    @property
    def api_url(self) -> str:
        """Where the API listens."""
        host = self.settings.api_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.api_port}"

    def start(self) -> None:
        """Start servers, then services; returns when the servers answer."""
        self.run_state.clear()  # of a system that was killed
        self.run_state.write(joining={account: self._joining(account) for account in JOINING})
        for server in self.servers:
            server.lock_fds = self._lock_fds
            server.start()
        S3Store(self.settings).ensure_bucket()
        for child in self.children:
            child.start()
        self._note_processes()
        self._watcher.start()

    def wait_ready(self, timeout_seconds: float = 240) -> None:
        """Return when every queue has a consumer and the API answers; raises `Unavailable` with the end of a log."""
        until = time.monotonic() + timeout_seconds
        while waiting := self._not_ready():
            dying = [child for child in self.children if child.restarts >= 3]
            if dying or time.monotonic() > until:
                culprit = dying[0] if dying else self.children[0]
                raise Unavailable(
                    "not_ready",
                    f"not ready: {', '.join(waiting)}; the end of {culprit.log_path} says: {culprit.tail()}",
                )
            self._stop.wait(WATCH_SECONDS)

    @property
    def pids(self) -> list[int]:
        """Process ids: the supervisor's own first, then those that it started."""
        return [os.getpid(), *_pids([*self.children, *self.servers]).values()]

    @property
    def _owners(self) -> list[Server | Child]:
        return [*self.servers, *self.children]

    def peak_mib(self) -> dict[str, float]:
        """Peak resident memory of every running process, in MiB."""
        return {owner.name: peak_mib_of(owner.process.pid) for owner in self._owners if owner.process is not None}

    def stop(self) -> None:
        """Stop services, then servers, each within its time limit."""
        self._stop.set()
        if self._watcher.is_alive():
            self._watcher.join()  # so that it restarts nothing
        joined = self._joined()
        terminate(joined)
        for child in self.children:
            child.end(signal.SIGTERM)
        until = time.monotonic() + self.settings.drain_seconds + KILL_MARGIN_SECONDS
        for child in self.children:
            if child.process is not None:
                try:
                    child.process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.end(signal.SIGKILL)
                    child.process.wait()
        wait_or_kill(joined, max(0.1, until - time.monotonic()))
        self.ledger.close()
        for server in self.servers:
            server.stop(timeout_seconds=SERVER_STOP_SECONDS)
        # A signal may have come between the start of a process and its note here.
        end([process for process in holders(self.settings.data_dir) if process.pid != os.getpid()], SERVER_STOP_SECONDS)
        self.run_state.clear()
        self._lock.close()

    def _joined(self) -> list[psutil.Process]:
        """The workers and trainers that people started in this folder."""
        own = {os.getpid(), *(process.pid for process in psutil.Process().children(recursive=True))}
        return [process for process in holders(self.settings.data_dir) if process.pid not in own]

    def _with_servers(self, settings: Settings) -> Settings:
        """Plan a server for every URL that the environment does not give."""
        data, given = settings.data_dir, settings.model_fields_set
        own = settings.model_dump(exclude_unset=True)
        if "s3_url" not in given:  # first, because it reuses the ports of its last start
            (port,) = free_ports(1)
            own |= {"s3_url": f"http://127.0.0.1:{port}", "s3_secret_key": secrets.token_urlsafe(24)}
            self.servers.append(s3_server(Settings(**own), data / "s3"))
        if "redis_url" not in given:
            own["redis_url"] = self._plan_redis("ledger", "redis_url", data, fsync="always", mib=settings.ledger_mib)
        if "broker_url" not in given:
            own["broker_url"] = self._plan_redis("broker", "broker_url", data, fsync="everysec")
        if "webhook_key" not in given:
            own["webhook_key"] = kept_key(data / "webhook_key")
        return Settings(**own | {"api_port": self._api_port(settings)})

    def _api_port(self, settings: Settings) -> int:
        """The port asked for, else the usual one or another; raises `Conflict` where none could listen as asked."""
        host, port = settings.api_host, settings.api_port
        (other,) = free_ports(1)
        if unusable := why_not(host, other):
            raise Conflict("host_unusable", f"{unusable}: set SIGNALBOX_API_HOST to another")
        if port == 0:
            return other
        if "api_port" in settings.model_fields_set:
            if taken := why_not(host, port):
                raise Conflict("port_taken", f"{taken}: end it, or set SIGNALBOX_API_PORT to another, such as {other}")
            return port
        # People call the usual port by the name localhost, which may stand for another address than the API's.
        if taken := why_not(host, port) or why_not("localhost", port):
            self.notice = f"{taken}: the API uses port {other} instead; SIGNALBOX_API_PORT asks for another"
            return other
        return port

    def _plan_redis(self, name: RedisName, setting: str, data: Path, *, fsync: str, mib: int = 0) -> str:
        """Plan a Redis server with one user per service; returns the operator's URL."""
        (port,) = free_ports(1)
        passwords = new_passwords()
        for account, password in passwords.items():
            self._urls[account][setting] = url_of(account, password, f"127.0.0.1:{port}")
        users = acl_file(name, passwords)
        self.servers.append(redis_server(name, port, data / name, fsync=fsync, users=users, memory_mib=mib))
        return self._urls[OPERATOR][setting]

    def _env(self, account: str) -> dict[str, str]:
        """The environment of a process that connects as this account."""
        own = {f"SIGNALBOX_{setting.upper()}": url for setting, url in self._urls[account].items()}
        others = {} if account == "api" else {"SIGNALBOX_WEBHOOK_KEY": ""}
        return os.environ | _as_env(self.settings) | own | others

    def _joining(self, account: str) -> dict[str, str]:
        """The settings with which another process of this account joins, from wherever it is started."""
        env = {name: value for name, value in self._env(account).items() if name.startswith("SIGNALBOX_")}
        return env | {"SIGNALBOX_DATA_DIR": str(self.settings.data_dir.resolve())}

    def _children(self) -> list[Child]:
        logs, fds = self.settings.data_dir / "logs", self._lock_fds

        def make(name: str, module: str, account: str, **more: str) -> Child:
            return Child(name, f"services.{module}", self._env(account) | more, logs, fds)

        children = [
            make("api", "api", "api"),
            make("api-worker", "api.worker", "api"),
            *(make(f"selector-{n}", "selector", "selector") for n in range(1, self._selectors + 1)),
            *(
                make(f"worker-{n}", "adapter_worker", "worker", SIGNALBOX_GROUPS=groups)
                for n, groups in enumerate(self._worker_groups, 1)
            ),
            *(make(f"trainer-{n}", "trainer", "trainer") for n in range(1, self._trainers + 1)),
        ]
        # The API serves metrics next to its routes; each other service gets a port for them.
        for child, port in zip(children[1:], free_ports(len(children) - 1), strict=True):
            child.metrics_port = port
            child.env = child.env | {"SIGNALBOX_METRICS_PORT": str(port)}
        return children

    def _not_ready(self) -> list[str]:
        import httpx

        groups = {group.strip() for names in self._worker_groups for group in names.split(",")}
        needed = {generate_queue(group) for group in groups}
        needed |= {SELECT_QUEUE} if self._selectors else set()
        needed |= {TRAIN_QUEUE} if self._trainers else set()
        try:
            now_ms = time.time() * 1000  # the ledger's clock is this machine's
            served = {q for q in needed if self.ledger.redis.zcount(LedgerKey.CONSUMERS.of(q), now_ms, "+inf")}
            # Another program may have taken the port after it was found free, and answer in the API's place.
            is_up = self._owns_port() and httpx.get(f"{self.api_url}/healthz", timeout=2).is_success
        except (redis.RedisError, httpx.TransportError):
            served, is_up = set(), False
        return sorted(needed - served) + ([] if is_up else ["api"])

    def _owns_port(self) -> bool:
        api = self.children[0].process
        return api is not None and listens(api.pid, self.settings.api_port)

    def _watch(self) -> None:
        next_check = time.monotonic() + HEARTBEAT_CHECK_SECONDS
        while not self._stop.wait(WATCH_SECONDS):
            for child in self.children:
                child.restart_if_dead()
            self._restart_servers()
            with contextlib.suppress(OSError):  # a full disk; the next round tries again
                self._note_processes()
            if time.monotonic() > next_check:
                next_check = time.monotonic() + HEARTBEAT_CHECK_SECONDS
                self._kill_silent()
                rotate((owner.log_path for owner in self._owners), self.settings.log_mib << 20)

    def _restart_servers(self) -> None:
        for server in self.servers:
            if not server.is_alive and self._server_backoff[server.name].is_due():
                with contextlib.suppress(Unavailable):  # the next round tries again
                    server.start()

    def _note_processes(self) -> None:
        """Write who runs now into the state file, where that has changed."""
        running = {"services": _pids(self.children), "servers": _pids(self.servers)}
        if running != self._noted:
            self.run_state.write(**running, drain_seconds=self.settings.drain_seconds)
            self._noted = running

    def _kill_silent(self) -> None:
        """Kill a running process whose heartbeat has lapsed; the next round restarts it."""
        try:
            self.ledger.redis.set(LedgerKey.PROBE, os.getpid(), ex=60)  # one that takes no writes notes no heartbeats
            pids = {json.loads(self.ledger.redis.get(key) or "{}").get("pid") for key in self._process_keys()}
        except redis.RedisError:
            for child in self.children:
                child.missed_beats = 0
            return
        for child in self.children:
            if child.process is None or child.name == "api":
                continue
            if child.process.pid in pids:
                child.was_seen, child.missed_beats = True, 0
            elif child.was_seen:
                # Only after two misses: after an outage of the ledger the first heartbeat may still be under way.
                child.missed_beats += 1
                if child.missed_beats > 1:
                    child.end(signal.SIGKILL)

    def _process_keys(self) -> list[str]:
        return [str(key) for key in self.ledger.redis.scan_iter(LedgerKey.PROCESS.pattern)]


def _pids(owners: Sequence[Server | Child]) -> dict[str, int]:
    return {owner.name: owner.process.pid for owner in owners if owner.process is not None}


def _as_env(settings: Settings) -> dict[str, str]:
    values = settings.model_dump(mode="json", exclude_unset=True)
    values |= {name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)}
    return {f"SIGNALBOX_{name.upper()}": str(value) for name, value in values.items()}
