"""The users of both Redis servers: what each may not do; `tests/system/test_access.py` shows what it may."""

import json
import time
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from limits import RateLimitItemPerSecond
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.api.infra.rate_limits import RateLimits
from services.cli.local.redis_acl import ACCOUNTS, OPERATOR, SERVICES, acl_file, url_of
from services.cli.local.secrets import new_passwords, write_secret
from services.cli.local.servers import free_ports, redis_server
from shared.contracts.adapter_needs import AdapterNeed
from shared.contracts.dialogue import Kept
from shared.contracts.jobs import JobKind, JobState, NewJob, Stage, new_job_id
from shared.contracts.manifests import AdapterManifest, Release, Verdict
from shared.contracts.rows import Row
from shared.contracts.templates import PromptTemplate
from shared.contracts.traffic import TrafficPart, TrafficPolicy
from shared.errors import Conflict, Invalid
from shared.ledger import Ledger, LedgerAway, calls
from shared.ledger.keys import LedgerKey
from shared.names import RELEASE_CHANNEL
from shared.queue.retention import Retention
from shared.registry import Registry, ReleaseWatch
from shared.registry.store import FolderStore
from shared.security import api_keys
from shared.security.api_keys import Scope
from shared.settings import Settings
from tests.support.eventually import eventually

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
        ("HSET", LedgerKey.API_KEYS, "key_x", "{}"),
        ("SET", LedgerKey.PROCESS.of("x"), "{}"),
        ("SET", LedgerKey.RECONCILER, "mine"),
    ],
    ("ledger", "selector"): [
        ("HGETALL", LedgerKey.API_KEYS),
        ("SET", LedgerKey.RELEASE.of("default"), "rel_x"),
        ("HSET", LedgerKey.RELEASES.of("default"), "rel_x", "{}"),
        ("HGETALL", LedgerKey.DATASETS.of("default")),
        ("SADD", LedgerKey.TENANTS, "mine"),
        ("ZRANGE", LedgerKey.INDEX.of("datasets", "default"), "0", "-1"),
        ("PUBLISH", "sb:hint:release", "default"),
    ],
    ("ledger", "worker"): [
        ("HGETALL", LedgerKey.API_KEYS),
        ("SET", LedgerKey.RELEASE.of("default"), "rel_x"),
        ("HSET", LedgerKey.ADAPTERS.of("default"), "a@1", "{}"),
        ("HSET", LedgerKey.TEMPLATES.of("default"), "house", "{}"),
        ("ZADD", LedgerKey.INDEX.of("adapters", "default"), "0", "label:a.b a.b 000000001 a.b@1"),
        ("SADD", LedgerKey.TENANTS, "mine"),
        ("HGETALL", LedgerKey.FEEDBACK.of("default")),
        ("PUBLISH", "sb:hint:cancel", "job_x"),
    ],
    ("ledger", "trainer"): [
        ("HGETALL", LedgerKey.API_KEYS),
        ("HSET", LedgerKey.FEEDBACK.of("default"), "job_x", "{}"),
        ("HSET", LedgerKey.TEMPLATES.of("default"), "house", "{}"),
        ("GET", LedgerKey.IDEMPOTENCY.of("default", "x")),
    ],
    ("broker", "api"): [("BRPOP", "select", "1"), ("LINDEX", "train", "0"), ("DEL", "select")],
    ("broker", "selector"): [("BRPOP", "train", "1"), ("BRPOP", "generate.x", "1"), ("DEL", "select")],
    ("broker", "worker"): [("BRPOP", "select", "1"), ("LRANGE", "generate.x", "0", "-1"), ("LINDEX", "select", "0")],
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
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=port, retry=once) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    with (
        redis.Redis(port=port, username="api", password="wrong", retry=once) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    with pytest.raises(LedgerAway, match="refuses user or password"):
        Ledger(f"redis://api:wrong@127.0.0.1:{port}/0").do(calls.gauges())
    with redis.Redis(port=port, username="probe", password="any") as probe:
        assert probe.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            probe.get(LedgerKey.API_KEYS)


def test_a_restart_brings_back_what_a_service_wrote(tmp_path):
    """Some servers replay their file as the default user (redis/redis#14541; tests/compose runs such a one)."""
    passwords, (port,) = new_passwords(), free_ports(1)
    server = redis_server("ledger", port, tmp_path, fsync="always", users=acl_file("ledger", passwords))
    server.start()
    try:
        ledger = Ledger(url_of("api", passwords["api"], f"127.0.0.1:{port}"))
        job_id, asked = new_job_id("t"), {"input": "x"}
        job = NewJob(
            id=job_id, tenant_id="t", kind=JobKind.GENERATE, stage=Stage.GENERATE, queue="generate.base", body=asked
        )
        ledger.do(calls.create(job, 60))
        server.kill()
        server.start()
        assert ledger.do_with_retries(calls.get(job.id), 10).id == job.id
    finally:
        server.kill()


def test_passwords_of_one_server_or_service_open_nothing_else(urls):
    passwords = [urlsplit(url).password for url in urls.values()]
    assert len(set(passwords)) == len(passwords)


def test_an_operator_makes_keys_which_the_api_can_only_read(urls):
    with redis.Redis.from_url(urls["ledger", OPERATOR], decode_responses=True) as operator:
        key, token = api_keys.create(operator, frozenset({Scope.SUBMIT}))
    with redis.Redis.from_url(urls["ledger", "api"], decode_responses=True) as api:
        assert api_keys.authenticate(api, token) == key
        with pytest.raises(redis.exceptions.NoPermissionError):
            api_keys.revoke(api, key.id)


@pytest.fixture
def as_user(urls):
    """A ledger client of each account, on an empty server; in the end nobody may have been refused anything."""
    with redis.Redis.from_url(urls["ledger", OPERATOR], decode_responses=True) as operator:
        operator.flushall()
        operator.acl_log_reset()
        clients = {account: Ledger(urls["ledger", account]) for account in ACCOUNTS}
        yield clients
        refusals = [entry for entry in operator.acl_log() if entry["object"] != "client|setinfo"]
        for client in clients.values():
            client.close()
        assert refusals == []


def create(ledger, queue="select", **fields):
    job_id = new_job_id("t")
    kind = JobKind.TRAIN if queue == "train" else JobKind.GENERATE
    given = {"body": {"input": "x"}} | fields
    job = NewJob(id=job_id, tenant_id="t", kind=kind, stage=queue.split(".")[0], queue=queue, **given)
    ledger.do(calls.create(job, 60))
    return job_id


def test_every_service_notes_the_end_of_a_job_for_webhooks_and_the_api_delivers(as_user):
    api = as_user["api"]
    fields = {"url": "https://example.com", "events": " * ", "name": "", "secret": "x", "secret_hint": ""}
    api.do(calls.add_webhook("t", "we_1", fields))
    for account in SERVICES:
        job_id = create(api, "train", body={"kind": "adapter.train", "fine_tuning": {"model": "base"}})
        job = as_user[account].do(calls.acquire(job_id, "train", account, 5))
        as_user[account].do(calls.finish(job, JobState.FAILED, error={}))
    claimed = api.do(calls.claim_deliveries({}, limit=99, at_once=99, endpoints=9, lease_seconds=5))
    assert len(claimed) == 2 * len(SERVICES)
    told = {"status": 200, "error": "", "pause_seconds": None, "gone": False, "keep_seconds": 60}
    assert not api.do(calls.settle_delivery(claimed[0], made=True, **told))
    assert api.do(calls.settle_delivery(claimed[1], made=False, **told | {"gone": True}))
    api.do(calls.change_webhook("t", "we_1", {"enabled": "1"}))
    assert api.do(calls.replay_delivery("t", "we_1", claimed[0].delivery["id"]))["state"] == "waiting"
    assert len(api.do(calls.deliveries("t", "we_1", before="", limit=5))[0]) == 5
    api.do(calls.remove_webhook("t", "we_1"))
    assert api.do(calls.webhooks("t")) == []


def test_the_api_may_make_every_call_of_the_ledger_that_it_makes(as_user):
    api, worker = as_user["api"], as_user["worker"]
    first = create(api, "train")
    waiting = create(api, "train", after=(first,), deadline_seconds=60)
    assert api.do(calls.cancel(first, "t")) == "cancelled"
    assert api.do(calls.get(waiting, "t")).state == "failed"
    api.do(calls.feedback(waiting, "t", {"rating": 1}, {"input": "x"}, before=0))
    running, dead = create(api, "generate.g"), create(api, "generate.g")
    worker.do(calls.acquire(running, "generate.g", "w", 60))
    api.do(calls.cancel(running, "t"))
    for again in (api.do, lambda call: api.do(calls.drop(call.args["id"], "t"))):
        for _ in range(3):
            worker.do(calls.acquire(dead, "generate.g", "w", 0))
            worker.do(calls.expire("generate.g"))
        assert [job.id for job in api.do(calls.list_jobs("t", dead=True)).jobs] == [dead]
        again(calls.replay(dead, "t"))
    assert len(api.do(calls.list_jobs("t", only=calls.JobFilter(state=JobState.FAILED, kind=JobKind.TRAIN))).jobs) == 1
    assert api.do(calls.gauges()).queues
    as_user[OPERATOR].redis.hset(LedgerKey.RELEASES.of("t"), mapping={"rel_1": "{}", "rel_2": "{}"})
    api.do(calls.move_release("t", "rel_1", expected="", queues=[], by="k"))
    api.do(calls.move_release("t", "rel_2", expected="rel_1", queues=[], by="k"))
    api.do(calls.remove_release("t", "rel_1"))
    training = create(api, "train")
    assert [job.id for job in api.do(calls.unfinished("t")).trainings] == [training]
    as_user[OPERATOR].redis.hset(LedgerKey.FEEDBACK.of("t"), dead, "{}")
    api.do(calls.forget_feedback(dead, "t"))


@pytest.mark.parametrize(("account", "queue"), [("selector", "select"), ("worker", "generate.g"), ("trainer", "train")])
def test_a_celery_service_may_make_every_call_of_the_ledger_that_it_makes(as_user, account, queue):
    own = as_user[account]
    own.do(calls.heartbeat(account, [queue], [], {"pid": 1}, 60))
    jobs = [create(as_user["api"], queue, deadline_seconds=60) for _ in range(5)]
    held = [own.do(calls.acquire(job_id, queue, account, 60)) for job_id in jobs[:4]]
    own.do(calls.heartbeat(account, [queue], [(job.id, job.attempt) for job in held], {}, 60))
    own.do(calls.append([(held[0].id, 1, "progress", {"step": 1})], writer="x", batch=1))
    own.do(calls.release_unfinished(held[0]))
    own.do(calls.give_back(own.do(calls.acquire(jobs[0], queue, account, 60)), 60))
    own.do(calls.finish(held[1], JobState.SUCCEEDED, events=[(held[1].id, 1, "token", {"text": "a"})], result={}))
    own.do(calls.finish(held[2], JobState.FAILED, error=Invalid("x", "y").as_fields()))
    if account == "selector":
        named = held[3].model_copy(update={"body": {"metadata": {"conversation_id": "c"}}})
        chosen = {"label": "a.b", "probability": 0.9}
        own.do(calls.route(named, queue="generate.g", label="a.b", selection=chosen, kept=Kept("a.b", 1.0)))
        assert as_user[OPERATOR].redis.xlen(LedgerKey.SELECTIONS) == 1
        assert own.do(calls.kept_label(named)) == Kept("a.b", 1.0)
    if account == "trainer":
        as_user[OPERATOR].redis.hset(LedgerKey.RELEASES.of("t"), "rel_1", "{}")
        own.do(calls.move_release("t", "rel_1", expected="", queues=[queue], by="x", attempt=held[3]))
        own.do(calls.wait_for(held[3], [jobs[4]]))
    for _ in range(3):  # the reconciler's part: what went silent is given up in the end
        own.do(calls.acquire(jobs[4], queue, "gone", 0))
        own.do(calls.expire(queue))
    assert own.do(calls.get(jobs[4])).error["code"] == "attempts_exhausted"
    for priority in ("interactive", "interactive", "batch"):
        create(as_user["api"], queue, body={"input": "x", "priority": priority})
    old = create(as_user["api"], queue)
    as_user[OPERATOR].redis.hdel(LedgerKey.JOB.of(old), "priority", "tokens")
    as_user[OPERATOR].redis.zadd(LedgerKey.WAITING.of(queue), {old: 1})
    for _ in range(4):
        own.do(calls.acquire_next(queue, account, 60))
    own.do(calls.lead("me", 1))
    as_user[OPERATOR].redis.zadd(LedgerKey.ENDS, {f"t|{old}": 1})
    Retention(own, Settings()).round({"t": 0})
    own.do(calls.gauges())
    own.do(calls.leave_queues(account, [queue]))


def test_the_api_counts_and_logs_traffic_and_the_trainer_reads_it(as_user, tmp_path):
    api, trainer = (Registry(as_user[who], FolderStore(tmp_path / "store"), tmp_path) for who in ("api", "trainer"))
    api.traffic.set_policy("t", TrafficPolicy(on=True))
    taken = as_user["api"].do(calls.take_turn(60))
    kept = {"policies": api.traffic.policies(), "cursor": "1-0", "sketches": [("t", 7, "rel_1", "{}")]}
    part = TrafficPart("p", 1, (1, 0), (1, 0))
    as_user["api"].do(calls.write_traffic(taken.fence, 60, added=[("t", part.name, part.dump())], **kept))
    assert trainer.traffic.parts("t") == [part]
    assert trainer.traffic.policy("t").on
    as_user[OPERATOR].redis.delete(LedgerKey.SKETCHES.of("t", "7"))
    assert trainer.traffic.sketches("t", [7]) == []
    as_user["api"].do(calls.write_traffic(taken.fence, 0, removed=[("t", part.name)]))
    assert list(trainer.traffic.rows("t")) == []


def test_a_job_is_routed_also_by_a_user_from_before_selections_were_noted(as_user, urls):
    rules = acl_file("ledger", dict.fromkeys(ACCOUNTS, "x")).split("user selector on ")[1].splitlines()[0]
    before = rules.replace(f" ~{LedgerKey.SELECTIONS.pattern}", "")
    assert before != rules
    as_user[OPERATOR].redis.execute_command("ACL", "SETUSER", "before", "on", "nopass", *before.split()[1:])
    port = urlsplit(urls["ledger", "selector"]).port
    selector = Ledger(url_of("before", "x", f"127.0.0.1:{port}"))
    job = selector.do(calls.acquire(create(as_user["api"], "select"), "select", "before", 60))
    selector.do(calls.route(job, queue="generate.g", label="a.b", selection={"label": "a.b"}))
    assert selector.do(calls.get(job.id)).state == "routed"
    assert not as_user[OPERATOR].redis.exists(LedgerKey.SELECTIONS)
    selector.close()
    as_user[OPERATOR].redis.execute_command("ACL", "DELUSER", "before")
    as_user[OPERATOR].redis.execute_command("ACL", "LOG", "RESET")  # of the one refusal that this is about


@pytest.mark.parametrize("account", ["api", "trainer"])
def test_who_keeps_manifests_may_keep_all_of_them(as_user, account, tmp_path):
    own, store = as_user[account], FolderStore(tmp_path / "store")
    registry = Registry(own, store, tmp_path / "cache")
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "adapter_model.safetensors").write_bytes(b"x")
    manifest = AdapterManifest(tenant_id="t", label="fin.sa", version=0, digest="", base_model="b")
    assert registry.adapters.add(folder, manifest).version == 1
    assert registry.adapters.get("t", "fin.sa").ref == "fin.sa@1"
    found = registry.datasets.add("t", "rows", [Row(input="x"), Row(input="y")])
    assert registry.datasets.get("t", "rows").id == found.id
    as_user[OPERATOR].redis.delete(LedgerKey.INDEX.of("adapters", "t"), LedgerKey.INDEX.of("datasets", "t"))
    assert [known.ref for known in registry.adapters.list_all("t", "fin.sa")] == ["fin.sa@1"]
    assert registry.datasets.get("t", found.id) == found
    if account == "api":
        registry.removal.adapter("t", "fin.sa@1")
        registry.removal.dataset("t", "rows")
        registry.removal.feedback("t")
        assert registry.stored_bytes("t") == {}
    assert registry.releases.list_all("t") == []
    assert registry.releases.current_id("t") == ""
    assert registry.releases.promotions("t") == []
    own.redis.hgetall(LedgerKey.FEEDBACK.of("t"))


