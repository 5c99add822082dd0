"""The ledger against a model of it in plain Python, through any sequence of operations that hypothesis can think of."""

import json
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shared.contracts.jobs import JobKind, JobState, NewJob, Stage
from shared.errors import Conflict, Invalid, NotFound, StaleAttempt
from shared.ledger import Ledger, calls, script
from shared.ledger.calls import CancelledMeanwhile, MustRunAlone, NotAcquired
from shared.ledger.keys import LedgerKey
from shared.names import base_of_queue, queue_on_base

SELECTING = ["select", "select@pin"]
QUEUES = [*SELECTING, "generate.g", "generate.g@pin"]
SETTLED_AT_ONCE = 2
ENDS = [JobState.SUCCEEDED, JobState.FAILED]
MOST_JOBS = 8


class Turns:
    """Who is next among some: whoever has the lowest mark; names decide between equal ones."""

    def __init__(self):
        self.marks = {}

    def add(self, name, cost):
        self.marks.setdefault(name, min(self.marks.values(), default=0) + cost)

    def next(self):
        return min(self.marks, key=lambda name: (self.marks[name], name))

    def pay(self, name, cost):
        if len(self.marks) > 1:
            self.marks[name] += cost


@dataclass
class Lanes:
    """The waiting jobs of one queue and priority, by tenant and label."""

    jobs: dict = field(default_factory=dict)
    """By (tenant, label), first in, first out."""
    tenants: Turns = field(default_factory=Turns)
    labels: dict = field(default_factory=dict)
    """The turns of each tenant's labels."""

    def enter(self, twin):
        self.jobs.setdefault((twin.tenant, twin.label), []).append(twin)
        self.labels.setdefault(twin.tenant, Turns()).add(twin.label, twin.cost)
        self.tenants.add(twin.tenant, twin.cost)

    def leave(self, twin):
        lane = self.jobs.get((twin.tenant, twin.label), [])
        if twin in lane:
            lane.remove(twin)
            self.forget_empty(twin.tenant, twin.label)

    def take(self):
        tenant = self.tenants.next()
        label = self.labels[tenant].next()
        twin = self.jobs[tenant, label].pop(0)
        self.labels[tenant].pay(label, twin.cost)
        self.tenants.pay(tenant, twin.cost)
        self.forget_empty(tenant, label)
        return twin

    def forget_empty(self, tenant, label):
        if not self.jobs[tenant, label]:
            del self.jobs[tenant, label], self.labels[tenant].marks[label]
        if not self.labels[tenant].marks:
            del self.labels[tenant], self.tenants.marks[tenant]


@dataclass
class Queue:
    """What the ledger should hold of the order in a queue."""

    interactive: Lanes = field(default_factory=Lanes)
    batch: Lanes = field(default_factory=Lanes)
    run: int = 0
    """Interactive jobs taken since the last batch one, while one waited."""

    def lanes_of(self, twin):
        return self.batch if twin.is_batch else self.interactive

    def take(self):
        if not self.batch.jobs:
            return self.interactive.take() if self.interactive.jobs else None
        self.run += bool(self.interactive.jobs)
        if self.interactive.jobs and self.run <= 4:
            return self.interactive.take()
        self.run = 0
        return self.batch.take()


@dataclass(eq=False)
class Twin:
    """What the ledger should hold of one job; `tries` are all attempts that ever were, stale ones included."""

    id: str
    tenant: str
    is_batch: bool
    tokens: int
    label: str = ""
    queue: str = "select"
    state: str = "queued"
    attempt: int = 0
    lost: int = 0
    is_cancelled: bool = False
    is_dead: bool = False
    ended_by: int = 0
    tries: list = field(default_factory=list)
    told: list = field(default_factory=lambda: ["queued"])
    """What readers of its events see: each state that was entered, and what attempts that had the job wrote."""
    after: tuple = ()
    blockers: list = field(default_factory=list)
    """Twins whose end it waits for."""
    needs_success: bool = False
    """Whether it ends as soon as one of them ends badly."""
    dependents: set = field(default_factory=set)
    """Ids of those that wait for it, until they are settled."""

    @property
    def cost(self):
        return 1 if self.queue in SELECTING else self.tokens

    @property
    def is_idle(self):
        return self.state in {"queued", "routed"}

    @property
    def waits(self):
        return self.is_idle and not self.blockers

    @property
    def has_ended(self):
        return not (self.is_idle or self.works)

    def waits_for(self, other):
        return self is other or any(blocker.waits_for(other) for blocker in self.blockers)

    @property
    def works(self):
        return self.state in {"selecting", "running"}

    def owns(self, job):
        return self.works and self.attempt == job.attempt

    def go(self, state):
        self.state = str(state)
        self.told.append(self.state)

    def block(self, others, *, needs_success):
        self.blockers, self.needs_success = list(others), needs_success
        for other in others:
            other.dependents.add(self.id)

    def unblock(self):
        for other in self.blockers:
            other.dependents.discard(self.id)
        self.blockers = []

    def wait(self):
        self.go("cancelled" if self.is_cancelled else "queued" if self.queue in SELECTING else "routed")


