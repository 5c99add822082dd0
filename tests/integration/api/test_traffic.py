"""The traffic log: what it keeps, that it keeps it once whatever dies, and that it forgets."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis

from services.api.traffic import changes, turns, upkeep, writer
from services.api.traffic.writer import log_traffic, step
from shared.contracts.jobs import JobState
from shared.contracts.reading import RequestReading
from shared.contracts.traffic import MAX_RELEASES, OTHERS, TrafficPart, TrafficPolicy, TrafficRow
from shared.errors import Unavailable
from shared.ledger import Ledger, calls, script
from shared.ledger.calls import StaleTurn
from shared.ledger.keys import LedgerKey
from shared.registry.traffic import folder_of
from shared.security import api_keys
from tests.support.api import SELECTOR, client_of, code, make_release, serving
from tests.support.eventually import eventually
from tests.support.traffic import Selector

DAY_MS = 86_400_000


@pytest.fixture
async def clients(api):
    return await clients_of(api["app"], api["url"])


async def clients_of(app, url):
    """The clients of an application, which has them once it answers."""
    async with client_of(url) as client:
        assert (await client.get("/healthz")).status_code == 200
    return app.state.clients


@pytest.fixture
def selector(ledger, release):
    return Selector(ledger, release=release.id)


@pytest.fixture(autouse=True)
def _empty(store):
    """No log is left of another test: the bucket is the session's."""
    store.ensure_bucket()
    for tenant in ("default", "other"):
        for key in store.keys(folder_of(tenant)):
            store.delete(key)


async def keep(client, **policy):
    """Let the tenant keep a log."""
    answer = await client.put("/v1/traffic/policy", json={"on": True, **policy})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def rows_of(client, **params):
    answer = await client.get("/v1/traffic", params={"limit": 1000, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def stored(store, tenant="default"):
    return list(store.keys(folder_of(tenant)))


# Policy.


async def test_nothing_is_kept_until_a_tenant_wants_it(admin, clients, selector, store):
    assert (await admin.get("/v1/traffic/policy")).json() == TrafficPolicy().model_dump(mode="json")
    selector.select()
    assert not await step(clients)
    assert (await rows_of(admin), stored(store)) == ([], [])
    assert (await admin.get("/v1/traffic/sketches")).json()["items"][0]["selections"] == 1


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"share": 1.5}, "request_invalid"),
        ({"days": 0}, "request_invalid"),
        ({"rows": 99}, "request_invalid"),
        ({"on": "yes"}, "request_invalid"),
        ({"words": 1}, "request_invalid"),
        ({"leave_out": ["nothing"]}, "request_invalid"),
        ({"patterns": [{"name": "A B", "expression": "x"}]}, "request_invalid"),
        ({"patterns": [{"name": "x", "expression": "x" * 501}]}, "request_invalid"),
        ({"patterns": [{"name": "x", "expression": "x"}] * 33}, "request_invalid"),
        ({"patterns": [{"name": "x", "expression": "(a+"}]}, "pattern_invalid"),
        ({"patterns": [{"name": "x", "expression": "a", "replacement": r"\1"}]}, "pattern_invalid"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused(admin, policy, why):
    assert code(await admin.put("/v1/traffic/policy", json=policy), 422) == why
    assert (await admin.get("/v1/traffic/policy")).json()["on"] is False


async def test_who_may_read_prompts_reads_the_log_and_an_administrator_alone_says_what_it_keeps(api, ledger):
    _, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.READ}))
    reader = {"Authorization": f"Bearer {token}"}
    for path in ("/v1/traffic", "/v1/traffic/policy", "/v1/traffic/sketches"):
        assert (await api["anonymous"].get(path, headers=reader)).status_code == 200
        assert code(await api["review"].get(path), 403) == "scope_missing"
    assert code(await api["anonymous"].put("/v1/traffic/policy", json={}, headers=reader), 403) == "scope_missing"


# Rows.


