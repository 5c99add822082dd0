"""What becomes of the engine and its requests when its device or its memory fails."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from services.adapter_worker.engine.base import EngineAway, EngineLost
from services.adapter_worker.engine.native.step_faults import MOST_OUT_OF_MEMORY, StepFaults
from tests.support.engine_kit import greedy, ignore
from tests.support.eventually import eventually
from tests.support.watched_models import BreaksOn, Stumbles


def test_a_fault_of_the_device_ends_the_engine_and_blames_no_request(kit):
    broken = kit.engine(model=BreaksOn(kit, "!", torch.AcceleratorError("CUDA error: an illegal memory access")))
    broken.check()
    with ThreadPoolExecutor(4) as pool:
        going = [
            pool.submit(broken.generate, greedy(kit, f"good {n}", None, max_new_tokens=400), ignore) for n in range(3)
        ]
        eventually(lambda: broken.running_count == 3, "they run")
        with pytest.raises(EngineLost):
            broken.generate(greedy(kit, "!!!", None), ignore)
        for one in going:
            with pytest.raises(EngineLost):
                one.result(20)
    for call in (broken.check, lambda: broken.generate(greedy(kit, "good", None), ignore)):
        with pytest.raises(EngineLost) as caught:
            call()
        assert caught.value.code == "engine_device_failed"
    broken.close()


def test_an_engine_that_is_out_of_memory_again_and_again_is_lost(kit):
    broken = kit.engine(model=BreaksOn(kit, "!", torch.OutOfMemoryError("CUDA out of memory")))

    def fail():
        with pytest.raises(EngineAway) as caught:
            broken.generate(greedy(kit, "!!!", None), ignore)
        assert caught.value.code == "engine_out_of_memory"

    for _ in range(2):  # what succeeds in between shows that memory is there
        for _ in range(MOST_OUT_OF_MEMORY - 1):
            fail()
        assert broken.generate(greedy(kit, "good", None), ignore).token_ids
        broken.check()
    for _ in range(MOST_OUT_OF_MEMORY):
        fail()
    with pytest.raises(EngineLost):
        broken.generate(greedy(kit, "good", None), ignore)
    broken.close()


def test_an_engine_thread_that_does_not_step_is_seen(kit):
    engine = kit.engine()
    begun, goes_on = threading.Event(), threading.Event()

    def hold(_):
        begun.set()
        assert goes_on.wait(20)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(engine.generate, greedy(kit, "good", None), hold)
        assert begun.wait(20)
        since = engine.stuck_seconds
        eventually(lambda: engine.stuck_seconds > since + 0.05, "it counts")
        goes_on.set()
        running.result(20)
    eventually(lambda: engine.stuck_seconds == 0, "an idle engine is not stuck")
    engine.close()


def test_a_step_that_is_tried_again_draws_the_same_tokens(kit):
    model = Stumbles(kit)
    engine = kit.engine(model=model)
    requests = [greedy(kit, f"dice {n}", None, temperature=1.0, seed=n) for n in range(3)]
    alone = [engine.generate(request, ignore).token_ids for request in requests]
    pieces = []

    def stumble_now_and_then(piece):
        pieces.append(piece)
        if len(pieces) % 7 == 0:
            model.stumble()

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda r: engine.generate(r, stumble_now_and_then).token_ids, requests))
    engine.close()
    assert model.stumbled > 1
    assert together == alone


def test_what_a_step_without_memory_had_is_free_before_the_next_one():
    tensors = []

    def step():
        activation = torch.zeros(10)
        tensors.append(weakref.ref(activation))
        raise torch.OutOfMemoryError("CUDA out of memory")

    try:
        step()
    except torch.OutOfMemoryError as error:
        StepFaults(torch.device("cuda")).of(error, rows=2)
        assert tensors[0]() is None
