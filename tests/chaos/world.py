"""One row's own system: real servers and processes on loopback, a release, and hands to hurt it with."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import redis
from signalbox import Signalbox

from services.cli.local.servers import free_ports
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.contracts.jobs import JobState
from shared.ledger.keys import LedgerKey
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.security import api_keys
from shared.settings import Settings
from tests.chaos.material import ECHO, TENANT, add_adapters, add_release, add_selector, base_shapes
from tests.chaos.proxy import Proxy
from tests.chaos.sabotage import environment
from tests.support.kernels import share_kernels
from tests.support.samples import WORDS
from tests.support.tiny_model import save_tiny_model

LABELS = tuple(WORDS)
GROUPS = ("bank", "travel", "base")
FINAL = {str(state) for state in JobState if state.is_final}
SECONDS_PER_WORD = 0.05
"""How long the echo engine takes for each."""
_LOOK_SECONDS = 0.05
_FLUSH_SECONDS = 2.0
"""How long consumers may stand still for a flush: less than a lease."""
_READY_SECONDS = 180


@dataclass(frozen=True)
class Plan:
    """What a row runs on: its release is for the tiny model where `has_model`, else for the `echo` engine."""

    workers: tuple[str, ...] = ("bank,travel,base",) * 3
    has_model: bool = False
    trainers: int = 0
    lease_seconds: float = 5.0
    max_lost_leases: int = 3
    settings: tuple[tuple[str, Any], ...] = ()
    has_proxy: bool = False
    """Whether the workers reach the object store by a proxy; their logs then go nowhere, for a full disk takes none."""
    has_poison: bool = False
    """Whether jobs with the word `sabotage.POISON` kill their workers."""


class Event(NamedTuple):
    """One event of a job, and the ledger's clock when it was written."""

    at_ms: int
    type: str
    data: dict[str, Any]

    @property
    def state(self) -> str:
        """The state it announces; empty for other events."""
        return self.data["state"] if self.type == "state" else ""


