"""What becomes of the engine and its requests when its device or its memory fails."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from services.adapter_worker.engine.base import EngineAway, EngineLost
from services.adapter_worker.engine.native.step_faults import MOST_OUT_OF_MEMORY
from tests.support.engine_kit import greedy, ignore
from tests.support.eventually import eventually
from tests.support.watched_models import BreaksOn


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
