"""What an orchestrator is told about a service."""

import subprocess
import sys
import threading
import time
from wsgiref.simple_server import make_server

import pytest

from shared.errors import Unavailable
from shared.settings import Settings
from shared.worker.leases import STUCK_SECONDS, LeaseKeeper
from shared.worker.probes import Answer, probe_app


class Ledger:
    """Answers heartbeats until it goes away."""

    is_away = False

    def do(self, _call):
        if self.is_away:
            raise Unavailable("ledger_unavailable", "away")
        return []


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def leases(ledger):
    return LeaseKeeper(ledger, Settings(), owner="o", queues=["q"], info=dict)


def test_a_service_is_present_once_the_ledger_has_noted_it(leases):
    assert (leases.is_turning, leases.is_present) == (False, False)
    leases._beat()
    assert (leases.is_turning, leases.is_present) == (True, True)


def test_a_service_whose_ledger_is_away_is_absent_but_not_stuck(leases, ledger):
    ledger.is_away = True
    leases._turned_at, leases._noted_at = time.monotonic(), time.monotonic() - leases.lease_seconds - 1
    assert (leases.is_turning, leases.is_present) == (True, False)


def test_a_service_that_got_no_turn_for_long_is_stuck(leases):
    leases._turned_at = time.monotonic() - STUCK_SECONDS - 1
    assert not leases.is_turning


def test_a_service_that_leaves_its_queues_is_absent_at_once(leases):
    leases._beat()
    leases.close()
    assert not leases.is_present


@pytest.fixture
def port():
    answers = {"/livez": lambda: Answer(True, "yes"), "/readyz": lambda: Answer(False, "ledger: is away")}
    server = make_server("127.0.0.1", 0, probe_app(answers))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("path", "code"), [("/livez", 0), ("/readyz", 1), ("/metrics", 0)])
def test_a_health_check_ends_well_where_the_answer_is_200(port, path, code):
    done = subprocess.run([sys.executable, "-m", "shared.probe", str(port), path], capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert (b"ledger: is away" in done.stderr) == (path == "/readyz")


def test_a_health_check_of_nobody_is_one_sentence():
    done = subprocess.run(
        [sys.executable, "-m", "shared.probe", "1", "/readyz"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
