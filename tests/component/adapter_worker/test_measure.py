"""The worker's metrics are what its engine says and does."""

import threading
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import REGISTRY

from services.adapter_worker.app import measure
from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.echo import EchoEngine
from tests.support.engine_kit import greedy, ignore


def gauges():
    names = ("signalbox_num_requests_running", "signalbox_adapters_resident")
    return tuple(REGISTRY.get_sample_value(name) for name in names)


def test_the_gauges_follow_the_engine(kit, tmp_path):
    engine, seen = EchoEngine(), []
    measure(engine)
    assert gauges() == (0, 0)
    engine.load_adapter("a" * 64, tmp_path)
    request = GenerationRequest(job_id="job", attempt=1, prompt=kit.prompt("one"), adapter=None)
    engine.generate(request, lambda _: seen.append(gauges()))
    assert seen[0] == (1, 1)
    assert gauges() == (0, 1)


def read(name, **labels):
    return REGISTRY.get_sample_value(f"signalbox_{name}", labels)


def test_requests_that_have_not_joined_the_batch_are_counted_as_waiting(kit):
    engine = kit.engine(max_batch=1)
    measure(engine)
    seen, joined, both = [], threading.Event(), threading.Event()

    def first(_text):
        joined.set()
        both.wait(10)
        seen.append((read("num_requests_running"), read("num_requests_waiting")))

    steps, tokens = read("batch_size_count"), read("batch_size_sum")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(engine.generate, greedy(kit, "one", None, max_new_tokens=3), first)
        assert joined.wait(10)  # or the second may take the only seat
        waiting = pool.submit(engine.generate, greedy(kit, "two", None, max_new_tokens=3), ignore)
        while engine.waiting_count == 0:
            assert not running.done()
            threading.Event().wait(0.005)  # between two looks
        both.set()
        count = len(running.result(10).token_ids) + len(waiting.result(10).token_ids)
    assert seen[0] == (1, 1)
    assert (read("num_requests_running"), read("num_requests_waiting")) == (0, 0)
    # One request at a time: a step each, and more steps than tokens where a prompt is computed in pieces.
    assert read("batch_size_sum") - tokens == read("batch_size_count") - steps >= count
    engine.close()


def test_an_adapter_that_makes_room_is_counted(kit):
    engine = kit.engine(adapter_slots=1)
    before = read("adapter_evictions_total", reason="room")
    engine.load_adapter("a", kit.adapter("a"))
    assert read("adapter_evictions_total", reason="room") == before
    engine.load_adapter("b", kit.adapter("b", seed=1))
    assert read("adapter_evictions_total", reason="room") == before + 1
    engine.close()
