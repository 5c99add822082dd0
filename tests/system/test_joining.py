"""A worker that a person starts beside `signalbox up` serves its groups, and ends with the system."""

import subprocess

import psutil
import pytest
import redis

from services.cli.local.folder_lock import holders, is_locked
from shared.ledger.keys import LedgerKey
from tests.support.eventually import eventually
from tests.support.up_process import PROGRAM

pytestmark = pytest.mark.timeout(300)


def worker(up, **environment):
    """Without the settings that `up` was started with: the folder knows them."""
    own = {name: value for name, value in up.environment.items() if name != "SIGNALBOX_ENGINE"}
    return psutil.Popen([PROGRAM, "worker", "--group", "hr"], env=own | environment, stderr=subprocess.PIPE, text=True)


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
