"""The ledger against a model of it in plain Python, through any sequence of operations that hypothesis can think of."""

import json
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shared.contracts.jobs import JobKind, JobState, NewJob, Stage
from shared.errors import Conflict, Invalid, NotFound, StaleAttempt
from shared.ledger import calls
from shared.ledger.calls import CancelledMeanwhile, MustRunAlone, NotAcquired
from shared.ledger.keys import LedgerKey
from shared.names import base_of_queue, queue_on_base

SELECTING = ["select", "select@pin"]
QUEUES = [*SELECTING, "generate.g", "generate.g@pin"]
ENDS = [JobState.SUCCEEDED, JobState.FAILED]


@dataclass
class Twin:
    """What the ledger should hold of one job; `tries` are all attempts that ever were, stale ones included."""

    id: str
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
    blockers: list = field(default_factory=list)
    """Twins whose end it waits for."""

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
        if not self.is_idle:
            self.blockers = []

    def wait(self):
        self.go("cancelled" if self.is_cancelled else "queued" if self.queue in SELECTING else "routed")


class Machine(RuleBasedStateMachine):
    ledger = None

    def __init__(self):
        super().__init__()
        self.ledger.redis.flushall()
        self.twins = []
        self.batches = 0

    def attempt(self, draw):
        twin = draw.draw(st.sampled_from([twin for twin in self.twins if twin.tries]))
        return twin, draw.draw(st.sampled_from(twin.tries))

    def outcome(self, call):
        try:
            self.ledger.do(call)
        except (Conflict, StaleAttempt, CancelledMeanwhile, NotFound, Invalid) as refusal:
            return type(refusal)
        return None

    def set_free(self):
        """What waited only for jobs that have ended waits for a worker now."""
        for twin in self.twins:
            twin.blockers = [blocker for blocker in twin.blockers if not blocker.has_ended]

    @precondition(lambda self: len(self.twins) < 3)
    @rule()
    def create(self):
        twin = Twin(f"job_{len(self.twins)}")
        job = NewJob(
            id=twin.id, tenant_id="t", kind=JobKind.GENERATE, stage=Stage.SELECT, queue="select", body={"input": "x"}
        )
        self.ledger.do(calls.create(job, 60))
        self.twins.append(twin)

    @precondition(lambda self: self.twins)
    @rule(draw=st.data(), text=st.sampled_from(["x", "y"]))
    def create_again(self, draw, text):
        twin = draw.draw(st.sampled_from(self.twins))
        job = NewJob(
            id=twin.id, tenant_id="t", kind=JobKind.GENERATE, stage=Stage.SELECT, queue="select", body={"input": text}
        )
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

    @precondition(lambda self: self.twins)
    @rule(draw=st.data())
    def send_again(self, draw):
        twin = draw.draw(st.sampled_from(self.twins))
        sent = self.ledger.do(calls.mark_sent(twin.queue, [twin.id]))
        assert [one.job_id for one in sent] == [twin.id] * twin.waits

    @precondition(lambda self: self.twins)
    @rule(draw=st.data(), repeats=st.booleans(), beside_others=st.booleans())
    def acquire(self, draw, repeats, beside_others):
        twin = draw.draw(st.sampled_from(self.twins))
        call = calls.acquire(twin.id, twin.queue, "w", 60, beside_others=beside_others)
        if not twin.waits:
            assert self.outcome(call) is NotAcquired
            return
        if beside_others and twin.lost == 2:
            assert self.outcome(call) is MustRunAlone
            return
        job = self.ledger.do(call)
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
            twin.wait()
        assert again == [twin.id] * twin.waits
        self.set_free()

    @precondition(lambda self: any(twin.tries for twin in self.twins))
    @rule(draw=st.data(), state=st.sampled_from(ENDS))
    def finish(self, draw, state):
        twin, job = self.attempt(draw)
        is_done = twin.owns(job) or twin.ended_by == job.attempt
        if twin.owns(job):
            twin.go(state)
            twin.ended_by = job.attempt
            self.set_free()
        assert self.outcome(calls.finish(job, state)) is (None if is_done else StaleAttempt)

    @precondition(lambda self: any(twin.tries for twin in self.twins))
    @rule(draw=st.data(), picks=st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True))
    def wait_for(self, draw, picks):
        twin, job = self.attempt(draw)
        others = [other for number, other in enumerate(self.twins) if number in picks and not other.has_ended]
        call = calls.wait_for(job, [other.id for other in others])
        if twin.owns(job) and any(other.waits_for(twin) for other in others):
            assert self.outcome(call) is Conflict
        elif not twin.owns(job) or twin.is_cancelled or not others:
            self.leave(twin, job, lambda _: call)
        else:
            assert self.ledger.do(call) is None
            twin.wait()
            twin.blockers = others

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
    @rule(draw=st.data())
    def route(self, draw):
        twin = draw.draw(st.sampled_from([twin for twin in self.twins if twin.state == "selecting"]))
        job = draw.draw(st.sampled_from(twin.tries))
        if twin.owns(job) and not twin.is_cancelled:
            twin.queue, twin.lost = "generate.g", 0
        self.leave(twin, job, lambda job: calls.route(job, queue="generate.g", label="a.b", selection={}))

    def leave(self, twin, job, call):
        expected = StaleAttempt
        if twin.owns(job):
            twin.wait()
            expected = CancelledMeanwhile if twin.is_cancelled else None
            self.set_free()
        assert self.outcome(call(job)) is expected

    @precondition(lambda self: self.twins)
    @rule(draw=st.data())
    def cancel(self, draw):
        twin = draw.draw(st.sampled_from(self.twins))
        twin.is_cancelled = twin.is_cancelled or twin.works
        if twin.is_idle:
            twin.go("cancelled")
            self.set_free()
        assert self.ledger.do(calls.cancel(twin.id, "t")) == twin.state

    @precondition(lambda self: self.twins)
    @rule(draw=st.data(), call=st.sampled_from([calls.replay, calls.drop]))
    def replay_or_drop(self, draw, call):
        twin = draw.draw(st.sampled_from(self.twins))
        assert self.outcome(call(twin.id, "t")) is (None if twin.is_dead else NotFound)
        if twin.is_dead and call is calls.replay:
            twin.lost = 0
            twin.wait()
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
        assert self.members(LedgerKey.DEAD.of("t")) == {twin.id for twin in self.twins if twin.is_dead}

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


def test_no_sequence_of_operations_parts_the_ledger_from_its_model(ledger):
    Machine.ledger = ledger
    quick = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Machine, settings=quick)
