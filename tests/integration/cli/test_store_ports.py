"""The embedded object store answers keys alone: what a client without them gets, at every port it listens on."""

import pytest
import yaml

from services.cli.local.secrets import write_passwords
from services.cli.local.servers import Server, free_ports, takes_writes, weed
from shared.registry.store import S3Store
from shared.settings import Settings
from tests.support.open_ports import REFUSED, greets, http_status, listening, owner
from tests.support.source import ROOT

STATES = ("/status", "/healthz")
"""That it runs, and how full its volumes are: nothing of anybody's."""
PATHS = (
    *("/", "/ui/index.html", "/metrics", "/dir/assign", "/dir/lookup?volumeId=1", "/dir/status", "/cluster/status"),
    *("/vol/grow", "/vol/vacuum", "/col/delete?collection={bucket}", "/stats/disk", "/submit", "/1,01637037d6"),
    *("/buckets/{bucket}/ready", "/{bucket}/ready", "/buckets/{bucket}/?recursive=true", "/{bucket}?delete"),
)


def given_to_anybody(addresses, bucket):
    """Every request without a key that some port did not refuse."""
    paths = [*STATES, *(path.format(bucket=bucket) for path in PATHS)]
    asked = [
        (address, method, path)
        for address in addresses
        for method in ("GET", "PUT", "POST", "DELETE")
        for path in paths
    ]
    found = [(*each, status) for each in asked if (status := http_status(*each)) not in {0, *REFUSED}]
    found += [
        (address, "gRPC", f"tls={tls}") for address in addresses for tls in (False, True) if greets(address, tls=tls)
    ]
    return [each for each in found if each[2] not in STATES]


def test_no_port_of_the_store_answers_a_client_without_keys(servers):
    port = int(servers.s3_url.rsplit(":", 1)[1])
    store = S3Store(servers)
    store.put("ready", b"1")

    ports, sockets = listening(owner(port))

    assert len(ports) == 8  # master, volume server, filer and S3, each with its port for gRPC
    assert {host for host, _ in ports} == {"127.0.0.1"}
    assert given_to_anybody([*ports, *sockets], servers.s3_bucket) == []
    assert store.get("ready") == b"1"


@pytest.fixture
def compose_store(tmp_path):
    """SeaweedFS as the Compose file starts it, but for the ports and folders of containers."""
    service = yaml.safe_load((ROOT / "docker-compose.seaweedfs.yml").read_text().replace("!reset", ""))["services"][
        "s3"
    ]
    write_passwords(tmp_path, ledger="ledger:6379", broker="broker:6379")
    (tmp_path / "data").mkdir()
    port, master, volume, filer = free_ports(4)
    options = [part.replace("/run/secrets", str(tmp_path / "s3")) for part in service["command"]]
    options = [part.replace("=/data", f"={tmp_path / 'data'}").replace("=9000", f"={port}") for part in options]
    options += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    assert service["working_dir"] == "/run/secrets"
    settings = Settings(s3_url=f"http://127.0.0.1:{port}", s3_secret_key=(tmp_path / "s3" / "password").read_text())
    server = Server(
        "s3", [weed(), *service["entrypoint"][1:], *options], tmp_path / "s3", lambda: takes_writes(settings)
    )
    server.start()
    yield server.process.pid, settings
    server.kill()


def test_in_a_container_only_the_s3_port_can_be_reached_and_it_asks_for_keys(compose_store):
    pid, settings = compose_store
    port = int(settings.s3_url.rsplit(":", 1)[1])

    ports, _ = listening(pid)

    assert {number for host, number in ports if host != "127.0.0.1"} == {port, port + 10_000}
    assert given_to_anybody([("127.0.0.1", number) for _, number in ports], settings.s3_bucket) == []
