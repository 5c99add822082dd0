"""Finds the running system: from the environment, or from the file that `signalbox up` writes."""

import json
import os
import threading
from pathlib import Path
from typing import Any

from redis import Redis
from signalbox import Signalbox

from services.cli.local.secrets import write_secret
from shared.contracts.manifests import Release
from shared.errors import Conflict, Unavailable
from shared.ledger import Ledger, LedgerAway, as_ledger_away
from shared.names import DEFAULT_TENANT
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.settings import Settings

_ENV = {
    "redis_url": "SIGNALBOX_REDIS_URL",
    "broker_url": "SIGNALBOX_BROKER_URL",
    "s3_url": "SIGNALBOX_S3_URL",
    "s3_secret_key": "SIGNALBOX_S3_SECRET_KEY",
    "s3_access_key": "SIGNALBOX_S3_ACCESS_KEY",
    "s3_region": "SIGNALBOX_S3_REGION",
}


class RunState:
    """The file `up.json` in the data folder, which only its owner can read."""

    def __init__(self, data_dir: Path) -> None:
        self.file = data_dir / "up.json"
        self._lock = threading.Lock()

    def read(self) -> dict[str, Any]:
        """The stored values; empty if no system runs here. Raises `Conflict` if the file is not what `up` wrote."""
        try:
            return dict(json.loads(self.file.read_text())) if self.file.is_file() else {}
        except (ValueError, TypeError) as error:
            raise Conflict("run_state_unreadable", f"{self.file} is not what `up` wrote: delete it") from error

    def write(self, **values: Any) -> None:
        """Add or replace values; threads may write at the same time, and a reader never meets half a file."""
        with self._lock:
            write_secret(self.file, json.dumps(self.read() | values, indent=1))

    def clear(self) -> None:
        """Forget the system."""
        self.file.unlink(missing_ok=True)


def current_settings(settings: Settings | None = None) -> Settings:
    """These settings, else the environment's, completed by those of the system that `signalbox up` started."""
    settings = settings or Settings()
    known = RunState(settings.data_dir).read()
    found = {name: known[name] for name, variable in _ENV.items() if name in known and variable not in os.environ}
    return Settings(**settings.model_dump(exclude_unset=True) | found) if found else settings


def current_client(*, needs_key: bool = True) -> Signalbox:
    """A client of the API in the environment, or of the one that `signalbox up` started; raises `Unavailable`."""
    known = RunState(Settings().data_dir).read()
    url = os.environ.get("SIGNALBOX_API_URL") or known.get("api_url")
    key = os.environ.get("SIGNALBOX_API_KEY") or known.get("api_key")
    if not url:
        raise Unavailable(
            "nothing_runs",
            "no system runs here: start `signalbox up`, or set SIGNALBOX_API_URL and SIGNALBOX_API_KEY",
        )
    if needs_key and not key:
        raise Unavailable("key_missing", "the API asks for a key: set SIGNALBOX_API_KEY")
    return Signalbox(url, key or "")


def current_registry(settings: Settings) -> Registry:
    """The registry of the running system; raises `Unavailable` if its ledger does not answer."""
    return Registry(_ledger(settings), S3Store(settings), settings.cache_dir)


def current_redis() -> Redis:
    """A client of the ledger, with an operator's rights; raises `Unavailable` if it does not answer."""
    return _ledger(current_settings()).redis


def _ledger(settings: Settings) -> Ledger:
    ledger = Ledger(settings.redis_url)
    try:
        with as_ledger_away():
            ledger.redis.ping()
    except LedgerAway as error:
        if error.code != "ledger_unavailable":
            raise  # its message is more precise
        raise Unavailable(
            "nothing_runs", "no ledger answers: start `signalbox up`, or set SIGNALBOX_REDIS_URL and SIGNALBOX_S3_URL"
        ) from error
    return ledger


def find_release(registry: Registry, release_id: str = "") -> Release:
    """A release (default: the current one); raises `NotFound`, and `Conflict` if there is no current release."""
    release_id = release_id or registry.releases.current_id(DEFAULT_TENANT)
    if not release_id:
        raise Conflict("no_release", "there is no current release; run selector.train first")
    return registry.releases.get(DEFAULT_TENANT, release_id)