def until(check: Callable[[], Any], seconds: float) -> Any:
    """The first true answer of `check` while Redis may come and go; None when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer = check()
        except redis.RedisError:
            answer = None
        if answer or time.monotonic() > end:
            return answer or None
        threading.Event().wait(_LOOK_SECONDS)


class World:
    """A running system; use it in a `with` block."""

    def __init__(self, plan: Plan, folder: Path, sabotage: tuple[str, ...] = ()) -> None:
        self.plan = plan
        self.folder = folder
        self.random = random.Random(5)
        base = self._base_model()
        lease = plan.lease_seconds
        settings: dict[str, Any] = {
            "data_dir": folder / "data",
            "base_model": str(base),
            "api_port": free_ports(1)[0],
            "lease_seconds": lease,
            "heartbeat_seconds": lease / 3,
            "reconcile_seconds": lease / 3,
            "lost_after_seconds": lease * 2 / 3,
            "drain_seconds": 20.0,
            "pointer_poll_seconds": 1.0,
            "engine_dtype": "float32",
            "max_lost_leases": plan.max_lost_leases,
            "echo_seconds_per_token": SECONDS_PER_WORD,
            "worker_slots": 8,
            "default_deadline_seconds": 3600.0,
        }
        self.supervisor = Supervisor(
            Settings(**settings | dict(plan.settings)), plan.workers, selectors=1, trainers=plan.trainers
        )
        for worker in self.workers:
            worker.env = worker.env | {"SIGNALBOX_ENGINE": "transformers" if plan.has_model else "echo"}
        self.proxy: Proxy | None = None
        if plan.has_proxy:
            self.proxy = Proxy(int(self.supervisor.settings.s3_url.rsplit(":", 1)[1]))
            for worker in self.workers:
                worker.env = worker.env | {"SIGNALBOX_S3_URL": self.proxy.url}
                worker.log_path.parent.mkdir(exist_ok=True)
                worker.log_path.symlink_to("/dev/null")
        names = (*sabotage, "poison") if plan.has_poison else sabotage
        for child in self.supervisor.children:
            child.env = child.env | environment(names)
        self.redis = self.supervisor.ledger.redis
        self.settings = self.supervisor.settings
        self.store = S3Store(self.settings)
        self.registry = Registry(self.supervisor.ledger, self.store, folder / "harness")

    def __enter__(self) -> "World":
        try:
            self.supervisor.start()
            self.key = announce(self.supervisor)
            self.client = self.client_of(self.key)
            self.release = self._release()
            self.supervisor.wait_ready(_READY_SECONDS)
            self.wait_release(self.release.id)
        except BaseException:
            self.supervisor.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.end(signal.SIGCONT)
        self.supervisor.stop()
        if self.proxy:
            self.proxy.close()

    # What there is.

    @property
    def base_model(self) -> str:
        """The pin of the base model that the workers serve."""
        from shared.model.base import base_model_id

        return base_model_id(Path(self.settings.base_model)) if self.plan.has_model else ECHO

    @property
    def workers(self) -> list[Any]:
        """The adapter workers under supervision."""
        return [child for child in self.supervisor.children if child.name.startswith("worker")]

    def child(self, name: str) -> Any:
        return next(child for child in self.supervisor.children if child.name == name)

    def server(self, name: str) -> Any:
        return next(server for server in self.supervisor.servers if server.name == name)

    def client_of(self, key: str) -> Signalbox:
        return Signalbox(self.supervisor.api_url, key, max_retries=0)  # what the API refuses is counted

    def new_key(self, *scopes: api_keys.Scope, tenant_id: str = TENANT) -> str:
        return api_keys.create(self.redis, frozenset(scopes or api_keys.Scope), tenant_id=tenant_id)[1]

    def processes(self) -> dict[int, dict[str, Any]]:
        """What every Celery process said of itself in its last heartbeat, by process id."""
        found = [json.loads(self.redis.get(key) or "{}") for key in self.redis.scan_iter(LedgerKey.PROCESS.pattern)]
        return {info["pid"]: info for info in found if info}

    def owners(self) -> dict[str, int]:
        """Process ids by the names under which they hold jobs."""
        names = list(self.redis.scan_iter(LedgerKey.PROCESS.pattern))
        found = {name.removeprefix(LedgerKey.PROCESS): json.loads(self.redis.get(name) or "{}") for name in names}
        return {name: info["pid"] for name, info in found.items() if info}

    def present(self, children: Iterable[Any]) -> list[Any]:
        """Those that serve their queues now."""
        pids = self.processes()
        return [child for child in children if child.process and child.is_alive and child.process.pid in pids]

    def held_by(self, child: Any) -> list[str]:
        """Jobs under a lease of this process."""
        names = {name for name, pid in self.owners().items() if child.process and pid == child.process.pid}
        return [job_id for job_id, owner in self._leased().items() if owner in names]

    def is_serving(self) -> bool:
        """Whether every queue has a consumer and the API answers."""
        return not self.supervisor._not_ready()

    def is_serving_http(self) -> bool:
        """Whether the API answers."""
        try:
            return httpx.get(f"{self.supervisor.api_url}/healthz", timeout=2).is_success
        except httpx.TransportError:
            return False

    def log_lines(self, event: str) -> int:
        """How often this event is in the services' logs."""
        return sum(line.count(f'"event": "{event}"') for line in map(_read, self._logs()))

    # Jobs.

    def states(self, job_ids: Iterable[str]) -> dict[str, str]:
        """The state of each job by the ledger; `missing` where it has none."""
        ids = list(job_ids)
        with self.redis.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hget(LedgerKey.JOB.of(job_id), "state")
            return {job_id: state or "missing" for job_id, state in zip(ids, pipeline.execute(), strict=True)}

    def wait_ended(self, job_ids: Iterable[str], seconds: float) -> list[str]:
        """Wait for the ends of all; answers those that had none in time."""
        left = list(job_ids)

        def look() -> bool:
            nonlocal left
            states = self.states(left)
            left = [job_id for job_id in left if states[job_id] not in FINAL]
            return not left

        until(look, seconds)
        return left

    def jobs(self, job_ids: Iterable[str]) -> list[dict[str, Any] | None]:
        """Every job as the API shows it; None for one that it does not know."""
        from signalbox import ApiError

        def show(job_id: str) -> dict[str, Any] | None:
            try:
                return self.client.get(f"/v1/jobs/{job_id}")
            except ApiError as error:
                if error.status != 404:
                    raise
                return None

        return [show(job_id) for job_id in job_ids]

    def events(self, job_id: str) -> list[Event]:
        """The job's own stream."""
        stored = self.redis.xrange(LedgerKey.EVENTS.of(job_id))
        return [Event(int(key.partition("-")[0]), e["type"], json.loads(e["data"])) for key, e in stored]

    def know_base_model(self) -> None:
        """Publish the tiny model's layers as the echo engine's: uploads are checked against them."""
        if not self.plan.has_model:
            self.store.put(f"base/{ECHO}.json", json.dumps({"id": ECHO, "shapes": base_shapes()}).encode())

    # Faults.

    def kill(self, child: Any, sig: int = signal.SIGKILL) -> bool:
        """Send a signal to a process that lives; answers whether it did."""
        lives = child.is_alive
        child.end(sig)
        return bool(lives)

    def kill_server(self, name: str, sig: int = signal.SIGKILL) -> bool:
        """End a server; the supervisor starts it again, on the same folder."""
        server = self.server(name)
        if not server.is_alive:
            return False
        os.kill(server.process.pid, sig)
        return True

    def flush_broker(self) -> bool:
        """Empty the broker while messages wait in it, for which its consumers stand still; answers whether any did."""
        consumers = [child for child in self.supervisor.children if not child.name.startswith("api")]
        for child in consumers:
            child.end(signal.SIGSTOP)
        try:
            with redis.Redis.from_url(self.settings.broker_url, socket_timeout=5) as broker:
                waiting = until(lambda: list(broker.scan_iter(_type="list")), _FLUSH_SECONDS)
                return bool(waiting and broker.flushall())
        except redis.RedisError:
            return False
        finally:
            for child in consumers:
                child.end(signal.SIGCONT)

    # Releases.

    def wait_release(self, release_id: str, seconds: float = 60) -> bool:
        """Whether every worker and selector has taken the release in time."""
        return bool(until(lambda: self.follows(release_id), seconds))

    def follows(self, release_id: str) -> bool:
        """Whether every process that follows releases is at this one."""
        told = [info for info in self.processes().values() if info["service"] in ("adapter_worker", "selector")]
        wanted = len(self.workers) + 1
        return len(told) >= wanted and all(info.get("release") == release_id for info in told)

    def _release(self) -> Any:
        adapters = add_adapters(self.registry, self.folder / "adapters", LABELS, base_model=self.base_model)
        selector = add_selector(self.registry, self.folder / "light.safetensors", LABELS)
        release = add_release(self.registry, adapters, selector)
        self.registry.releases.promote(TENANT, release.id, force=True)
        return release

    def _base_model(self) -> Path:
        folder = self.folder / "base"
        if self.plan.has_model or self.plan.trainers:
            save_tiny_model(folder)
            share_kernels(self.folder / "data")
        return folder

    def _leased(self) -> dict[str, str]:
        ids = [
            job_id for key in self.redis.scan_iter(LedgerKey.LEASED.pattern) for job_id in self.redis.zrange(key, 0, -1)
        ]
        return {job_id: self.redis.hget(LedgerKey.JOB.of(job_id), "owner") or "" for job_id in ids}

    def _logs(self) -> list[Path]:
        return sorted((self.settings.data_dir / "logs").glob("*.log"))


def _read(file: Path) -> str:
    return file.read_text(errors="replace")
