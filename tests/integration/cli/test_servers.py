"""Where the servers of one machine listen, and what is said when one cannot."""

import json
import socket
from pathlib import Path

import pytest

from services.cli.local.servers import free_ports, redis_server, s3_server
from shared.errors import Unavailable
from shared.settings import Settings

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not OUTGOING.is_file(), reason="this system does not say which ports outgoing connections get")
def test_no_outgoing_connection_gets_a_port_before_its_server():
    lowest = int(OUTGOING.read_text().split()[0])
    if lowest < 32768:
        pytest.skip(f"outgoing connections get ports from {lowest} on here, which is not as Linux has it by itself")
    assert max(free_ports(50)) + 10_000 < lowest


def test_no_port_is_given_twice():
    ports = [port for _ in range(100) for port in free_ports(3)]
    assert len(set(ports)) == 300


def test_a_server_whose_port_is_taken_says_so(tmp_path):
    (port,) = free_ports(1)
    server = s3_server(Settings(s3_url=f"http://127.0.0.1:{port}", s3_secret_key="key"), tmp_path)
    _, _, filer = json.loads((tmp_path / "ports.json").read_text())
    with socket.create_server(("127.0.0.1", filer)), pytest.raises(Unavailable) as refusal:
        server.start()
    assert f"127.0.0.1:{filer}: bind: address already in use" in refusal.value.detail
    assert "glog.go" not in refusal.value.detail


def test_restarts_are_counted(tmp_path):
    server = redis_server("ledger", free_ports(1)[0], tmp_path, fsync="always")
    counted = []
    for _ in range(2):
        server.start()
        counted.append(server.restarts)
        server.kill()
    assert counted == [0, 1]


def test_ports_of_an_s3_server_stay_the_same_until_another_has_them(tmp_path):
    def inner_ports():
        s3_server(Settings(s3_url=f"http://127.0.0.1:{free_ports(1)[0]}", s3_secret_key="key"), tmp_path)
        return json.loads((tmp_path / "ports.json").read_text())

    first = inner_ports()
    assert inner_ports() == first
    with socket.create_server(("127.0.0.1", first[2])):
        assert not set(inner_ports()) & set(first)