def test_the_api_keeps_templates_and_who_prompts_reads_them(as_user, tmp_path):
    registries = {who: Registry(as_user[who], FolderStore(tmp_path / "store"), tmp_path) for who in SERVICES}
    house = PromptTemplate(name="house", jinja="{{ messages[0].content }}")
    registries["api"].templates.add("t", house)
    for who in ("api", "worker", "trainer"):
        assert registries[who].templates.named("t", "house") == house
    for who in ("api", "trainer"):
        assert registries[who].templates.list_added("t") == [house]
    registries["api"].removal.template("t", "house")
    with pytest.raises(Invalid, match="no prompt template 'house'"):
        registries["worker"].templates.named("t", "house")


@pytest.mark.parametrize("account", SERVICES)
def test_every_service_may_follow_the_releases_of_all_tenants(as_user, account, tmp_path):
    store = FolderStore(tmp_path / "store")
    verdict = Verdict(passed=True, reasons=())
    keeper = Registry(as_user["trainer"], store, tmp_path / "cache").releases
    for tenant_id in ("a", "b"):
        release = Release(tenant_id=tenant_id, base_model="b", labels={}, verdict=verdict)
        keeper.promote(tenant_id, keeper.add(release), force=True)
    taken, own = [], as_user[account]
    releases = Registry(own, store, tmp_path / "cache").releases
    watch = ReleaseWatch(releases, own.redis, taken.append, poll_seconds=1)
    watch.start()
    eventually(lambda: as_user[OPERATOR].redis.pubsub_numsub(RELEASE_CHANNEL)[0][1], "it is subscribed")
    watch.stop()
    assert [release.tenant_id for release in taken] == ["a", "b"]
    if account == "api":
        releases.note_tenant("c")


