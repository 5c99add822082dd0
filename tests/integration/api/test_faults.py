"""Servers that go away: never a false 202, and back to work when they return."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from services.api.infra import ledger_room
from services.cli.local.servers import free_ports, redis_server
from shared.ledger import Ledger, calls
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from tests.support.api import client_of, code, make_release, serving


@pytest.fixture
def own_redis(tmp_path):
    """A Redis server of this test alone, to be stopped at will."""
    (port,) = free_ports(1)
    server = redis_server("own", port, tmp_path / "own", fsync="always")
    server.start()
    yield server, f"redis://127.0.0.1:{port}/0"
    server.kill()


def seed(url):
    """A release and a key in a ledger; answers the key."""
    ledger = Ledger(url)
    release = make_release()
    ledger.redis.hset(LedgerKey.RELEASES.of("default"), release.id, release.model_dump_json())
    ledger.redis.set(LedgerKey.RELEASE.of("default"), release.id)
    token = api_keys.create(ledger.redis, frozenset(api_keys.Scope))[1]
    ledger.close()
    return token


async def test_while_the_ledger_is_down_nothing_is_accepted_and_afterwards_everything_is(settings, own_redis):
    server, url = own_redis
    token = seed(url)
    own = settings.model_copy(update={"redis_url": url})
    async with serving(own) as (_, base_url), client_of(base_url, token) as client:
        before = (await client.post("/v1/jobs", json={"input": "x"})).json()["id"]
        server.kill()
        for _ in range(3):
            answer = await client.post("/v1/jobs", json={"input": "x"})
            assert code(answer, 503) == "ledger_unavailable"
            assert answer.json()["retryable"] is True
            assert int(answer.headers["retry-after"]) > 0
        for path in ("/v1/jobs", f"/v1/jobs/{before}", "/v1/releases", "/v1/adapters", f"/v1/jobs/{before}/events"):
            assert code(await client.get(path), 503) == "ledger_unavailable"
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["ledger"]["ok"]) == (503, False)
        assert "signalbox_ledger_up 0.0" in (await client.get("/metrics")).text
        assert (await client.get("/healthz")).status_code == 200
        server.start()
        assert (await client.post("/v1/jobs", json={"input": "x"})).status_code == 202
        assert (await client.get(f"/v1/jobs/{before}")).json()["state"] == "queued"
        assert len((await client.get("/v1/jobs")).json()["items"]) == 2


async def test_a_ledger_that_hangs_is_told_before_a_scrape_gives_up(settings, own_redis):
    server, url = own_redis
    token = seed(url)
    own = settings.model_copy(update={"redis_url": url})
    async with serving(own) as (_, base_url), client_of(base_url, token) as client:
        assert "signalbox_ledger_up 1.0" in (await client.get("/metrics")).text
        server.process.send_signal(signal.SIGSTOP)
        try:
            answer = await client.get("/metrics", timeout=4)  # of the 5 s that the shortest configuration has
            ready = await client.get("/readyz", timeout=5)
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert "signalbox_ledger_up 0.0" in answer.text
        assert (ready.status_code, ready.json()["parts"]["ledger"]["ok"]) == (503, False)
        assert "signalbox_ledger_up 1.0" in (await client.get("/metrics")).text


async def test_a_process_that_starts_without_its_ledger_serves_when_it_comes(settings, own_redis):
    server, url = own_redis
    token = seed(url)
    server.kill()
    own = settings.model_copy(update={"redis_url": url})
    async with serving(own) as (_, base_url), client_of(base_url, token) as client:
        assert code(await client.post("/v1/jobs", json={"input": "x"}), 503) == "ledger_unavailable"
        server.start()
        assert (await client.post("/v1/jobs", json={"input": "x"})).status_code == 202


RESERVE = 0.5  # wide: what connections take for a moment must not carry the server past it


@pytest.fixture
async def own_system(settings, own_redis, monkeypatch):
    """A ledger of this test alone, a client of its API, and a look at its room for every job."""
    monkeypatch.setattr(ledger_room, "_LOOK_SECONDS", 0)
    _, url = own_redis
    token = seed(url)
    ledger = Ledger(url)
    own = settings.model_copy(update={"redis_url": url, "requests_per_minute": 1000, "ledger_reserve": RESERVE})
    async with serving(own) as (_, base_url), client_of(base_url, token) as client:
        yield ledger, client
    ledger.close()


async def readiness(client):
    ready = await client.get("/readyz")
    return ready.status_code, ready.json()["parts"]["ledger"]["detail"]


FULL = {
    "all memory used": ("maxmemory", lambda used: 1, "takes no writes"),
    "the reserve reached": ("maxmemory", lambda used: used * 3 // 2, "keeps the rest for jobs that were accepted"),
    "no writes for another reason": ("min-replicas-to-write", lambda used: 1, "takes no writes"),
}


@pytest.mark.parametrize("why", FULL)
async def test_a_full_ledger_takes_nothing_is_not_ready_and_says_why(own_system, why):
    ledger, client = own_system
    setting, value, says = FULL[why]
    assert (await client.post("/v1/jobs", json={"input": "x"})).status_code == 202
    assert await readiness(client) == (200, "takes writes")
    ledger.redis.config_set(setting, value(ledger.redis.info("memory")["used_memory"]))
    answer = await client.post("/v1/jobs", json={"input": "x"})
    assert code(answer, 503) == "ledger_full"
    assert int(answer.headers["retry-after"]) > 0
    status, detail = await readiness(client)
    assert (status, says in detail) == (503, True), detail
    ledger.redis.config_set(setting, 0)
    assert len((await client.get("/v1/jobs")).json()["items"]) == 1
    assert await readiness(client) == (200, "takes writes")


async def test_a_full_ledger_lets_jobs_be_read_and_cancelled_by_keys_with_limits_too(own_system):
    ledger, client = own_system
    job_id = (await client.post("/v1/jobs", json={"input": "x"})).json()["id"]
    ledger.redis.config_set("maxmemory", 1)
    assert (await client.get(f"/v1/jobs/{job_id}")).json()["state"] == "queued"
    assert (await client.delete(f"/v1/jobs/{job_id}")).json()["state"] == "cancelled"
    assert "signalbox_ledger_takes_jobs 0.0" in (await client.get("/metrics")).text


async def test_a_tenant_at_its_budget_is_told_when_to_come_again_and_others_are_served(own_system, settings):
    ledger, client = own_system
    other = make_release(tenant_id="other")
    ledger.redis.hset(LedgerKey.RELEASES.of("other"), other.id, other.model_dump_json())
    ledger.redis.set(LedgerKey.RELEASE.of("other"), other.id)
    token = api_keys.create(ledger.redis, frozenset(api_keys.Scope), tenant_id="other")[1]
    ledger.redis.config_set("maxmemory", 200 << 20)
    budget = int((200 << 20) * (1 - RESERVE)) * settings.tenant_ledger_share
    ledger.redis.hset(LedgerKey.HELD, "default", int(budget) - 20_000)
    assert (await client.post("/v1/jobs", json={"input": "x"})).status_code == 202
    job_id = (await client.post("/v1/jobs", json={"input": "x"})).json()["id"]
    answer = await client.post("/v1/jobs", json={"input": "x"})
    assert code(answer, 429) == "ledger_budget_used"
    assert "50 MiB" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) == 5  # none has ended
    await client.delete(f"/v1/jobs/{job_id}")
    answer = await client.post("/v1/jobs", json={"input": "x"})
    assert 595 < int(answer.headers["retry-after"]) <= settings.min_result_ttl_seconds
    async with client_of(str(client.base_url), token) as neighbour:
        assert (await neighbour.post("/v1/jobs", json={"input": "x"})).status_code == 202
    assert "signalbox_ledger_fullest_tenant_ratio 0.9" in (await client.get("/metrics")).text


async def test_a_tenant_is_refused_unread_for_a_moment_unless_it_may_repeat_an_accepted_request(
    own_system, monkeypatch
):
    ledger, client = own_system
    key = {"Idempotency-Key": "k"}
    first = await client.post("/v1/jobs", json={"input": "x"}, headers=key)
    ledger.redis.config_set("maxmemory", 200 << 20)
    ledger.redis.hset(LedgerKey.HELD, "default", 200 << 20)
    monkeypatch.setattr(ledger_room, "_LOOK_SECONDS", 60)
    assert code(await client.post("/v1/jobs", json={"input": "x"}), 429) == "ledger_budget_used"
    for path in ("/v1/jobs", "/v1/select"):
        assert code(await client.post(path, content=b"no JSON"), 429) == "ledger_budget_used"
    again = await client.post("/v1/jobs", json={"input": "x"}, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())


async def test_with_too_many_jobs_waiting_new_ones_are_told_when_to_come_again(settings, tokens, release):
    own = settings.model_copy(update={"max_waiting_jobs": 1})
    async with serving(own) as (_, url), client_of(url, tokens["submit"]) as client:
        assert (await client.post("/v1/jobs", json={"input": "x"})).status_code == 202
        answer = await client.post("/v1/jobs", json={"input": "x"})
        assert code(answer, 429) == "too_many_waiting"
        assert answer.json()["retryable"] is True
        assert int(answer.headers["retry-after"]) > 0


async def test_without_a_broker_jobs_are_accepted_and_wait_in_the_ledger(settings, tokens, release, ledger):
    (nobody,) = free_ports(1)
    own = settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{nobody}/0"})
    async with serving(own) as (_, url), client_of(url, tokens["submit"]) as client:
        job_id = (await client.post("/v1/jobs", json={"input": "x"})).json()["id"]
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["broker"]["ok"]) == (200, False)
        # What autoscalers read counts the ledger's jobs, not the broker's messages.
        assert 'signalbox_queue_waiting{queue="select"} 1.0' in (await client.get("/metrics")).text
    assert ledger.do(calls.acquire_next("select", "w", 60)).id == job_id


async def test_without_the_store_uploads_wait_but_jobs_do_not(settings, tokens, release):
    own = settings.model_copy(update={"s3_url": "http://127.0.0.1:9"})
    async with serving(own) as (_, url), client_of(url, tokens["admin"]) as client:
        answer = await client.post("/v1/datasets?name=x", content=b'{"input": "a"}\n')
        assert code(answer, 503) == "store_unavailable"
        assert (await client.get("/v1/datasets")).json()["items"] == []
        assert (await client.post("/v1/jobs", json={"input": "x"})).status_code == 202
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["store"]["ok"]) == (200, False)


async def test_a_stream_outlives_a_restart_of_the_ledger(settings, own_redis):
    server, url = own_redis
    token = seed(url)
    own = settings.model_copy(update={"redis_url": url})
    async with serving(own) as (_, base_url), client_of(base_url, token) as client:
        job_id = (await client.post("/v1/jobs", json={"input": "x"})).json()["id"]
        async with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "event: state"
            server.kill()
            server.start()
            assert (await client.delete(f"/v1/jobs/{job_id}")).json()["state"] == "cancelled"
            assert any("cancelled" in line[0:] for line in [line async for line in lines])


def environment(settings, port):
    return {
        **os.environ,
        "SIGNALBOX_REDIS_URL": settings.redis_url,
        "SIGNALBOX_BROKER_URL": settings.broker_url,
        "SIGNALBOX_S3_URL": settings.s3_url,
        "SIGNALBOX_API_PORT": str(port),
    }


def test_sigterm_ends_the_process_with_streams_open(settings, tokens, release):
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", "services.api"], env=environment(settings, port))
    try:
        transport = httpx.HTTPTransport(retries=8)
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {tokens['submit']}"}
        with httpx.Client(base_url=url, headers=headers, transport=transport, timeout=30) as client:
            job_id = client.post("/v1/jobs", json={"input": "x"}).json()["id"]
            with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
                lines = response.iter_lines()
                assert next(lines) == "event: state"
                process.send_signal(signal.SIGTERM)
                assert "data" not in "".join(list(lines)[3:])
        assert process.wait(9) == 0  # below the grace for streams: they were ended, not waited for
    finally:
        process.kill()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_api_process_never_imports_what_only_models_need(settings):
    script = (
        "import sys; from services.api.app import create_app; from shared.settings import Settings;"
        "create_app(Settings()).openapi();"
        "print([name for name in ('torch', 'transformers', 'faiss', 'numpy', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
