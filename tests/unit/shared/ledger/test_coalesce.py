"""Calls of many threads share few round trips."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.ledger.coalesce import Coalescer


class HeldRoundTrip:
    """Round trips that last until `may_go` is set; `trips` lists the requests of each."""

    def __init__(self):
        self.trips = []
        self.may_go = threading.Event()
        self.is_under_way = threading.Event()

    def send(self, requests):
        self.trips.append(list(requests))
        self.is_under_way.set()
        assert self.may_go.wait(10)
        return [ValueError(text) if text == "bad" else text.upper() for text in requests]


def waiting_count(coalescer):
    return len(coalescer._pending)


@pytest.fixture
def calls_in_flight():
    """`a` is under way, and three others wait."""
    trip = HeldRoundTrip()
    coalescer = Coalescer(trip.send)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(coalescer, "a")]
        assert trip.is_under_way.wait(10)
        for text in ("b", "bad", "c"):
            calls.append(pool.submit(coalescer, text))
            while waiting_count(coalescer) < len(calls) - 1:
                threading.Event().wait(0.001)
        yield trip, calls
        trip.may_go.set()


def test_a_single_call_is_sent_at_once():
    coalescer = Coalescer(lambda requests: [number * 2 for number in requests])
    assert [coalescer(number) for number in (1, 2, 3)] == [2, 4, 6]


def test_calls_that_arrive_during_a_round_trip_share_the_next_one_in_order(calls_in_flight):
    trip, calls = calls_in_flight
    trip.may_go.set()
    assert [calls[n].result(10) for n in (0, 1, 3)] == ["A", "B", "C"]
    assert trip.trips == [["a"], ["b", "bad", "c"]]


def test_a_refused_call_does_not_harm_the_others(calls_in_flight):
    trip, calls = calls_in_flight
    trip.may_go.set()
    with pytest.raises(ValueError, match="bad"):
        calls[2].result(10)
    assert calls[3].result(10) == "C"


def test_a_failed_round_trip_fails_its_own_calls_and_no_later_one():
    trips = []

    def send(requests):
        trips.append(requests)
        if len(trips) == 1:
            raise ConnectionError("cut off")
        return requests

    coalescer = Coalescer(send)
    with pytest.raises(ConnectionError):
        coalescer("first")
    assert coalescer("second") == "second"


def test_each_of_many_concurrent_calls_gets_its_own_reply():
    coalescer = Coalescer(lambda requests: [number + 1 for number in requests])
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(coalescer, range(5000))) == list(range(1, 5001))