async def test_a_row_says_what_the_selector_read_and_made_of_it(admin, clients, selector, release):
    await keep(admin)
    body = {"user": "usr_" + "0" * 32, "metadata": {"conversation_id": "talk"}}
    one = selector.select("I am ann@example.org: <b>did it rise?</b>", body=body, probability=0.91, ambiguous=True)
    rejected = selector.end(selector.new("nonsense"), JobState.REJECTED, label="", probability=0.2)
    asked = selector.end(selector.new("which?", kind="select"))
    await step(clients)
    rows = await rows_of(admin)
    assert [row["job"] for row in rows] == [one, rejected, asked]
    first = rows[0]
    job = clients.registry.ledger.do(calls.get(one))
    assert abs(datetime.fromisoformat(first.pop("at")) - datetime.now(UTC)) < timedelta(minutes=1)
    assert first.pop("entry").count("-") == 1
    assert first == {
        "job": one,
        "text": "I am [email]: <b>did it rise?</b>",
        "label": "fin.sa",
        "best_label": "fin.sa",
        "probability": 0.91,
        "confidence": 0.8,
        "rejected": False,
        "disputed": True,
        "by": "light",
        "release": release.id,
        "selector": SELECTOR,
        "line": "line_a",
        "user": body["user"],
        "conversation": job.conversation,
    }
    assert (rows[1]["label"], rows[1]["best_label"], rows[1]["rejected"], rows[1]["disputed"]) == (
        "",
        "fin.ha",
        True,
        False,
    )


async def test_of_a_conversation_it_keeps_the_turn_that_people_wrote(admin, clients, ledger, registry, weights):
    reads = make_release(reading=RequestReading(mode="dialogue"))
    registry.releases.add(reads)
    registry.releases.promote("default", reads.id, force=True)
    selector = Selector(ledger, release=reads.id)
    await keep(admin)
    said = [{"role": "user", "content": "did it rise?"}, {"role": "assistant", "content": "yes"}]
    last = {"role": "user", "content": "<system-reminder>be brief</system-reminder>and today?"}
    job = selector.new()
    clients.registry.ledger.redis.hset(LedgerKey.JOB.of(job.id), "body", json.dumps({"messages": [*said, last]}))
    selector.route(job)
    await step(clients)
    assert [row["text"] for row in await rows_of(admin)] == ["and today?"]


async def test_the_same_share_of_jobs_is_kept_at_every_look(admin, clients, selector):
    await keep(admin, share=0.3)
    made = [selector.select() for _ in range(200)]
    await step(clients)
    policy = TrafficPolicy(on=True, share=0.3)
    expected = [job for job in made if policy.takes(job)]
    assert [row["job"] for row in await rows_of(admin)] == expected
    assert 30 <= len(expected) <= 90
    assert not any(TrafficPolicy(on=True, share=0).takes(job) for job in made)
    assert all(TrafficPolicy(on=True, share=1).takes(job) for job in made)
    assert {job for job in made if policy.takes(job)} <= {
        job for job in made if TrafficPolicy(on=True, share=0.5).takes(job)
    }


async def test_pages_go_on_where_the_one_before_ended_also_after_parts_were_joined(admin, clients, selector):
    await keep(admin)
    made = []
    for _ in range(4):
        made += [selector.select() for _ in range(3)]
        await step(clients)
    assert len(clients.registry.traffic.parts("default")) == 4
    seen, after = [], "0-0"
    while after:
        page = (await admin.get("/v1/traffic", params={"after": after, "limit": 5})).json()
        seen += [row["job"] for row in page["items"]]
        after = page["next"]
        await step(clients, sweeps=True)
    assert seen == made
    assert len(clients.registry.traffic.parts("default")) == 1
    rows = await rows_of(admin)
    assert [row["job"] for row in rows] == made
    later = await rows_of(admin, since=rows[5]["at"])
    assert [row["job"] for row in later][-6:] == made[6:]
    assert rows[0] not in later or rows[0]["at"] == rows[5]["at"]


async def test_another_tenant_sees_nothing_of_it(admin, api, clients, ledger, selector, registry):
    await keep(admin)
    await keep(api["other"])
    theirs = Selector(ledger, tenant="other")
    mine, other = selector.select(), theirs.select("theirs")
    await step(clients)
    assert [row["job"] for row in await rows_of(admin)] == [mine]
    assert [row["job"] for row in await rows_of(api["other"])] == [other]
    report = (await api["other"].post("/v1/users/forget", json={"job_id": mine})).json()
    assert (report["forgotten"], report["traffic"]) == (0, 0)
    assert [row["job"] for row in await rows_of(admin)] == [mine]
    assert [one["selections"] for one in (await api["other"].get("/v1/traffic/sketches")).json()["items"]] == [1]


