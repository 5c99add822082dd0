"""One project of containers for all its tests, and a release made in it."""

import os
import sys

import pytest
import yaml

from services.cli.local.servers import free_ports
from tests.support.containers import (
    BUILD_SECONDS,
    LABELS,
    QUICK,
    ROOT,
    SERVICES,
    Stack,
    new_client,
    train_adapter,
    train_selector,
)
from tests.support.tiny_model import save_tiny_model


@pytest.fixture(scope="session")
def port():
    return free_ports(1)[0]


@pytest.fixture(scope="session")
def stack(tmp_path_factory, port):
    folder = tmp_path_factory.mktemp("compose")
    models = folder / "models"
    save_tiny_model(models / "tiny")
    for path in (models, *models.rglob("*")):
        path.chmod(0o777)  # the containers' user is not the test's
    quick = folder / "quick.yml"
    bind = {"type": "none", "o": "bind", "device": str(models)}
    quick.write_text(
        yaml.safe_dump(
            {
                "services": {name: {"environment": QUICK} for name in SERVICES},
                "volumes": {"models": {"driver_opts": bind}},
            }
        )
    )
    more = filter(None, os.environ.get("SIGNALBOX_TEST_COMPOSE_FILES", "").split(":"))
    files = [ROOT / "docker-compose.yml", ROOT / "docker-compose.seaweedfs.yml", quick, *more]
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
