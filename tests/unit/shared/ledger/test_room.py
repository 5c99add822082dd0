"""What the server says of its memory, and what the settings make of it."""

import pytest

from shared.errors import Unavailable
from shared.ledger.calls import TenantBudget
from shared.ledger.room import Room
from shared.settings import Settings

SETTINGS = Settings(ledger_reserve=0.1, tenant_ledger_share=0.5, ledger_high_water=0.8, min_result_ttl_seconds=600)


def room(used, most=1000):
    return Room.of({"used_memory": used + 7, "mem_not_counted_for_evict": 7, "maxmemory": most}, SETTINGS)


def test_a_tenth_is_kept_for_what_was_accepted_and_a_tenant_may_take_half_of_the_rest():
    assert room(0).for_jobs == 900
    assert room(0).budget == TenantBudget(450, 600)


def test_new_jobs_are_refused_from_the_reserve_on():
    room(899).check()
    with pytest.raises(Unavailable) as refusal:
        room(900 << 20, 1000 << 20).check()
    assert refusal.value.code == "ledger_full"
    assert "900 of 1000 MiB" in refusal.value.detail


def test_what_is_above_the_high_water_is_too_much():
    assert room(720).excess == 0
    assert room(800).excess == 80
    assert room(0).excess_of(460) == 100


def test_without_a_limit_of_memory_nothing_is_bounded():
    unlimited = room(10**12, 0)
    unlimited.check()
    assert (unlimited.budget.most_bytes, unlimited.excess, unlimited.excess_of(10**12)) == (0, 0, 0)


def test_no_limit_is_so_small_that_it_means_none():
    assert room(0, 1).budget.most_bytes == 1
    assert room(0, 1).is_full