def test_after_a_leak_new_passwords_close_the_old_ones_out_and_keep_what_is_stored(tmp_path):
    """The runbook's steps: new files in the old ones' place, read by the server while it runs."""
    (port,) = free_ports(1)
    old, new = new_passwords(), new_passwords()
    server = redis_server("ledger", port, tmp_path, fsync="everysec", users=acl_file("ledger", old))
    server.start()

    def client(account, passwords):
        return redis.Redis.from_url(url_of(account, passwords[account], f"127.0.0.1:{port}"), decode_responses=True)

    try:
        with client("worker", old) as leaked, client("worker", new) as renewed:
            leaked.set(LedgerKey.PROCESS.of("x"), "kept")
            write_secret(tmp_path / "users.acl", acl_file("ledger", new))
            with client(OPERATOR, old) as operator:
                operator.acl_load()
            # Who is connected would stay so, with some servers.
            with client(OPERATOR, new) as operator:
                operator.execute_command("CLIENT", "KILL", "USER", "worker")
            with pytest.raises(redis.AuthenticationError):
                leaked.get(LedgerKey.PROCESS.of("x"))
            assert renewed.get(LedgerKey.PROCESS.of("x")) == "kept"
    finally:
        server.kill()


async def test_the_api_may_count_requests_from_one_window_into_the_next(urls):
    """The counters of `limits`, of a second instead of a minute: where one ends, its key is renamed."""
    client = redis.asyncio.Redis.from_url(urls["ledger", "api"], decode_responses=True)
    limiter = RateLimits(client, Settings()).limiter
    item = RateLimitItemPerSecond(2)
    until = time.monotonic() + 10
    for _ in range(3):  # windows
        while not await limiter.hit(item, "key_x"):
            assert (await limiter.get_window_stats(item, "key_x")).remaining >= 0
            assert time.monotonic() < until
        while await limiter.hit(item, "key_x"):
            pass
    await client.aclose()


@pytest.mark.parametrize("account", ["api", "trainer"])
def test_who_promotes_may_read_what_a_groups_servers_take(as_user, account):
    told = {"lora": {"max_rank": 16, "dora": False}}
    as_user["worker"].do(calls.heartbeat("small", ["generate.small"], [], told, 60))
    as_user[OPERATOR].redis.hset(LedgerKey.RELEASES.of("small"), "rel_1", "{}")
    needs = {"generate.small": AdapterNeed(24, False, "small.one@1")}
    with pytest.raises(Conflict, match=r"small\.one@1 is rank 24"):
        as_user[account].do(
            calls.move_release("small", "rel_1", expected="", queues=["generate.small"], needs=needs, by="k")
        )
