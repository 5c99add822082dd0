"""Every part really stopped, one after the other: `/readyz` and the doctor name that one, and no other."""

import asyncio

import pytest

from services.cli.local.doctor import examine
from services.cli.local.servers import free_ports, redis_server, s3_server
from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.ledger import Ledger, calls
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.security import api_keys
from shared.settings import Settings
from shared.worker.leases import LeaseKeeper
from shared.worker.probes import readiness
from tests.support.api import ADAPTERS, SELECTOR, client_of, make_release, serving
from tests.support.eventually import eventually


@pytest.fixture
def own(tmp_path):
    """Servers of this test alone, by name, and their settings."""
    (s3_port,) = free_ports(1)
    ports = dict(zip(("ledger", "broker"), free_ports(2), strict=True))
    settings = Settings(
        redis_url=f"redis://127.0.0.1:{ports['ledger']}/0",
        broker_url=f"redis://127.0.0.1:{ports['broker']}/0",
        s3_url=f"http://127.0.0.1:{s3_port}",
        data_dir=tmp_path / "data",
        lease_seconds=60,
    )
    servers = {name: redis_server(name, port, tmp_path / name, fsync="always") for name, port in ports.items()}
    servers["s3"] = s3_server(settings, tmp_path / "s3")
    for server in servers.values():
        server.start()
    yield settings, servers
    for server in servers.values():
        server.kill()


def seed(settings):
    """A release, a job, and a key; answers the key and the worker of all queues."""
    ledger, store = Ledger(settings.redis_url), S3Store(settings)
    registry = Registry(ledger, store, settings.cache_dir)
    store.ensure_bucket()
    for digest in (*ADAPTERS.values(), SELECTOR):
        store.put(f"adapters/{digest}/adapter_model.safetensors", b"x")
    release = make_release()
    registry.releases.promote("default", registry.releases.add(release), force=True)
    job = NewJob(
        id=new_job_id("default"),
        tenant_id="default",
        kind=JobKind.SELECT,
        stage=Stage.SELECT,
        queue="select",
        body={"input": "x"},
    )
    ledger.do(calls.create(job, 60))
    worker = LeaseKeeper(ledger, settings, owner="w", queues=["select", *release.queues], info=dict)
    worker.start()
    return api_keys.create(ledger.redis, frozenset({api_keys.Scope.ADMIN}))[1], worker


async def test_readyz_and_the_doctor_name_the_part_that_is_down_and_no_other(own, monkeypatch):
    settings, servers = own
    token, worker = seed(settings)
    for name in ("redis_url", "broker_url", "s3_url", "data_dir"):
        monkeypatch.setenv(f"SIGNALBOX_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("SIGNALBOX_API_KEY", token)

    async def down():
        """Parts that `/readyz` says are down, its status, and what the doctor finds."""
        answer = await client.get("/readyz")
        found = {finding["what"] for finding in await asyncio.to_thread(examine) if not finding["ok"]}
        unready = {name for name, part in answer.json()["parts"].items() if not part["ok"]}
        return unready, answer.status_code, found - {"base model", "disk"}

    async with serving(settings) as (_, url), client_of(url) as client:
        monkeypatch.setenv("SIGNALBOX_API_URL", url)
        assert await down() == (set(), 200, set())
        servers["broker"].kill()
        assert await down() == ({"broker"}, 200, {"broker", "api: broker"})
        servers["broker"].start()
        servers["s3"].kill()
        assert await down() == ({"store"}, 200, {"object store", "api: store"})
        servers["s3"].start()
        assert await down() == (set(), 200, set())
        worker.close()
        assert await down() == ({"consumers"}, 200, {"api: consumers"})
        servers["ledger"].kill()
        unready, status, found = await down()
        assert ("ledger" in unready, status) == (True, 503)
        assert {"ledger", "api: ledger"} <= found
    assert "api" in {finding["what"] for finding in await asyncio.to_thread(examine) if not finding["ok"]}


def test_a_service_names_its_ledger_and_its_broker(own):
    settings, servers = own
    settings = settings.model_copy(update={"lease_seconds": 0.2, "heartbeat_seconds": 0.05})
    leases = LeaseKeeper(Ledger(settings.redis_url), settings, owner="w", queues=["select"], info=dict)
    leases.start()
    assert readiness(leases, settings.broker_url) == (True, "ledger: has noted this process\nbroker: answers\n")
    servers["broker"].kill()
    assert readiness(leases, settings.broker_url) == (True, "ledger: has noted this process\nbroker: does not answer\n")
    servers["ledger"].kill()
    eventually(lambda: not leases.is_present, "the lease runs out")
    assert readiness(leases, settings.broker_url).text.startswith("ledger: has not noted this process lately")
    leases.close()
