"""`signalbox up`: runs the system in the foreground, with one line per process."""

import signal
import threading
from collections.abc import Sequence
from typing import Any, cast

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from signalbox import Signalbox

from services.cli.bars import lasting
from services.cli.local.prepare import prepare_base_model
from services.cli.local.supervisor import Supervisor
from services.cli.output import out
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.settings import Settings

REFRESH_SECONDS = 1.0


def up(worker_groups: Sequence[str], *, selectors: int = 1, trainers: int = 1) -> None:
    """Run until Ctrl-C or SIGTERM."""
    settings = Settings()
    system = Supervisor(settings, worker_groups, selectors=selectors, trainers=trainers)
    done = threading.Event()
    try:
        if system.notice:
            out.print(system.notice, markup=False)
        _prepare(settings)
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, lambda *_: done.set())
        with out.status("starting"):
            system.start()
            key = announce(system)
            system.wait_ready()
        out.print(f"API {system.api_url}\nkey {key}")
        if why := unserved(Signalbox(system.api_url, key)):
            out.print(f"{why}: such jobs wait; `signalbox worker --group NAME` serves a group, beside this")
        watch(system, done)
    finally:
        with out.status("stopping: what is in flight is finished first"):
            system.stop()
        out.print("stopped")


def _prepare(settings: Settings) -> None:
    if settings.engine == "echo":
        return
    what = "preparing the base model: the first time it is converted or downloaded, for a minute or more"
    with lasting(what, "the base model is ready"):
        prepare_base_model(settings)


def watch(system: Supervisor, done: threading.Event) -> None:
    """Show the processes on a terminal until it is done."""
    with Live(process_table(system), console=out, auto_refresh=False, transient=True) as live:
        while not done.wait(REFRESH_SECONDS):
            live.update(Group(process_table(system), Text("Ctrl-C ends all")), refresh=True)


def unserved(client: Signalbox) -> str:
    """Why jobs of the current release have no worker, and what to do; empty if they have one, or without a release."""
    parts = client.readiness()["parts"]
    if not parts["release"]["ok"]:
        return ""
    if not parts["base_model"]["ok"]:
        return str(parts["base_model"]["detail"])
    advice = "end this and name the groups (signalbox up --worker a,b,base)"
    return "" if parts["consumers"]["ok"] else f"{parts['consumers']['detail']}: {advice}"


def announce(system: Supervisor) -> str:
    """Create this machine's API key unless it exists, and write the run state; returns the key."""
    settings = system.settings
    token = kept_api_key(system, "key", frozenset({api_keys.Scope.ADMIN}), name="up")
    system.run_state.write(
        api_url=system.api_url,
        api_key=token,
        redis_url=settings.redis_url,
        broker_url=settings.broker_url,
        s3_url=settings.s3_url,
        s3_access_key=settings.s3_access_key,
        s3_secret_key=settings.s3_secret_key.get_secret_value(),
        s3_region=settings.s3_region,
    )
    return token


def kept_api_key(system: Supervisor, file: str, scopes: frozenset[api_keys.Scope], *, name: str) -> str:
    """Return the API key that a file of the data folder holds; a new one where the ledger does not know it."""
    key_file, client = system.settings.data_dir / file, cast("Any", system.ledger.redis)
    token = key_file.read_text().strip() if key_file.is_file() else ""
    if not token or not client.hexists(LedgerKey.API_KEYS, api_keys.key_id(token)):
        _, token = api_keys.create(client, scopes, name=name)
        key_file.touch(mode=0o600)
        key_file.write_text(token)
    return token


def process_table(system: Supervisor) -> Table:
    """A table with one line per process."""
    table = Table("process", "pid", "state", "restarts", "peak MiB", "metrics port")
    peaks = system.peak_mib()
    for server in system.servers:
        pid, state = str(server.process.pid) if server.process else "-", "running" if server.is_alive else "restarting"
        table.add_row(server.name, pid, state, str(server.restarts), f"{peaks.get(server.name, 0):.0f}", "")
    for child in system.children:
        pid = str(child.process.pid) if child.process else "-"
        peak, port = f"{peaks.get(child.name, 0):.0f}", str(child.metrics_port or system.settings.api_port)
        table.add_row(child.name, pid, child.state, str(child.restarts), peak, port)
    return table