async def test_a_job_without_a_selection_is_neither_counted_nor_kept(admin, clients, worker, release):
    await keep(admin)
    job = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job, "generate.fin")
    assert not clients.registry.ledger.redis.exists(LedgerKey.SELECTIONS)
    assert (await rows_of(admin), (await admin.get("/v1/traffic/sketches")).json()["items"]) == ([], [])


async def test_what_cannot_be_read_is_left_out_and_holds_up_nobody(admin, clients, selector, ledger):
    await keep(admin)
    broken = selector.select()
    ledger.redis.hset(LedgerKey.JOB.of(broken), "body", '{"messages": 3}')
    gone, cancelled = selector.select(), selector.select()
    ledger.redis.delete(LedgerKey.JOB.of(gone))
    ledger.do(calls.cancel(cancelled, "default"))
    whole = selector.select()
    await step(clients)
    assert [row["job"] for row in await rows_of(admin)] == [whole]
    assert (await admin.get("/v1/traffic/sketches")).json()["items"][0]["selections"] == 4


async def test_a_release_that_was_deleted_since_does_not_matter(admin, clients, ledger, release):
    await keep(admin)
    selector = Selector(ledger, release=release.id)
    selector.select("read anyway")
    ledger.redis.hdel(LedgerKey.RELEASES.of("default"), release.id)
    await step(clients)
    assert [row["text"] for row in await rows_of(admin)] == ["read anyway"]


# Policies that change.


async def test_a_policy_holds_for_what_is_logged_after_it(admin, clients, selector):
    await keep(admin)
    first = selector.select("AB-12")
    await step(clients)
    await keep(admin, patterns=[{"name": "ticket", "expression": "[A-Z]+-[0-9]+"}])
    second = selector.select("AB-12")
    await step(clients)
    await admin.put("/v1/traffic/policy", json={"on": False})
    selector.select("AB-12")
    await step(clients)
    assert [(row["job"], row["text"]) for row in await rows_of(admin)] == [(first, "AB-12"), (second, "[ticket]")]


async def test_rows_made_by_a_policy_that_changed_meanwhile_are_made_anew(admin, clients, selector, store, monkeypatch):
    await keep(admin)
    selector.select("AB-12")
    added = changes.LogChange.add

    def change_policy(self, tenant_id, rows):
        wanted = {"on": True, "patterns": ({"name": "ticket", "expression": "[A-Z]+-[0-9]+"},)}
        clients.registry.traffic.set_policy("default", TrafficPolicy(**wanted))
        return added(self, tenant_id, rows)

    monkeypatch.setattr(changes.LogChange, "add", change_policy)
    assert await step(clients)
    assert (await rows_of(admin), stored(store)) == ([], [])
    assert not await step(clients)
    assert [row["text"] for row in await rows_of(admin)] == ["[ticket]"]


# Kills, and several writers.


class Killed(BaseException):
    """The process is gone, at once."""


def killed(*_, **__):
    raise Killed


async def killed_at(clients, monkeypatch, place, name):
    """A turn whose process is killed at a place: it ends nothing."""
    with monkeypatch.context() as patched:
        patched.setattr(place, name, killed)
        taken = await clients.ledger.do(calls.take_turn(0.2))
        with pytest.raises(Killed):
            await asyncio.to_thread(writer.write_next, clients.registry, taken, 0.2)


async def test_a_writer_killed_between_store_and_ledger_leaves_nothing_twice(
    admin, clients, selector, store, monkeypatch
):
    await keep(admin)
    made = [selector.select() for _ in range(3)]
    await killed_at(clients, monkeypatch, changes.LogChange, "write")
    assert len(stored(store)) == 1
    assert await rows_of(admin) == []
    made += [selector.select()]
    await asyncio.to_thread(eventually, lambda: asyncio.run(_logged(clients)), "the lost turn ends")
    assert [row["job"] for row in await rows_of(admin)] == made
    assert len(stored(store)) == 1  # what the killed one had stored was swept
    assert (await admin.get("/v1/traffic/sketches")).json()["items"][0]["selections"] == 4


