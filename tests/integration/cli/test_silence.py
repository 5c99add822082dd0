"""What the supervisor makes of a process whose heartbeat has lapsed."""

import subprocess
import sys

import pytest

from services.cli.local.supervisor import Supervisor
from shared.settings import Settings


@pytest.fixture
def silent(settings, tmp_path):
    """A supervisor, and a child of it that was seen once and sends no heartbeat any more."""
    urls = {name: getattr(settings, name) for name in ("redis_url", "broker_url", "s3_url")}
    supervisor = Supervisor(Settings(data_dir=tmp_path, **urls), ["base"])
    child = next(child for child in supervisor.children if child.name == "worker-1")
    child.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child.was_seen = True
    yield supervisor, child
    child.process.kill()
    child.process.wait()
    supervisor.stop()


def look(supervisor, times):
    for _ in range(times):
        supervisor._kill_silent()


def test_a_process_that_goes_silent_is_ended(silent):
    supervisor, child = silent
    look(supervisor, 2)
    assert child.process.wait(10) == -9


@pytest.mark.parametrize(("setting", "value"), [("maxmemory", 1), ("min-replicas-to-write", 1)])
def test_beside_a_ledger_that_takes_no_writes_silence_says_nothing(silent, ledger, setting, value):
    supervisor, child = silent
    look(supervisor, 1)
    ledger.redis.config_set(setting, value)
    try:
        look(supervisor, 5)
        assert child.is_alive
    finally:
        ledger.redis.config_set(setting, 0)
    look(supervisor, 1)
    assert child.is_alive  # its first heartbeat may be under way
    look(supervisor, 1)
    assert child.process.wait(10) == -9
