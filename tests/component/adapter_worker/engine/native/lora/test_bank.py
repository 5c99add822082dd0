"""Slots: who gets them, who loses them, and what happens to requests meanwhile."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.adapter_worker.engine import GenerationRequest
from shared.errors import Cancelled, Invalid, NotFound, Unavailable
from tests.support.engine_kit import greedy, ignore

RANKS = {"r4": 4, "r8": 8, "r16": 16, "r20": 20}


def loaded(kit, engine, *names):
    for name in names:
        engine.load_adapter(name, kit.adapter(name, seed=len(name), r=RANKS.get(name, 8)))


def test_the_longest_unused_adapter_makes_room(kit):
    engine = kit.engine(adapter_slots=3)
    loaded(kit, engine, "a", "b", "c")
    engine.generate(greedy(kit, "again", "a", max_new_tokens=2), ignore)
    loaded(kit, engine, "d")
    assert engine.resident == {"a", "c", "d"}
    with pytest.raises(NotFound):
        engine.generate(greedy(kit, "gone", "b"), ignore)
    engine.close()


def test_an_adapter_of_a_large_rank_takes_several_slots(kit):
    engine = kit.engine(adapter_slots=3)
    loaded(kit, engine, "a", "b", "r20")
    assert engine.resident == {"r20"}
    engine.close()


def test_an_adapter_that_can_never_fit_is_refused_and_evicts_nobody(kit):
    engine = kit.engine(adapter_slots=2)
    loaded(kit, engine, "a")
    with pytest.raises(Invalid) as caught:
        loaded(kit, engine, "r20")
    assert caught.value.code == "adapter_rank_too_large"
    assert engine.resident == {"a"}
    engine.close()


def test_loading_waits_while_all_slots_are_in_use(kit):
    engine = kit.engine(adapter_slots=1)
    loaded(kit, engine, "a")
    started = threading.Event()
    with ThreadPoolExecutor() as pool:
        request = greedy(kit, "long", "a", max_new_tokens=60)
        running = pool.submit(engine.generate, request, lambda _: started.set())
        assert started.wait(10)
        loaded(kit, engine, "b")
        assert running.result(1).token_ids
    assert engine.resident == {"b"}
    engine.close()


def test_an_adapter_of_another_model_is_refused_and_leaves_no_trace(kit):
    engine = kit.engine()
    folder = kit.adapter("other", target_modules=["q_proj"])
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 8'))
    with pytest.raises(Invalid) as caught:
        engine.load_adapter("other", folder)
    assert caught.value.code == "adapter_incomplete"
    assert engine.resident == frozenset()
    engine.close()


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "torch"])
def test_random_joins_leaves_loads_and_evictions_equal_the_solo_runs(kit, kernels, agreement):
    chance = random.Random(5)
    engine = kit.engine(adapter_slots=5, cache_bytes=1 << 19, kernels=kit.kernels if kernels else None)
    names = [*RANKS, "f0", "f1", "f2", "f3", "f4", "f5"]
    texts = ["x", "y" * 30, "and now for something completely different", "q" * 70]
    asked = [(chance.choice([None, *names]), chance.choice(texts), chance.randint(1, 20), n) for n in range(120)]

    def ask(adapter, text, count, n):
        request = GenerationRequest(
            job_id=str(n), attempt=1, prompt=kit.prompt(text), adapter=adapter, max_new_tokens=count
        )
        if n % 7 == 0:
            threading.Timer(0.01, engine.cancel, (str(n), 1)).start()
        while True:
            try:
                if adapter is not None:
                    loaded(kit, engine, adapter)
                return engine.generate(request, ignore)
            except (NotFound, Unavailable):  # evicted before the engine knew of the request
                continue
            except Cancelled:
                return None

    for name in names:
        kit.adapter(name, seed=len(name), r=RANKS.get(name, 8))
    with ThreadPoolExecutor(10) as pool:
        generations = list(pool.map(lambda one: ask(*one), asked))
    assert engine.running_count == 0
    engine.close()
    for (adapter, text, count, _), generation in zip(asked, generations, strict=True):
        if generation is not None:
            tokens, logits = kit.known_solo(adapter, text, 20)
            agreement.check(generation.token_ids, tokens[:count], logits)


@pytest.mark.slow
def test_a_thousand_registered_adapters_share_32_slots(kit, agreement):
    engine = kit.engine(adapter_slots=32)
    weights = ["w0", "w1", "w2"]
    for seed, name in enumerate(weights):
        kit.adapter(name, seed=seed)

    def ask(number):
        name, digest = weights[number % len(weights)], f"registered-{number}"
        request = greedy(kit, "one of a thousand", digest, job_id=digest, max_new_tokens=4)
        while True:
            engine.load_adapter(digest, kit.folder / name)
            try:
                return name, engine.generate(request, ignore).token_ids
            except NotFound:  # evicted by the others between the two calls
                continue

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(1000)))
    assert len(engine.resident) == 32
    engine.close()
    alone = {name: kit.known_solo(name, "one of a thousand", 4) for name in weights}
    assert len({tuple(tokens) for tokens, _ in alone.values()}) == len(weights)
    for name, token_ids in answers:
        agreement.check(token_ids, *alone[name])
