"""`signalbox down` where the supervisor was killed: it ends what holds the folder, and nothing else."""

import signal
import subprocess
import sys

import psutil
import pytest

from services.cli.local.down import down
from services.cli.local.folder_lock import FILE, is_locked
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(400)
SLEEP = "import sys, time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def bystander():
    """A process that looks like one of the system's, but belongs to none."""
    with subprocess.Popen([sys.executable, "-c", SLEEP, "services.adapter_worker"], start_new_session=True) as process:
        yield process
        process.kill()


def is_running(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("state", ["names another's pid", pytest.param("is gone", marks=pytest.mark.slow)])
def test_a_killed_supervisors_processes_are_ended_after_a_restart_and_no_others(up, bystander, state):
    before = up.start().ready().running()
    for name in ("worker-1", "broker"):
        before[name].kill()

    def restarted():
        now = up.running()
        return all(name in now and now[name] != before[name] for name in ("worker-1", "broker")) and now

    now = eventually(restarted, "the state file follows the restarts")
    up.kill()
    assert all(map(is_running, now.values()))
    if state == "is gone":
        up.state.clear()
    else:  # as where the pid of one that died is given to another process
        servers = up.state.read()["servers"] | {"broker": bystander.pid}
        up.state.write(services={"worker-1": bystander.pid}, servers=servers)

    done = up.run("down")
    assert (done.returncode, done.stdout.strip()) == (0, f"ended {len(now)} process(es)"), done.stderr
    assert [name for name, process in now.items() if is_running(process)] == []
    assert bystander.poll() is None
    assert not is_locked(up.data)
    assert "nothing runs here" in up.run("down").stdout

    up.start().ready()
    assert up.run("down").returncode == 0
    assert up.process.wait(10) == 0
    assert "stopped" in up.says
    assert not is_locked(up.data)


@pytest.mark.slow
def test_a_frozen_supervisor_is_ended_with_all_it_started(up):
    up.environment["SIGNALBOX_DRAIN_SECONDS"] = "1"
    now = up.start().ready().running()
    up.process.send_signal(signal.SIGSTOP)
    assert up.run("down").returncode == 0
    assert up.process.wait(10) == -signal.SIGKILL
    assert [name for name, process in now.items() if is_running(process)] == []


def test_what_a_process_of_the_folder_started_ends_with_it_and_the_session_of_the_caller_goes_on(tmp_path, bystander):
    """The leader keeps the lock; what it starts has closed it. A process of another session keeps it, too."""
    start = "import subprocess as s, sys, time; print(s.Popen([sys.executable, *sys.argv[1:]]).pid, flush=True)"
    with (tmp_path / FILE).open("a") as lock:
        kept = {"pass_fds": [lock.fileno()], "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", f"{start}; time.sleep(600)", "-c", SLEEP]
        leader = subprocess.Popen(command, start_new_session=True, **kept)
        member = psutil.Process(int(leader.stdout.readline()))
        joined = subprocess.Popen([sys.executable, "-c", SLEEP], **kept)
    assert set(down(tmp_path)) == {leader.pid, joined.pid}
    assert not is_running(member)
    assert (leader.wait(10), joined.wait(10)) == (-signal.SIGTERM, -signal.SIGTERM)
    assert bystander.poll() is None


def test_where_nothing_runs_nothing_is_made(tmp_path):
    assert down(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