class Machine(RuleBasedStateMachine):
    ledger = None

    def __init__(self):
        super().__init__()
        self.ledger.redis.flushall()
        self.twins = []
        self.queues = {queue: Queue() for queue in QUEUES}
        self.batches = self.made = 0
        self.settling = []
        """What has ended while others waited for it: call, state and id, by which the ledger orders them, and twin."""
        self.calls = 0
        self.forgotten = Counter()
        self.selected = []
        """The jobs that were routed, in this order."""

    def attempt(self, draw):
        twin = draw.draw(st.sampled_from([twin for twin in self.twins if twin.tries]))
        return twin, draw.draw(st.sampled_from(twin.tries))

    def outcome(self, call):
        try:
            self.ledger.do(call)
        except (Conflict, StaleAttempt, CancelledMeanwhile, NotFound, Invalid) as refusal:
            return type(refusal)
        return None

    def ended(self, twin):
        """What follows within the call that ended a job."""
        self.calls += 1
        if self.note_end(twin):
            self.settle_part()

    def note_end(self, twin):
        twin.unblock()
        if twin.dependents:
            self.settling.append((self.calls, f"{twin.state}|{twin.id}", twin))
        return bool(twin.dependents)

    def settle_part(self):
        """Settle as many as one call does; answers the ids of those that wait for a worker now."""
        left, released = SETTLED_AT_ONCE, []
        while left > 0 and self.settling:
            entry = min(self.settling, key=lambda entry: entry[:2])
            state, twin = entry[1].partition("|")[0], entry[2]
            some = sorted(twin.dependents)[:left]
            for job_id in some:
                released += self.settle_one(next(other for other in self.twins if other.id == job_id), twin, state)
            left -= max(1, len(some))
            if not twin.dependents:
                self.settling.remove(entry)
        return released

    def settle_one(self, twin, blocker, state):
        blocker.dependents.remove(twin.id)
        twin.blockers.remove(blocker)
        if state != "succeeded" and twin.needs_success:
            twin.go("failed")
            self.note_end(twin)
        elif not twin.blockers:
            self.enter_lane(twin)
            return [twin.id]
        return []

    def enter_lane(self, twin):
        self.queues[twin.queue].lanes_of(twin).enter(twin)

    def leave_lane(self, twin):
        self.queues[twin.queue].lanes_of(twin).leave(twin)

    def wait(self, twin):
        twin.wait()
        if twin.waits:
            self.enter_lane(twin)

    def job_of(self, twin, text="x"):
        priority = "batch" if twin.is_batch else "interactive"
        body = {"input": text, "priority": priority, "params": {"max_new_tokens": twin.tokens}}
        return NewJob(
            id=twin.id,
            tenant_id=twin.tenant,
            kind=JobKind.GENERATE,
            stage=Stage.SELECT,
            queue="select",
            body=body,
            release=f"rel_{twin.id}",
            after=twin.after,
        )

    @precondition(lambda self: len(self.twins) < MOST_JOBS)
    @rule(
        tenant=st.sampled_from("tu"),
        is_batch=st.booleans(),
        tokens=st.sampled_from([1, 7, 20]),
        draw=st.data(),
    )
    def create(self, tenant, is_batch, tokens, draw):
        known = [other for other in self.twins if other.tenant == tenant] or self.twins
        others = draw.draw(st.lists(st.sampled_from(known), max_size=2, unique=True)) if known else []
        self.made += 1
        twin = Twin(f"job_{self.made}", tenant, is_batch, tokens, after=tuple(other.id for other in others))
        self.ledger.redis.set(LedgerKey.RELEASE.of(tenant), f"rel_{twin.id}")
        call = calls.create(self.job_of(twin), 60)
        if any(other.tenant != tenant or (other.has_ended and other.state != "succeeded") for other in others):
            assert self.outcome(call) is Invalid
            return
        self.ledger.do(call)
        self.twins.append(twin)
        twin.block([other for other in others if not other.has_ended], needs_success=True)
        if twin.waits:
            self.enter_lane(twin)

    @rule()
    def settle(self):
        settled = self.ledger.do(calls.settle())
        assert [sent.job_id for sent in settled.released] == self.settle_part()
        assert settled.more == bool(self.settling)

    @precondition(lambda self: self.twins)
    @rule(draw=st.data(), text=st.sampled_from(["x", "y"]))
    def create_again(self, draw, text):
        twin = draw.draw(st.sampled_from(self.twins))
        job = self.job_of(twin, text)
        if text == "x":
            assert self.ledger.do(calls.create(job, 60)).existing
        else:
            assert self.outcome(calls.create(job, 60)) is Invalid

    @precondition(lambda self: any(twin.tries for twin in self.twins))
    @rule(draw=st.data(), text=st.text("ab", min_size=1, max_size=2), repeats=st.booleans())
    def append(self, draw, text, repeats):
        twin, job = self.attempt(draw)
        self.batches += 1
        call = calls.append([(job.id, job.attempt, "token", {"text": text})], writer="w", batch=self.batches)
        for _ in range(1 + repeats):
            assert self.ledger.do(call) == ["held" if twin.owns(job) else "stale"]
        if twin.owns(job):
            twin.told.append(text)

    @rule(queue=st.sampled_from(QUEUES), repeats=st.booleans())
    def acquire_next(self, queue, repeats):
        twin = self.queues[queue].take()
        call = calls.acquire_next(queue, "w", 60)
        if twin is None:
            assert self.outcome(call) is NotAcquired
        elif twin.lost == 2:  # set aside: only who names it gets it
            with pytest.raises(MustRunAlone) as refusal:
                self.ledger.do(call)
            assert refusal.value.job_id == twin.id
        else:
            self.begin(twin, call, repeats)

    @precondition(lambda self: self.twins)
    @rule(draw=st.data(), repeats=st.booleans())
    def acquire(self, draw, repeats):
        twin = draw.draw(st.sampled_from(self.twins))
        call = calls.acquire(twin.id, twin.queue, "w", 60)
        if not twin.waits:
            assert self.outcome(call) is NotAcquired
            return
        self.leave_lane(twin)
        self.begin(twin, call, repeats)

    def begin(self, twin, call, repeats):
        job = self.ledger.do(call)
        assert job.id == twin.id
        assert not repeats or self.ledger.do(call) == job
        twin.attempt += 1
        twin.go("selecting" if twin.queue in SELECTING else "running")
        twin.tries.append(job)

    @precondition(lambda self: any(twin.works for twin in self.twins))
    @rule(draw=st.data())
    def lose_lease(self, draw):
        twin = draw.draw(st.sampled_from([twin for twin in self.twins if twin.works]))
        self.ledger.redis.zadd(LedgerKey.LEASED.of(twin.queue), {twin.id: 1}, xx=True)
        again = [sent.job_id for sent in self.ledger.do(calls.expire(twin.queue))]
        twin.lost += 1
        twin.is_dead = twin.lost == 3 and not twin.is_cancelled
        if twin.is_dead:
            twin.go("failed")
        else:
            self.wait(twin)
        assert again == [twin.id] * twin.waits
        if twin.has_ended:
            self.ended(twin)

    @precondition(lambda self: any(twin.tries for twin in self.twins))
    @rule(draw=st.data(), state=st.sampled_from(ENDS))
    def finish(self, draw, state):
        twin, job = self.attempt(draw)
        is_done = twin.owns(job) or twin.ended_by == job.attempt
        if twin.owns(job):
            twin.go(state)
            twin.ended_by = job.attempt
            self.ended(twin)
        assert self.outcome(calls.finish(job, state)) is (None if is_done else StaleAttempt)

    @precondition(lambda self: any(twin.tries for twin in self.twins))
    @rule(draw=st.data(), picks=st.lists(st.integers(0, MOST_JOBS - 1), min_size=1, max_size=2, unique=True))
    def wait_for(self, draw, picks):
        twin, job = self.attempt(draw)
        own = [other for number, other in enumerate(self.twins) if number in picks and other.tenant == twin.tenant]
        others = [other for other in own if not other.has_ended]
        call = calls.wait_for(job, [other.id for other in others])
        if twin.owns(job) and any(other.waits_for(twin) for other in others):
            assert self.outcome(call) is Conflict
        elif not twin.owns(job) or twin.is_cancelled or not others:
            self.leave(twin, job, lambda _: call)
        else:
            assert self.ledger.do(call) is None
            twin.wait()
            twin.block(others, needs_success=False)

    @precondition(lambda self: any(twin.tries for twin in self.twins))
    @rule(draw=st.data())
    def release_unfinished(self, draw):
        self.leave(*self.attempt(draw), calls.release_unfinished)

    @precondition(lambda self: any(twin.tries for twin in self.twins))
    @rule(draw=st.data())
    def leave_to_its_base(self, draw):
        twin, job = self.attempt(draw)
        queue = queue_on_base(base_of_queue(twin.queue)[0], "pin")
        if twin.owns(job) and not twin.is_cancelled:
            twin.queue = queue
        self.leave(twin, job, lambda job: calls.release_unfinished(job, queue))

    @precondition(lambda self: any(twin.state == "selecting" for twin in self.twins))
    @rule(draw=st.data(), label=st.sampled_from(["a.b", "a.c"]))
    def route(self, draw, label):
        twin = draw.draw(st.sampled_from([twin for twin in self.twins if twin.state == "selecting"]))
        job = draw.draw(st.sampled_from(twin.tries))
        if twin.owns(job) and not twin.is_cancelled:
            twin.queue, twin.label, twin.lost = "generate.g", label, 0
            self.selected.append((twin.tenant, twin.id))
        chosen = {"label": label}
        self.leave(twin, job, lambda job: calls.route(job, queue="generate.g", label=label, selection=chosen))

    def leave(self, twin, job, call):
        expected = StaleAttempt
        if twin.owns(job):
            self.wait(twin)
            expected = CancelledMeanwhile if twin.is_cancelled else None
            if twin.has_ended:
                self.ended(twin)
        assert self.outcome(call(job)) is expected

    @precondition(lambda self: self.twins)
    @rule(draw=st.data())
    def cancel(self, draw):
        twin = draw.draw(st.sampled_from(self.twins))
        twin.is_cancelled = twin.is_cancelled or twin.works
        if twin.is_idle:
            self.leave_lane(twin)
            twin.go("cancelled")
            self.ended(twin)
        assert self.ledger.do(calls.cancel(twin.id, twin.tenant)) == twin.state

    @precondition(lambda self: self.twins)
    @rule(draw=st.data(), call=st.sampled_from([calls.replay, calls.drop]))
    def replay_or_drop(self, draw, call):
        twin = draw.draw(st.sampled_from(self.twins))
        is_settling = twin.is_dead and any(entry[2] is twin for entry in self.settling)
        if is_settling and call is calls.replay:
            assert self.outcome(call(twin.id, twin.tenant)) is Conflict
            return
        assert self.outcome(call(twin.id, twin.tenant)) is (None if twin.is_dead else NotFound)
        if twin.is_dead and call is calls.replay:
            twin.lost = 0
            self.wait(twin)
        twin.is_dead = False

    @invariant()
    def the_ledger_holds_what_the_model_says(self):
        for twin in self.twins:
            job = self.ledger.do(calls.get(twin.id))
            assert (job.state, job.queue, job.attempt) == (twin.state, twin.queue, twin.attempt)
            assert job.lost_leases == twin.lost or job.state.is_final
        for queue in QUEUES:
            mine = [twin for twin in self.twins if twin.queue == queue]
            assert self.members(LedgerKey.WAITING.of(queue)) == {twin.id for twin in mine if twin.waits}
            assert self.members(LedgerKey.LEASED.of(queue)) == {twin.id for twin in mine if twin.works}
        for tenant in "tu":
            dead = {twin.id for twin in self.twins if twin.is_dead and twin.tenant == tenant}
            assert self.members(LedgerKey.DEAD.of(tenant)) == dead
            needing = {twin.id for twin in self.twins if twin.tenant == tenant and not twin.has_ended} | dead
            found = self.ledger.do(calls.unfinished(tenant))
            assert (found.releases, found.trainings) == ({f"rel_{job_id}": job_id for job_id in needing}, [])

    @invariant()
    def each_tenant_has_as_many_jobs_that_have_not_ended(self):
        counts = self.ledger.redis.hgetall(LedgerKey.STATES)
        for tenant in "tu":
            unfinished = [twin for twin in self.twins if twin.tenant == tenant and not twin.has_ended]
            assert int(counts.get(f"tenant:{tenant}", 0)) == len(unfinished)
        for state in JobState:
            assert int(counts.get(state, 0)) == self.forgotten[state] + sum(twin.state == state for twin in self.twins)

    @precondition(lambda self: any(twin.has_ended for twin in self.twins))
    @rule(draw=st.data())
    def forget(self, draw):
        """The time of an ended job passes; a dead letter's does not."""
        twin = draw.draw(st.sampled_from([twin for twin in self.twins if twin.has_ended]))
        kept = LedgerKey.KEPT.of(twin.tenant)
        mine = [member for member in self.ledger.redis.zrange(kept, 0, -1) if member.startswith(f"{twin.id}|")]
        assert len(mine) == (not twin.is_dead)
        for member in mine:
            self.ledger.redis.zadd(kept, {member: 1})
        found = self.ledger.do(calls.forget(twin.tenant, 10, free_bytes=0, min_ttl_seconds=60))
        assert found.records == len(mine)
        if mine:
            self.twins.remove(twin)
            self.forgotten[twin.state] += 1

    @invariant()
    def each_selection_is_noted_once_and_in_order(self):
        noted = [entry for _, entry in self.ledger.redis.xrange(LedgerKey.SELECTIONS)]
        assert [(entry["tenant"], entry["job"]) for entry in noted] == self.selected

    @invariant()
    def a_tenant_holds_the_bytes_of_its_jobs(self):
        held = self.ledger.do(calls.gauges()).held
        for tenant in "tu":
            sizes = [self.job_of(twin).kept_bytes(calls.base.dump(self.job_of(twin).body)) for twin in self.twins
                     if twin.tenant == tenant]  # fmt: skip
            assert held.get(tenant, 0) == sum(sizes)

    @invariant()
    def lanes_and_marks_are_those_of_the_model(self):
        expected = {}
        for queue, its in self.queues.items():
            for priority, lanes in (("interactive", its.interactive), ("batch", its.batch)):
                turns = {(): lanes.tenants} | {(tenant,): labels for tenant, labels in lanes.labels.items()}
                for who, one in turns.items():
                    if one.marks:
                        expected[LedgerKey.TURNS.of(queue, priority, *who)] = one.marks
                for lane, twins in lanes.jobs.items():
                    expected[LedgerKey.LANE.of(queue, priority, *lane)] = [twin.id for twin in twins]
        keys = [key for name in (LedgerKey.LANE, LedgerKey.TURNS) for key in self.ledger.redis.scan_iter(name.pattern)]
        assert {key: self.held(key) for key in keys} == expected

    def held(self, key):
        rows = self.ledger.redis.zrange(key, 0, -1, withscores=True)
        return dict(rows) if key.startswith(LedgerKey.TURNS) else [job_id for job_id, _ in rows]

    @invariant()
    def every_attempt_hears_where_it_stands(self):
        tries = [(twin, job) for twin in self.twins for job in twin.tries]
        stands = ["stale" if not t.owns(job) else "cancel" if t.is_cancelled else "held" for t, job in tries]
        beat = calls.heartbeat("w", [], [(job.id, job.attempt) for _, job in tries], {}, 60)
        assert self.ledger.do(beat) == stands

    @invariant()
    def readers_see_each_state_and_what_the_holders_wrote_once_and_in_order(self):
        for twin in self.twins:
            stream = [json.loads(event["data"]) for _, event in self.ledger.redis.xrange(LedgerKey.EVENTS.of(twin.id))]
            assert [data.get("state") or data["text"] for data in stream] == twin.told

    def members(self, key):
        return set(self.ledger.redis.zrange(key, 0, -1))


@pytest.fixture
def small_parts(monkeypatch):
    """Scripts that go through few dependents at once."""
    monkeypatch.setattr(script, "SETTLED_AT_ONCE", SETTLED_AT_ONCE)
    script.script_of.cache_clear()
    yield
    script.script_of.cache_clear()


def test_no_sequence_of_operations_parts_the_ledger_from_its_model(settings, small_parts):
    Machine.ledger = Ledger(settings.redis_url)
    quick = profile(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Machine, settings=quick)
