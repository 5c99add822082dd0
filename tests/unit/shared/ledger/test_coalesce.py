"""Calls of many threads in few round trips."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.ledger.coalesce import Coalescer


class Road:
    """A round trip that takes until it is let go; notes what travelled together."""

    def __init__(self):
        self.trips = []
        self.may_go = threading.Event()
        self.is_under_way = threading.Event()

    def carry(self, asked):
        self.trips.append(list(asked))
        self.is_under_way.set()
        assert self.may_go.wait(10)
        return [ValueError(one) if one == "bad" else one.upper() for one in asked]


def waiting_count(together):
    return len(together._waiting)


@pytest.fixture
def crowd():
    """`a` is under way, and three others wait."""
    road = Road()
    together = Coalescer(road.carry)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(together, "a")]
        assert road.is_under_way.wait(10)
        for one in ("b", "bad", "c"):
            calls.append(pool.submit(together, one))
            while waiting_count(together) < len(calls) - 1:
                threading.Event().wait(0.001)
        yield road, calls
        road.may_go.set()


def test_a_call_that_is_alone_goes_at_once():
    together = Coalescer(lambda asked: [one * 2 for one in asked])
    assert [together(number) for number in (1, 2, 3)] == [2, 4, 6]


def test_what_comes_while_a_call_is_under_way_travels_together_in_order(crowd):
    road, calls = crowd
    road.may_go.set()
    assert [calls[n].result(10) for n in (0, 1, 3)] == ["A", "B", "C"]
    assert road.trips == [["a"], ["b", "bad", "c"]]


def test_one_that_is_refused_does_not_harm_the_others(crowd):
    road, calls = crowd
    road.may_go.set()
    with pytest.raises(ValueError, match="bad"):
        calls[2].result(10)
    assert calls[3].result(10) == "C"


def test_a_trip_that_fails_fails_all_who_travelled_and_nobody_after_them():
    trips = []

    def carry(asked):
        trips.append(asked)
        if len(trips) == 1:
            raise ConnectionError("cut off")
        return asked

    together = Coalescer(carry)
    with pytest.raises(ConnectionError):
        together("first")
    assert together("second") == "second"


def test_a_storm_of_calls_is_answered_each_with_its_own():
    together = Coalescer(lambda asked: [one + 1 for one in asked])
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(together, range(5000))) == list(range(1, 5001))