async def _logged(clients):
    """Whether everything has been logged, by the blocking clients alone: another loop has the others."""
    registry = clients.registry
    taken = registry.ledger.do(calls.take_turn(15.0))
    if taken is None:
        return False
    if taken.was_lost:
        upkeep.sweep(registry, taken, 15.0)
    writer.write_next(registry, taken, 15.0)
    registry.ledger.do(calls.write_traffic(taken.fence, 0))
    return True


async def test_a_writer_killed_after_the_ledgers_write_leaves_only_an_object_to_sweep(
    admin, clients, selector, store, monkeypatch
):
    await keep(admin, rows=100)
    for _ in range(21):
        for _ in range(5):
            selector.select()
        await step(clients)
    before = stored(store)
    assert len(before) == 20  # the oldest part went
    selector.select()
    await killed_at(clients, monkeypatch, changes.LogChange, "_delete")
    assert len(stored(store)) == 21
    assert len(await rows_of(admin)) == 96
    clients.registry.ledger.redis.hset(LedgerKey.TRAFFIC, "until_ms", 0)
    await step(clients, sweeps=True)
    assert len(stored(store)) == len(clients.registry.traffic.parts("default"))
    assert len(await rows_of(admin)) == 96


async def test_one_that_lost_its_turn_writes_nothing(admin, clients, selector, store):
    await keep(admin)
    made = [selector.select() for _ in range(3)]
    slow = await clients.ledger.do(calls.take_turn(0))
    assert not await step(clients)
    with pytest.raises(StaleTurn):
        await asyncio.to_thread(writer.write_next, clients.registry, slow._replace(cursor="0-0"), 15.0)
    assert [row["job"] for row in await rows_of(admin)] == made
    assert len(stored(store)) == 1
    assert (await admin.get("/v1/traffic/sketches")).json()["items"][0]["selections"] == 3


async def test_several_writers_keep_every_row_once(settings, api, admin, selector, monkeypatch):
    monkeypatch.setattr(writer, "AT_ONCE", 7)
    monkeypatch.setattr(writer, "_LOOK_SECONDS", 0.01)
    await keep(admin)
    stop, made = asyncio.Event(), []
    async with serving(settings) as second, serving(settings) as third:
        processes = [await clients_of(*one) for one in ((api["app"], api["url"]), second, third)]
        loops = [asyncio.create_task(log_traffic(one, stop)) for one in processes]
        made += [await asyncio.to_thread(selector.select) for _ in range(60)]
        async with asyncio.timeout(30):
            while len(await rows_of(admin)) < len(made):
                pass  # each look is a request
        stop.set()
        await asyncio.gather(*loops)
    assert [row["job"] for row in await rows_of(admin)] == made
    assert sum(one["selections"] for one in (await admin.get("/v1/traffic/sketches")).json()["items"]) == len(made)


async def test_a_turn_is_kept_while_its_work_takes_long(clients, selector, settings):
    selector.select()
    short = settings.model_copy(update={"lease_seconds": 0.3})
    async with serving(short) as one, turns.turn(await clients_of(*one)) as taken:
        assert taken is not None
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert await clients.ledger.do(calls.take_turn(15.0)) is None
            await asyncio.sleep(0.05)  # longer than the lease
    assert await clients.ledger.do(calls.take_turn(0)) is not None


async def test_where_the_store_is_away_the_entries_wait(admin, clients, selector, store, monkeypatch):
    await keep(admin)
    job = selector.select()
    with monkeypatch.context() as away:
        away.setattr(type(clients.registry.store), "put", _away)
        with pytest.raises(Unavailable):
            await step(clients)
    await step(clients)
    assert [row["job"] for row in await rows_of(admin)] == [job]


def _away(*_):
    raise Unavailable("store_unavailable", "the object store does not answer; try again shortly")


