"""Real servers for every test that needs one: started where missing, and their absence is a failure, never a skip."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.local.servers import free_ports, redis_server, s3_server
from shared.ledger import Ledger
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.settings import Settings
from tests.support.kernels import DATA_DIR


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Two Redis-protocol servers and an S3 server of this test session's own."""
    folder = tmp_path_factory.mktemp("servers")
    s3_port, ledger_port, broker_port = free_ports(3)
    settings = Settings(
        redis_url=f"redis://127.0.0.1:{ledger_port}/0",
        broker_url=f"redis://127.0.0.1:{broker_port}/0",
        s3_url=f"http://127.0.0.1:{s3_port}",
        s3_bucket="signalbox-tests",
        data_dir=DATA_DIR,
    )
    started = [
        redis_server("ledger", ledger_port, folder / "ledger", fsync="always"),
        redis_server("broker", broker_port, folder / "broker", fsync="everysec"),
        s3_server(settings, folder / "s3"),
    ]
    for server in started:
        server.start()
    yield settings
    for server in started:
        server.kill()


@pytest.fixture
def settings(servers: Settings, tmp_path: Path) -> Settings:
    """Settings of the running servers, both Redis empty, a data folder of the test's own."""
    for url in (servers.redis_url, servers.broker_url):
        ledger = Ledger(url)
        ledger.redis.flushall()
        ledger.close()
    return servers.model_copy(update={"data_dir": tmp_path / "data"})


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    client = Ledger(settings.redis_url)
    yield client
    client.close()


@pytest.fixture
def store(settings: Settings) -> S3Store:
    return S3Store(settings)


@pytest.fixture
def alone(settings: Settings) -> Settings:
    """Settings with a bucket, empty, that tests share which look at all objects: for many the server has no room."""
    own = settings.model_copy(update={"s3_bucket": "signalbox-alone"})
    store = S3Store(own)
    store.ensure_bucket()
    for key in store.keys(""):
        store.delete(key)
    return own


@pytest.fixture
def registry(ledger: Ledger, store: S3Store, settings: Settings) -> Registry:
    return Registry(ledger, store, settings.cache_dir)
