"""Every client by TLS: real servers behind certificates of a throw-away authority."""

import socket
from urllib.parse import urlsplit

import pytest
from kombu.exceptions import OperationalError

from services.api.infra.event_feed import EventFeed
from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.errors import Unavailable
from shared.ledger import AsyncLedger, Ledger, LedgerAway, calls
from shared.ledger.calls import Sent
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.registry.store import S3Store
from shared.settings import Settings
from tests.support.api import client_of, serving
from tests.support.tls import Certificates, TlsFront

LOCAL = "127.0.0.1"


def port_of(url):
    return urlsplit(url).port


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def fronts(certificates, servers):
    """TLS ports of ledger and broker, which ask for a client's certificate, and of the object store."""
    asking = certificates.server_context(asks_for_client=True)
    open_to_all = certificates.server_context(asks_for_client=False)
    with (
        TlsFront(asking, port_of(servers.redis_url)) as ledger,
        TlsFront(asking, port_of(servers.broker_url)) as broker,
        TlsFront(open_to_all, port_of(servers.s3_url)) as s3,
    ):
        yield {"ledger": ledger.port, "broker": broker.port, "s3": s3.port}


@pytest.fixture
def secured(settings, certificates, fronts):
    """Settings as an operator gives them."""
    chain, key = certificates.client
    return Settings(
        **settings.model_dump(exclude={"redis_url", "broker_url", "s3_url"}, exclude_unset=True),
        redis_url=f"rediss://{LOCAL}:{fronts['ledger']}/0",
        broker_url=f"rediss://{LOCAL}:{fronts['broker']}/0",
        redis_ca_file=certificates.ca,
        redis_cert_file=chain,
        redis_key_file=key,
        s3_url=f"https://{LOCAL}:{fronts['s3']}",
        s3_ca_file=certificates.ca,
    )


def new_job(queue="select"):
    return NewJob(
        id=new_job_id("t"), tenant_id="t", kind=JobKind.SELECT, stage=Stage.SELECT, queue=queue, body={"input": "x"}
    )


def test_a_job_goes_through_the_ledger_by_tls(secured):
    ledger = Ledger(secured.redis_url)
    job = new_job()
    ledger.do(calls.create(job, 60))
    assert ledger.do(calls.acquire(job.id, "select", "w", 10)).attempt == 1
    ledger.close()


async def test_events_reach_a_reader_by_tls(secured):
    ledger, feed = AsyncLedger(secured.redis_url), EventFeed(secured.redis_url, secured.reader_shares)
    job = new_job()
    async with feed.reader(job.id) as reader:
        await ledger.do(calls.create(job, 60))
        await ledger.do(calls.cancel(job.id, "t"))
        states = [event.data async for event in feed.events(reader)]
    assert "cancelled" in states[-1]
    await feed.close()
    await ledger.close()


def test_a_message_goes_to_celery_and_back_by_tls(secured):
    app = make_celery(secured, "test")
    Bus(app).send(Sent("job_x", "generate.fin"))
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("generate.fin").get(timeout=10)
        assert message.payload[0] == [{"job_id": "job_x"}]
        assert connection.transport.driver_type == "redis"
        assert connection.ssl["ssl_check_hostname"] is True


def test_objects_go_to_the_store_and_back_by_tls(secured, tmp_path):
    store = S3Store(secured)
    store.ensure_bucket()
    store.put("tls/a", b"whole")
    store.get_file("tls/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert store.keys("tls/") == ["tls/a"]


async def test_the_api_serves_with_every_part_behind_tls(secured, release, tokens):
    async with serving(secured) as (_, url), client_of(url, tokens["submit"]) as client:
        job = await client.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})
        assert job.status_code == 202
        ready = (await client.get("/readyz")).json()["parts"]
        assert {name for name, part in ready.items() if not part["ok"]} == {"consumers"}


def test_without_a_certificate_of_its_own_a_client_is_refused(secured, fronts, certificates):
    bare = Settings(redis_url=f"rediss://{LOCAL}:{fronts['ledger']}/0", redis_ca_file=certificates.ca)
    with pytest.raises(LedgerAway):
        Ledger(bare.redis_url, timeout_seconds=2).do(calls.gauges())


@pytest.mark.parametrize("name", ["other.test", LOCAL])
def test_a_server_that_shows_another_name_or_another_authority_is_not_believed(
    name, servers, secured, certificates, tmp_path
):
    """A name that is not the server's from the right authority; the right name from a stranger."""
    issuer = certificates if name == "other.test" else Certificates(tmp_path)
    context = issuer.server_context(name, asks_for_client=False)
    with (
        TlsFront(context, port_of(servers.redis_url)) as ledger,
        TlsFront(context, port_of(servers.broker_url)) as broker,
        TlsFront(context, port_of(servers.s3_url)) as s3,
    ):
        fooled = Settings(
            **secured.model_dump(exclude={"redis_url", "broker_url", "s3_url"}, exclude_unset=True),
            redis_url=f"rediss://{LOCAL}:{ledger.port}/0",
            broker_url=f"rediss://{LOCAL}:{broker.port}/0",
            s3_url=f"https://{LOCAL}:{s3.port}",
        )
        with pytest.raises(LedgerAway, match="is not believed: check SIGNALBOX_REDIS_CA_FILE"):
            Ledger(fooled.redis_url, timeout_seconds=2).do(calls.gauges())
        app = make_celery(fooled, "test")
        with pytest.raises(Unavailable):
            Bus(app).send(Sent("job_x", "select"))
        with pytest.raises(OperationalError, match="certificate verify failed"):
            app.connection_for_read().ensure_connection(max_retries=1, interval_start=0, timeout=5)
        with pytest.raises(Unavailable, match="is not believed: check SIGNALBOX_S3_CA_FILE"):
            S3Store(fooled).exists("ready")


def test_a_plain_url_to_a_tls_port_gets_no_answer(fronts):
    with pytest.raises(LedgerAway):
        Ledger(f"redis://{LOCAL}:{fronts['ledger']}/0", timeout_seconds=2).do(calls.gauges())
    with socket.create_connection((LOCAL, fronts["ledger"])) as raw:
        raw.settimeout(5)
        raw.sendall(b"PING\r\n")
        assert b"PONG" not in raw.recv(100)