async def test_the_loop_outlives_a_ledger_that_is_away_for_a_moment(admin, clients, selector, monkeypatch):
    monkeypatch.setattr(writer, "_LOOK_SECONDS", 0.01)
    await keep(admin)
    stop, tries = asyncio.Event(), []
    once = writer.step

    async def shaky(clients, *, sweeps):
        tries.append(sweeps)
        if len(tries) == 1:
            raise redis.ConnectionError("away")
        return await once(clients, sweeps=sweeps)

    monkeypatch.setattr(writer, "step", shaky)
    loop = asyncio.create_task(log_traffic(clients, stop))
    job = await asyncio.to_thread(selector.select)
    async with asyncio.timeout(30):
        while not await rows_of(admin):
            pass  # each look is a request
    stop.set()
    await loop
    assert [row["job"] for row in await rows_of(admin)] == [job]


# Bounds.


async def test_the_oldest_rows_go_where_there_are_too_many(admin, clients, selector, store):
    await keep(admin, rows=100)
    made = []
    for _ in range(12):
        made += [selector.select() for _ in range(11)]
        await step(clients)
    rows = [row["job"] for row in await rows_of(admin)]
    assert rows == made[-len(rows) :]
    assert 95 <= len(rows) <= 100
    assert len(stored(store)) == len(clients.registry.traffic.parts("default"))


async def test_rows_go_when_their_time_is_over(admin, clients, ledger, selector, store):
    await keep(admin, days=2)
    old, young = (
        TrafficPart(f"{at}-0-9", 1, (at, 0), (at, 0))
        for at in (int(time.time() * 1000 - age * DAY_MS) for age in (2.1, 1.9))
    )
    for part in (old, young):
        row = TrafficRow(entry=f"{part.first[0]}-0", job=f"job_{part.name}", at="2026-01-01T00:00:00Z", text="x")
        store.put(f"{folder_of('default')}{part.name}.jsonl", (row.model_dump_json() + "\n").encode())
        ledger.redis.hset(LedgerKey.TRAFFIC_PARTS.of("default"), part.name, part.dump())
    assert len(await rows_of(admin)) == 2
    await step(clients, sweeps=True)
    assert [row["job"] for row in await rows_of(admin)] == [f"job_{young.name}"]
    assert len(stored(store)) == 1


def test_parts_are_joined_while_they_are_small_and_near_in_time():
    def part(at_ms, rows):
        return TrafficPart(str(at_ms), rows, (at_ms, 0), (at_ms, rows))

    def sizes(parts, **policy):
        return [[one.rows for one in group] for group in changes.joinable(parts, TrafficPolicy(**policy))]

    assert sizes([part(at, 200) for at in range(5)]) == [[200, 200], [200, 200], [200]]
    assert sizes([part(at, 3) for at in range(5)], rows=100) == [[3], [3], [3], [3], [3]]
    assert sizes([part(at * DAY_MS, 3) for at in range(5)], days=100) == [[3, 3], [3, 3], [3]]
    assert sizes([part(at * DAY_MS, 3) for at in range(3)], days=99) == [[3], [3], [3]]


async def test_an_object_that_was_lost_costs_its_own_rows_alone(admin, clients, selector, store):
    await keep(admin)
    selector.select()
    await step(clients)
    kept = selector.select()
    await step(clients)
    store.delete(stored(store)[0])
    assert [row["job"] for row in await rows_of(admin)] == [kept]
    await step(clients, sweeps=True)
    assert [part.rows for part in clients.registry.traffic.parts("default")] == [1]
    assert [row["job"] for row in await rows_of(admin)] == [kept]


async def test_a_log_without_its_ledger_is_deleted(admin, clients, selector, store, ledger):
    await keep(admin)
    selector.select()
    await step(clients)
    ledger.redis.delete(LedgerKey.TRAFFIC_POLICIES, LedgerKey.TRAFFIC_PARTS.of("default"))
    assert len(stored(store)) == 1
    await step(clients, sweeps=True)
    assert stored(store) == []


async def test_a_reader_goes_on_while_parts_are_joined_and_forgotten(admin, clients, selector):
    await keep(admin)
    made = []
    for _ in range(4):
        made += [selector.select() for _ in range(3)]
        await step(clients)
    reading = clients.registry.traffic.rows("default")
    seen = [next(reading).job for _ in range(2)]
    await step(clients, sweeps=True)
    await admin.post("/v1/users/forget", json={"job_id": made[-1]})
    assert seen + [row.job for row in reading] == made[:-1]


