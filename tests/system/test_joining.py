"""A worker that a person starts beside `signalbox up` serves its groups, and ends with the system."""

import subprocess

import psutil
import pytest
import redis

from services.cli.local.folder_lock import holders, is_locked
from services.cli.local.run_state import current_registry, current_settings
from shared.contracts.manifests import Release, Verdict
from shared.ledger.keys import LedgerKey
from shared.names import DEFAULT_TENANT
from tests.support.echo_release import stored_label
from tests.support.eventually import eventually
from tests.support.up_process import PROGRAM

pytestmark = pytest.mark.timeout(300)


def worker(up, **environment):
    """Without the settings that `up` was started with: the folder knows them."""
    own = {name: value for name, value in up.environment.items() if name != "SIGNALBOX_ENGINE"}
    return psutil.Popen([PROGRAM, "worker", "--group", "hr"], env=own | environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_worker_joins_as_a_worker_and_ends_with_the_system(up):
    up.start().ready()
    state = up.state.read()
    started = worker(up)
    with redis.Redis.from_url(state["redis_url"], decode_responses=True) as operator:
        eventually(lambda: operator.zcard(LedgerKey.CONSUMERS.of("generate.hr")), "the group is served")
        ports = {each.laddr.port for each in started.net_connections("tcp")}
        users = {each["user"] for each in operator.client_list() if int(each["addr"].rpartition(":")[2]) in ports}
    assert users == {"worker"}
    assert started in holders(up.data)
    assert up.run("down").returncode == 0
    assert started.wait(10) == 0
    assert not is_locked(up.data)


def test_a_worker_of_any_group_takes_up_a_new_domain_as_it_is_promoted(up, tmp_path, monkeypatch):
    """The default of `up`."""
    up.start().ready()
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(up.data))
    registry = current_registry(current_settings())
    labels = {"hr.leave": stored_label(registry, tmp_path / "hr", "hr.leave")}
    verdict = Verdict(passed=True, reasons=())
    release = Release(tenant_id=DEFAULT_TENANT, base_model="echo", labels=labels, verdict=verdict)
    registry.releases.promote(DEFAULT_TENANT, registry.releases.add(release))
    done = up.run("submit", "two days off", "--label", "hr.leave", "--wait")
    assert (done.returncode, "two days off" in done.stdout) == (0, True), done.stderr


@pytest.mark.slow
def test_a_joined_worker_ends_where_the_supervisor_was_killed(up):
    up.start().ready()
    started = worker(up)
    eventually(lambda: started in holders(up.data), "it has joined")
    up.kill()
    assert up.run("down").returncode == 0
    assert started.wait(10) is not None
    assert not is_locked(up.data)


@pytest.mark.parametrize("command", [("worker", "--group", "hr"), ("trainer",)])
def test_where_nothing_runs_that_is_said(up, command):
    done = up.run(*command)
    assert (done.returncode, "signalbox up" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
