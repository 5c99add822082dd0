"""Who goes first, and how much of a prompt a step may carry."""

import pytest

from services.adapter_worker.engine.native.prefill_budget import LARGEST, PrefillBudget, Prompt
from services.adapter_worker.engine.native.waiting import FairQueue

LONG = Prompt(2000, 2000)


def line(*items):
    waiting = FairQueue()
    for item, adapter, is_batch in items:
        waiting.add(item, adapter, is_batch=is_batch)
    return waiting


def drain(waiting, running=None, fits=lambda _: True):
    taken = []
    while (item := waiting.take(running or {}, fits)) is not None:
        taken.append(item)
    return taken


def test_one_adapter_with_many_requests_does_not_keep_another_waiting():
    waiting = line(("a1", "a", False), ("a2", "a", False), ("b1", "b", False))
    assert waiting.take({"a": 3}, lambda _: True) == "b1"


def test_equal_adapters_go_in_the_order_of_arrival():
    assert drain(line(("b1", "b", False), ("a1", "a", False), ("b2", "b", False))) == ["b1", "a1", "b2"]


def test_batch_work_goes_after_every_few_interactive_requests():
    live = [(f"i{n}", None, False) for n in range(6)]
    assert drain(line(("late", None, True), *live)) == ["i0", "i1", "i2", "i3", "late", "i4", "i5"]


def test_what_does_not_fit_keeps_its_place():
    waiting = line(("large", None, False), ("small", None, False))
    assert waiting.take({}, lambda item: item != "large") is None
    assert drain(waiting) == ["large", "small"]


def test_those_that_ended_while_waiting_are_dropped():
    waiting = line(("a1", "a", False), ("b1", "b", False))
    waiting.drop(lambda item: item == "a1")
    assert (len(waiting), drain(waiting)) == (1, ["b1"])


def test_a_long_prompt_is_cut_where_others_decode_and_a_short_one_never():
    pace = PrefillBudget()
    assert pace.shares([LONG], decoding=False) == [LARGEST]
    long, short = pace.shares([LONG, Prompt(50, 50)], decoding=True)
    assert (long < 100, short) == (True, 50)


def test_the_end_of_a_long_prompt_is_no_short_one():
    (alone,) = PrefillBudget().shares([LONG], decoding=True)
    assert PrefillBudget().shares([Prompt(2000, 200)], decoding=True) == [alone]


def test_the_long_prompts_of_a_step_share_one_piece():
    pace = PrefillBudget()
    (alone,) = pace.shares([LONG], decoding=True)
    assert pace.shares([LONG, LONG], decoding=True) == [alone, 0]


@pytest.mark.parametrize(("token_seconds", "max_stall_x"), [(0.0004, 1.4), (0.004, 1.4), (0.0004, 2.0)])
def test_the_piece_becomes_as_large_as_the_stall_allows(token_seconds, max_stall_x):
    pace = PrefillBudget(max_stall_x)
    for seconds in (0.1, 0.1, 0.9, 0.1):  # one was disturbed
        pace.record_step(seconds, decoding=4, prefilled=0)
    for _ in range(40):
        (piece,) = pace.shares([LONG], decoding=True)
        pace.record_step(0.1 + piece * token_seconds, decoding=4, prefilled=piece)
    assert 1 + piece * token_seconds / 0.1 == pytest.approx(max_stall_x, abs=0.05)


def test_a_disturbed_step_changes_the_piece_a_little_and_no_other_prompt_changes_it():
    pace, (first,) = PrefillBudget(), PrefillBudget().shares([LONG], decoding=True)
    pace.record_step(0.1, decoding=4, prefilled=0)
    pace.record_step(5.0, decoding=4, prefilled=200)
    assert pace.shares([LONG], decoding=True) == [first]
    pace.record_step(5.0, decoding=4, prefilled=first)
    (piece,) = pace.shares([LONG], decoding=True)
    assert 0.75 * first < piece < first