# Counts.


async def test_counts_are_kept_by_hour_and_release_with_and_without_a_log(admin, clients, ledger, release):
    selector, other = Selector(ledger, release=release.id), Selector(ledger)
    for probability in (0.0, 0.049, 0.05, 0.51, 0.999, 1.0):
        selector.select(probability=probability, confidence=1.0, by="both" if probability > 0.9 else "light")
    selector.end(selector.new(), JobState.REJECTED, label="")
    other.select(label="fin.ha", confidence=None)
    await step(clients)
    await keep(admin)
    other.select()
    await step(clients)
    items = (await admin.get("/v1/traffic/sketches")).json()["items"]
    assert len({one["hour"] for one in items}) <= 2
    sketch = merged(items, release.id)
    assert (sketch["selections"], sketch["rejected"], sketch["disputed"]) == (7, 1, 2)
    assert sketch["labels"] == {"fin.sa": 6}
    assert [(at, count) for at, count in enumerate(sketch["probability"]) if count] == [
        (0, 2),
        (1, 1),
        (10, 1),
        (18, 1),
        (19, 2),
    ]
    assert [(at, count) for at, count in enumerate(sketch["confidence"]) if count] == [(16, 1), (19, 6)]
    second = merged(items, "")
    assert (second["selections"], second["labels"], sum(second["confidence"])) == (2, {"fin.ha": 1, "fin.sa": 1}, 1)
    assert "stock" not in str(ledger.redis.hgetall(ledger.redis.keys(LedgerKey.SKETCHES.pattern)[0]))
    key = ledger.redis.keys(LedgerKey.SKETCHES.pattern)[0]
    assert 59 * 86_400 < ledger.redis.ttl(key) <= 60 * 86_400


def merged(items, release):
    """The counts of a release; a test may run at the turn of an hour."""
    found = [one for one in items if one["release"] == release]
    first = found[0]
    for one in found[1:]:
        for name in ("selections", "rejected", "disputed"):
            first[name] += one[name]
        for name in ("probability", "confidence"):
            first[name] = [a + b for a, b in zip(first[name], one[name], strict=True)]
        first["labels"] = {
            k: first["labels"].get(k, 0) + one["labels"].get(k, 0) for k in first["labels"] | one["labels"]
        }
    return first


async def test_further_releases_and_labels_of_an_hour_count_together(admin, clients, ledger, monkeypatch):
    monkeypatch.setattr("shared.contracts.traffic.MAX_LABELS", 2)
    for number in range(MAX_RELEASES + 2):
        Selector(ledger, counted=f"rel_{number}").select(label="a.l")
    for label in ("a.a", "a.b", "a.c", "a.d", "a.a"):
        Selector(ledger, counted="rel_0").select(label=label)
    await step(clients)
    items = (await admin.get("/v1/traffic/sketches")).json()["items"]
    assert len({one["release"] for one in items}) <= 2 * (MAX_RELEASES + 1)
    assert sum(one["selections"] for one in items) == MAX_RELEASES + 7
    assert OTHERS in {one["release"] for one in items}
    assert merged(items, "rel_0")["labels"] == {"a.l": 1, "a.a": 2, OTHERS: 3}


