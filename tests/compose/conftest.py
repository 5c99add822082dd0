"""One project of containers for all its tests, and a release made in it."""

import pytest

from services.cli.local.servers import free_ports
from tests.support.containers import new_client, quick_file, release, started


@pytest.fixture(scope="session")
def port():
    return free_ports(1)[0]


@pytest.fixture(scope="session")
def stack(tmp_path_factory, port):
    with started(port, quick_file(tmp_path_factory.mktemp("compose"))) as compose:
        yield compose


@pytest.fixture(scope="session")
def client(stack, port):
    return new_client(stack, port)


@pytest.fixture(scope="session")
def released(client):
    """Two adapters and a light selector, promoted."""
    release(client)
    return client
