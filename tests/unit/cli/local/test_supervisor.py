"""What the supervisor plans before anything runs."""

import os
import socket

import pytest

from services.cli.local.ports import listens
from services.cli.local.processes import Backoff
from services.cli.local.servers import free_ports
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


def test_a_port_that_was_asked_for_and_is_taken_is_refused_and_its_owner_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Conflict) as refusal:
            Supervisor(Settings(data_dir=tmp_path, api_port=port), ["base"])
    assert refusal.value.code == "port_taken"
    assert f"port {port} of 127.0.0.1 is taken by process {os.getpid()} (" in refusal.value.detail
    assert "SIGNALBOX_API_PORT" in refusal.value.detail


def usual(port, data_dir):
    """Settings under which the port is the usual one, which nobody asked for."""

    class Usual(Settings):
        api_port: int = port

    return Usual(data_dir=data_dir)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_where_the_usual_port_is_taken_another_is_used_and_said(tmp_path, address):
    """`localhost` may be either loopback address: whoever calls it must not meet somebody else."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if family == socket.AF_INET6 and "::1" not in {each[4][0] for each in socket.getaddrinfo("localhost", None)}:
        pytest.skip("localhost is no IPv6 address here")
    with socket.create_server((address, 0), family=family) as other:
        port = other.getsockname()[1]
        system = Supervisor(usual(port, tmp_path), ["base"])
        system.stop()
    assert system.settings.api_port != port
    assert f"port {port} of" in system.notice
    assert f"the API uses port {system.settings.api_port} instead" in system.notice


def test_a_usual_port_that_is_free_is_used_without_a_word(tmp_path):
    (port,) = free_ports(1)
    system = Supervisor(usual(port, tmp_path), ["base"])
    system.stop()
    assert (system.settings.api_port, system.notice) == (port, "")


def test_whoever_else_answers_on_the_port_is_not_the_api(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
    assert not listens(os.getpid(), port)


def test_an_address_that_is_not_this_machines_is_refused(tmp_path):
    with pytest.raises(Conflict) as refusal:
        Supervisor(Settings(data_dir=tmp_path, api_host="203.0.113.1"), ["base"])
    assert "SIGNALBOX_API_HOST" in refusal.value.detail


def test_processes_are_what_was_asked_for_and_each_has_a_metrics_port_of_its_own(tmp_path):
    system = Supervisor(Settings(data_dir=tmp_path), ["bank,base", "travel"], selectors=2)
    system.stop()
    assert [c.name for c in system.children] == [
        "api",
        "api-worker",
        "selector-1",
        "selector-2",
        "worker-1",
        "worker-2",
        "trainer-1",
    ]
    ports = [c.metrics_port for c in system.children[1:]]
    assert len(set(ports)) == len(ports)


def test_every_process_gets_the_secrets_and_not_their_disguise(tmp_path):
    system = Supervisor(Settings(data_dir=tmp_path, vllm_api_key="of-vllm", s3_secret_key="of-s3"), ["base"])
    system.stop()
    for child in system.children:
        assert child.env["SIGNALBOX_VLLM_API_KEY"] == "of-vllm"
        assert "*" not in child.env["SIGNALBOX_S3_SECRET_KEY"]


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
