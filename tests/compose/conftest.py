"""One project of containers for all its tests, and a release made in it."""

import sys

import pytest

from services.cli.local.servers import free_ports
from tests.support.containers import (
    BUILD_SECONDS,
    LABELS,
    ROOT,
    Stack,
    further_files,
    new_client,
    quick_file,
    train_adapter,
    train_selector,
)


@pytest.fixture(scope="session")
def port():
    return free_ports(1)[0]


@pytest.fixture(scope="session")
def stack(tmp_path_factory, port):
    folder = tmp_path_factory.mktemp("compose")
    files = [ROOT / "docker-compose.yml", ROOT / "docker-compose.seaweedfs.yml", quick_file(folder), *further_files()]
    env = {"SIGNALBOX_BASE_MODEL": "tiny", "SIGNALBOX_LISTEN": f"127.0.0.1:{port}", "SIGNALBOX_TAG": "test"}
    compose = Stack(files, env)
    try:
        compose("up", "--build", "--wait", "--detach", seconds=BUILD_SECONDS)
        yield compose
    finally:
        sys.stdout.write(compose("logs", "--no-color", "--tail", "20"))  # shown by pytest where a test fails
        compose("down", "--volumes", "--timeout", "50")


@pytest.fixture(scope="session")
def client(stack, port):
    return new_client(stack, port)


@pytest.fixture(scope="session")
def released(client):
    """Two adapters and a light selector, made by the trainer's container, promoted."""
    for label in LABELS:
        train_adapter(client, label)
    train_selector(client)
    return client
