"""The simulator against what can be said without it, and against what was measured."""

import math
import random

import pytest
import simpy

from benchmarks import scale_sim
from benchmarks.simulation import group as groups
from benchmarks.simulation import road
from benchmarks.simulation.group import Group
from benchmarks.simulation.measured import SLOTS, TOKENS, figure
from benchmarks.simulation.road import Ledger


@pytest.fixture(scope="module")
def measured():
    random.seed(1)
    return road.fitted()


def test_the_engine_is_as_fast_as_it_was_measured_at_both_batches(measured):
    for batch, key in ((SLOTS, "mixed8_tokens_per_s"), (32, "mixed_tokens_per_s")):
        assert measured.tokens_per_s(batch) == pytest.approx(figure("mixed_batch", key))


def test_the_road_comes_near_to_the_measured_one(measured):
    errors = {row["key"]: row["value"] for row in scale_sim.validation(measured)}
    assert abs(errors["sim_error_routed_p50_ms"]) < 0.3
    assert abs(errors["sim_error_queue_tax_p50_ms"]) < 0.3
    assert abs(errors["sim_error_routed_ledger_commands"]) < 0.02
    assert abs(errors["sim_error_routed_broker_commands"]) < 0.02


def test_calls_that_come_together_share_a_forced_write():
    env = simpy.Environment()
    ledger, ends = Ledger(env, fsync_s=1.0), []

    def call(after_s):
        yield env.timeout(after_s)
        yield ledger.call(0.1)
        ends.append(round(env.now, 6))

    for after_s in (0.0, 0.5, 0.5):
        env.process(call(after_s))
    env.run()
    assert ends == [1.1, 2.3, 2.3]


def test_a_full_worker_makes_the_tokens_that_it_can(measured):
    env = simpy.Environment()
    group = Group(env, measured)
    for _ in range(1000):
        group.submit()
    env.process(group.worker())
    env.run(60)
    made = (len(group.first_token_s) - SLOTS) * TOKENS
    assert made / 60 == pytest.approx(measured.tokens_per_s(SLOTS), rel=0.1)


def test_more_load_never_needs_fewer_workers_and_always_as_many_as_its_tokens(measured):
    random.seed(2)
    counts = [groups.enough(measured, per_s) for per_s in (1, 10, 20)]
    assert counts == sorted(counts)
    assert counts[-1] >= 20 * TOKENS / measured.tokens_per_s(SLOTS)


def test_the_share_of_cold_starts_is_that_of_gaps_longer_than_the_cooldown(measured):
    random.seed(3)
    group = groups.scaled(measured, 12 / 3600, floor=0, hours=60)
    cold = sum(wait > measured.start_s for wait in group.first_token_s) / len(group.first_token_s)
    # A gap counts from the end of the one before; what comes while a pod starts waits as well.
    assert cold == pytest.approx(math.exp(-groups.COOLDOWN_S * 12 / 3600), abs=0.15)
    kept = groups.scaled(measured, 12 / 3600, floor=1, hours=60)
    assert max(kept.first_token_s) < measured.start_s


def test_groups_get_equal_shares_of_the_traffic():
    shares = groups.popularity(64)
    place = groups.shared_out(shares, 4)
    loads = [sum(share for share, group in zip(shares, place, strict=True) if group == n) for n in range(4)]
    assert sum(loads) == pytest.approx(1)
    assert max(loads) - min(loads) < 0.02


def test_a_ledger_beyond_its_end_is_told(measured):
    limit = 1 / road.job_cost(measured, 0)
    assert road.ledger_p99(measured, 0.3 * limit, tokens=0, seconds=1) < 0.02
    assert road.ledger_p99(measured, 2 * limit, tokens=0, seconds=1) > 0.02
