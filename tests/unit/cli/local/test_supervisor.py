"""What the supervisor plans before anything runs."""

import pytest

from services.cli.local.processes import Backoff
from services.cli.local.supervisor import Supervisor
from shared.errors import Conflict
from shared.settings import Settings

EXTERNAL = {
    "redis_url": "redis://127.0.0.1:1/0",
    "broker_url": "redis://127.0.0.1:2/0",
    "s3_url": "http://127.0.0.1:3",
}


def servers(data_dir, **given):
    system = Supervisor(Settings(data_dir=data_dir, **given), ["bank,base"])
    planned = [server.name for server in system.servers]
    system.stop()
    return planned


def test_a_server_is_started_for_every_url_that_is_not_given(tmp_path):
    assert servers(tmp_path) == ["s3", "ledger", "broker"]


@pytest.mark.parametrize("name", EXTERNAL)
def test_a_url_that_is_given_replaces_its_server(tmp_path, name):
    left = servers(tmp_path, **{name: EXTERNAL[name]})
    assert left == [
        s
        for s in ("s3", "ledger", "broker")
        if {"ledger": "redis_url", "broker": "broker_url", "s3": "s3_url"}[s] != name
    ]


def test_a_url_in_the_environment_counts_as_given(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", EXTERNAL["redis_url"])
    assert servers(tmp_path) == ["s3", "broker"]


def test_two_systems_never_share_a_data_folder(tmp_path):
    first = Supervisor(Settings(data_dir=tmp_path), ["base"])
    with pytest.raises(Conflict) as refusal:
        Supervisor(Settings(data_dir=tmp_path), ["base"])
    first.stop()
    assert refusal.value.code == "already_up"
    assert "signalbox down" in refusal.value.detail
    Supervisor(Settings(data_dir=tmp_path), ["base"]).stop()


def test_processes_are_what_was_asked_for_and_each_has_a_metrics_port_of_its_own(tmp_path):
    system = Supervisor(Settings(data_dir=tmp_path), ["bank,base", "travel"], selectors=2)
    system.stop()
    assert [c.name for c in system.children] == ["api", "selector-1", "selector-2", "worker-1", "worker-2", "trainer-1"]
    ports = [c.metrics_port for c in system.children[1:]]
    assert len(set(ports)) == len(ports)


def test_what_keeps_dying_waits_longer_each_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("services.cli.local.processes.time.monotonic", lambda: now[0])
    backoff, pauses = Backoff(), []
    for _ in range(8):
        died_at = now[0]
        while not backoff.is_due():
            now[0] += 0.125
        pauses.append(now[0] - died_at)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    now[0] += 60  # it lived a while
    assert not backoff.is_due()
    now[0] += 0.5
    assert backoff.is_due()