async def test_a_span_of_counts_is_bounded(admin, ledger, clients):
    ask = {"from": "2026-01-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"}
    assert code(await admin.get("/v1/traffic/sketches", params=ask), 422) == "span_invalid"
    ask = {"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    assert code(await admin.get("/v1/traffic/sketches", params=ask), 422) == "span_invalid"
    assert code(await admin.get("/v1/traffic", params={"after": "x"}), 422) == "request_invalid"


async def test_no_more_selections_wait_than_there_is_room_for(admin, clients, settings, monkeypatch):
    monkeypatch.setattr(script, "SELECTIONS_KEPT", 100)
    script.script_of.cache_clear()
    ledger = Ledger(settings.redis_url)
    made = [Selector(ledger).select() for _ in range(350)]
    script.script_of.cache_clear()
    waiting = ledger.redis.xlen(LedgerKey.SELECTIONS)
    assert 100 <= waiting < 300  # whole nodes of the stream go, of 100 entries each
    await keep(admin)
    await step(clients)
    assert [row["job"] for row in await rows_of(admin)] == made[-waiting:]
    assert ledger.redis.xlen(LedgerKey.SELECTIONS) <= 100
    ledger.close()


# Forgetting.


async def test_rows_of_a_user_a_conversation_a_key_and_a_job_are_forgotten(
    admin, clients, ledger, selector, store, release
):
    await keep(admin)
    ann, bob = await _hashes(admin)
    key, _ = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    by_user = selector.select(body={"user": ann})
    by_talk = selector.select(line=key.line, body={"metadata": {"conversation_id": "talk"}, "user": bob})
    by_key = selector.select(line=key.line, body={"user": bob})
    alone, other = selector.select(body={"user": bob}), selector.select(body={"user": bob})
    await step(clients)

    async def forgotten(**whom):
        counted = (await admin.post("/v1/users/forget", json=whom | {"dry_run": True})).json()
        report = (await admin.post("/v1/users/forget", json=whom)).json()
        assert counted["traffic"] == report["traffic"]
        return report["traffic"], [row["job"] for row in await rows_of(admin)]

    assert await forgotten(user="ann") == (1, [by_talk, by_key, alone, other])
    assert await forgotten(conversation_id="talk") == (1, [by_key, alone, other])
    assert await forgotten(key=key.id) == (1, [alone, other])
    assert await forgotten(job_id=alone) == (1, [other])
    assert await forgotten(user_hash=bob) == (1, [])
    assert (stored(store), clients.registry.traffic.parts("default")) == ([], [])
    assert by_user


async def _hashes(client):
    reports = [await client.post("/v1/users/forget", json={"user": name, "dry_run": True}) for name in ("ann", "bob")]
    return [report.json()["user"] for report in reports]


async def test_a_job_is_forgotten_alone_with_its_feedback_and_long_after_it_expired(
    admin, clients, selector, ledger, worker
):
    await keep(admin)
    mine, waiting, theirs = (selector.select() for _ in range(3))
    await step(clients)
    worker.run(mine, "generate.fin")
    await admin.post(f"/v1/jobs/{mine}/feedback", json={"rating": 1})
    report = (await admin.post("/v1/users/forget", json={"job_id": mine})).json()
    assert (report["job_id"], report["forgotten"], report["feedback"], report["traffic"]) == (mine, 1, 1, 1)
    assert (await admin.get(f"/v1/jobs/{mine}")).status_code == 404
    report = (await admin.post("/v1/users/forget", json={"job_id": waiting})).json()
    assert (report["cancelled"], report["traffic"]) == (1, 1)
    ledger.redis.delete(LedgerKey.JOB.of(theirs))
    report = (await admin.post("/v1/users/forget", json={"job_id": theirs})).json()
    assert (report["forgotten"], report["traffic"]) == (0, 1)


async def test_a_key_without_admin_forgets_rows_of_its_own_line_alone(admin, api, clients, ledger, selector):
    await keep(admin)
    key, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    headers = {"Authorization": f"Bearer {token}"}
    _, bob = await _hashes(admin)
    mine, theirs = selector.select(line=key.line, body={"user": bob}), selector.select(body={"user": bob})
    await step(clients)
    for whom in ({"user": "bob"}, {"job_id": theirs}):
        await api["anonymous"].post("/v1/users/forget", json=whom, headers=headers)
        assert [row["job"] for row in await rows_of(admin)] == [theirs]
    assert mine


async def test_what_is_forgotten_before_its_turn_never_comes(admin, clients, selector, ledger):
    await keep(admin)
    waiting, running, kept = (selector.select() for _ in range(3))
    ledger.do(calls.acquire(running, "generate.fin", "w", 15.0))
    for job in (waiting, running):
        await admin.post("/v1/users/forget", json={"job_id": job})
    await step(clients)
    assert [row["job"] for row in await rows_of(admin)] == [kept]


async def test_forgetting_while_a_writer_has_read_the_text_leaves_no_row(admin, clients, selector, store):
    await keep(admin)
    theirs, kept = selector.select("a secret"), selector.select()
    slow = await clients.ledger.do(calls.take_turn(0))  # its lease is over, and it knows nothing of that
    change = changes.LogChange(clients.registry, slow, 15.0)
    used = writer._log(clients.registry, change, _entries(clients))
    assert "a secret" in store.get(stored(store)[0]).decode()
    report = (await admin.post("/v1/users/forget", json={"job_id": theirs})).json()
    assert (report["forgotten"] + report["cancelled"], report["traffic"]) == (1, 0)
    with pytest.raises(StaleTurn):
        change.write(cursor=_entries(clients)[-1].id, policies=used)
    assert stored(store) == []
    await step(clients)
    assert [row["job"] for row in await rows_of(admin)] == [kept]


def _entries(clients):
    found = clients.registry.ledger.redis.xrange(LedgerKey.SELECTIONS)
    return [writer.Entry.read(*one) for one in found]


async def test_forgetting_waits_for_a_turn_that_is_under_way(admin, clients, selector):
    await keep(admin)
    job = selector.select()
    async with turns.turn(clients) as taken:
        await asyncio.to_thread(writer.write_next, clients.registry, taken, 15.0)
        asked = asyncio.create_task(admin.post("/v1/users/forget", json={"job_id": job}))
        while (await admin.get(f"/v1/jobs/{job}")).status_code != 404:
            pass  # each look is a request
        assert len(await rows_of(admin)) == 1
        assert not asked.done()
    assert (await asked).json()["traffic"] == 1
    assert await rows_of(admin) == []


async def test_forgetting_that_was_killed_is_done_by_the_next_one(admin, clients, selector, store, monkeypatch):
    await keep(admin)
    mine, other = selector.select("a secret"), selector.select()
    await step(clients)
    with monkeypatch.context() as patched:
        patched.setattr(changes.LogChange, "write", killed)
        taken = await clients.ledger.do(calls.take_turn(0))
        with pytest.raises(Killed):
            upkeep._forget(clients.registry, taken, 15.0, "default", lambda row: row.job == mine)
    assert len(stored(store)) == 2
    assert (await admin.post("/v1/users/forget", json={"job_id": mine})).json()["traffic"] == 1
    assert [row["job"] for row in await rows_of(admin)] == [other]
    assert "a secret" not in "".join(store.get(key).decode() for key in stored(store))


async def test_where_the_log_is_busy_for_ever_forgetting_says_so(admin, clients, selector, monkeypatch):
    await keep(admin)
    monkeypatch.setattr(turns, "_LOOK_SECONDS", 0.01)
    taken = await clients.ledger.do(calls.take_turn(600.0))
    short = clients.settings.model_copy(update={"lease_seconds": 0.05})
    async with serving(short) as (_, url), client_of(url, admin.headers["Authorization"].split()[1]) as hasty:
        answer = await hasty.post("/v1/users/forget", json={"job_id": "job_x"})
    assert code(answer, 503) == "traffic_busy"
    assert taken is not None


# The command line and the client.


async def test_the_command_line_says_what_is_kept_and_shows_it(command, admin, clients, selector, tmp_path):
    def run(*words):
        process = command("traffic", *words)
        out, said = process.communicate()
        assert process.returncode == 0, said
        return out

    (tmp_path / "patterns.json").write_text('[{"name": "ticket", "expression": "[A-Z]+-[0-9]+"}]')
    changed = ("--on", "--share", "1", "--patterns", "patterns.json", "--leave-out", "ip", "--json")
    policy = json.loads(await asyncio.to_thread(run, "policy", *changed))
    assert (policy["on"], policy["leave_out"], policy["patterns"][0]["name"]) == (True, ["ip"], "ticket")
    assert json.loads(
        await asyncio.to_thread(run, "policy", "--days", "7", "--leave-out", "none", "--json")
    ) == policy | {
        "days": 7,
        "leave_out": [],
    }
    job = selector.select("AB-12")
    await step(clients)
    listed = json.loads(await asyncio.to_thread(run, "list", "--json"))
    assert [(row["job"], row["text"]) for row in listed] == [(job, "[ticket]")]
    assert json.loads(await asyncio.to_thread(run, "sketches", "--json"))[0]["selections"] == 1
    assert job in await asyncio.to_thread(run, "list")
