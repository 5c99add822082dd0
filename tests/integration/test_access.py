"""The users of both Redis servers: what each may not do; that it may do its work, `tests/e2e/test_access.py` shows."""

import time
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from limits import RateLimitItemPerSecond

from services.api.quotas import Quotas
from services.cli.access import ACCOUNTS, OPERATOR, SERVICES, acl_file, url_of
from services.cli.passwords import new_passwords, write_secret
from services.cli.servers import free_ports, redis_server
from shared import keys
from shared.keys import Scope
from shared.settings import Settings

NOBODY_MAY = [
    ("FLUSHALL",),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("KEYS", "*"),
    ("MONITOR",),
    ("SHUTDOWN", "NOSAVE"),
    ("EVAL", "return 1", "0"),
    ("SCRIPT", "FLUSH"),
    ("REPLICAOF", "NO", "ONE"),
    ("MODULE", "LIST"),
    ("CLIENT", "LIST"),
    ("GET", "not:ours"),
]
OTHERS_MAY = {
    # A forged key, a moved pointer, another service's records.
    ("ledger", "api"): [
        ("HSET", "sb:keys", "key_x", "{}"),
        ("SET", "sb:base_model", "mine"),
        ("SET", "sb:process:x", "{}"),
        ("SET", "sb:reconciler", "mine"),
    ],
    ("ledger", "selector"): [
        ("HGETALL", "sb:keys"),
        ("SET", "sb:release:default", "rel_x"),
        ("HSET", "sb:releases:default", "rel_x", "{}"),
        ("HGETALL", "sb:datasets:default"),
        ("SET", "sb:base_model", "mine"),
        ("PUBLISH", "sb:hint:release", "default"),
    ],
    ("ledger", "worker"): [
        ("HGETALL", "sb:keys"),
        ("SET", "sb:release:default", "rel_x"),
        ("HSET", "sb:adapters:default", "a@1", "{}"),
        ("HGETALL", "sb:feedback:default"),
        ("PUBLISH", "sb:hint:cancel", "job_x"),
    ],
    ("ledger", "trainer"): [
        ("HGETALL", "sb:keys"),
        ("HSET", "sb:feedback:default", "job_x", "{}"),
        ("GET", "sb:idem:default:x"),
    ],
    ("broker", "api"): [("BRPOP", "select", "1"), ("LINDEX", "train", "0"), ("DEL", "select")],
    ("broker", "selector"): [("BRPOP", "train", "1"), ("BRPOP", "generate.x", "1"), ("DEL", "select")],
    ("broker", "worker"): [("BRPOP", "select", "1"), ("LRANGE", "generate.x", "0", "-1")],
    ("broker", "trainer"): [("BRPOP", "generate.x", "1"), ("LPUSH", "other", "x")],
}


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    """A server of each kind, and where each account finds it."""
    folder, found, started = tmp_path_factory.mktemp("guarded"), {}, []
    for name, port in zip(("ledger", "broker"), free_ports(2), strict=True):
        passwords = new_passwords()
        server = redis_server(name, port, folder / name, fsync="everysec", users=acl_file(name, passwords))
        server.start()
        started.append(server)
        found |= {(name, who): url_of(who, passwords[who], f"127.0.0.1:{port}") for who in ACCOUNTS}
    yield found
    for server in started:
        server.kill()


def refused(url, command):
    with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


@pytest.mark.parametrize("account", SERVICES)
@pytest.mark.parametrize("server", ["ledger", "broker"])
def test_a_service_has_no_command_over_the_server_and_no_key_that_is_not_signalboxs(urls, server, account):
    for command in NOBODY_MAY:
        refused(urls[server, account], command)


@pytest.mark.parametrize("who", OTHERS_MAY, ids=" ".join)
def test_a_service_is_refused_what_only_others_need(urls, who):
    for command in OTHERS_MAY[who]:
        refused(urls[who], command)


@pytest.mark.parametrize("server", ["ledger", "broker"])
def test_without_a_name_and_a_password_there_is_nothing(urls, server):
    port = urlsplit(urls[server, "api"]).port
    with redis.Redis(port=port) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    with (
        redis.Redis(port=port, username="api", password="wrong") as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    with redis.Redis(port=port, username="probe", password="any") as probe:
        assert probe.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            probe.get("sb:keys")


def test_passwords_of_one_server_or_service_open_nothing_else(urls):
    passwords = [urlsplit(url).password for url in urls.values()]
    assert len(set(passwords)) == len(passwords)


def test_an_operator_makes_keys_which_the_api_can_only_read(urls):
    with redis.Redis.from_url(urls["ledger", OPERATOR], decode_responses=True) as operator:
        key, token = keys.create(operator, frozenset({Scope.SUBMIT}))
    with redis.Redis.from_url(urls["ledger", "api"], decode_responses=True) as api:
        assert keys.authenticate(api, token) == key
        with pytest.raises(redis.exceptions.NoPermissionError):
            keys.revoke(api, key.id)


def test_after_a_leak_new_passwords_close_the_old_ones_out_and_keep_what_is_stored(tmp_path):
    """The runbook's steps: new files in the old ones' place, read by the server while it runs."""
    (port,) = free_ports(1)
    old, new = new_passwords(), new_passwords()
    server = redis_server("ledger", port, tmp_path, fsync="everysec", users=acl_file("ledger", old))
    server.start()

    def client(account, passwords):
        return redis.Redis.from_url(url_of(account, passwords[account], f"127.0.0.1:{port}"), decode_responses=True)

    try:
        with client("worker", old) as leaked, client(OPERATOR, old) as operator, client("worker", new) as renewed:
            leaked.set("sb:base_model", "kept")
            write_secret(tmp_path / "users.acl", acl_file("ledger", new))
            operator.acl_load()
            operator.execute_command("CLIENT", "KILL", "USER", "worker")  # who is connected would stay so
            with pytest.raises(redis.AuthenticationError):
                leaked.get("sb:base_model")
            assert renewed.get("sb:base_model") == "kept"
    finally:
        server.kill()


async def test_the_api_may_count_requests_from_one_window_into_the_next(urls):
    """The counters of `limits`, of a second instead of a minute: where one ends, its key is renamed."""
    client = redis.asyncio.Redis.from_url(urls["ledger", "api"], decode_responses=True)
    limiter = Quotas(client, Settings()).limiter
    item = RateLimitItemPerSecond(2)
    until = time.monotonic() + 10
    for _ in range(3):  # windows
        while not await limiter.hit(item, "key_x"):
            assert (await limiter.get_window_stats(item, "key_x")).remaining >= 0
            assert time.monotonic() < until
        while await limiter.hit(item, "key_x"):
            pass
    await client.aclose()
