"""Requests of many adapters in one batch give what each adapter gives alone."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.native.kv_cache import PAGE
from shared.contracts.prompts import Part, Segment
from shared.errors import Cancelled, Invalid, SignalboxError
from shared.model.tokens import encode
from tests.support.engine_kit import ADAPTERS, greedy, ignore
from tests.support.watched_models import BreaksOn


def ends(kit):
    return {kit.tokenizer.eos_token_id, kit.tokenizer.convert_tokens_to_ids("<|im_end|>")}


@pytest.fixture(params=["kernels", "torch"])
def engine(kit, request):
    engine = kit.engine(max_batch=6, kernels=kit.kernels if request.param == "kernels" else None)
    yield engine
    engine.close()


def test_mixed_batches_with_joins_and_leaves_equal_the_solo_runs(kit, engine, agreement):
    chance = random.Random(11)
    for name, config in ADAPTERS.items():
        engine.load_adapter(name, kit.adapter(name, **config))
    requests = [
        greedy(kit, "x" * chance.randint(1, 60) + str(n), chance.choice([None, *ADAPTERS]),
               max_new_tokens=chance.randint(1, 40))
        for n in range(60)
    ]  # fmt: skip
    with ThreadPoolExecutor(12) as pool:
        generations = list(pool.map(lambda request: engine.generate(request, ignore), requests))
    for request, generation in zip(requests, generations, strict=True):
        adapter = None if request.adapter is None else kit.folder / request.adapter
        tokens, logits = kit.solo(adapter, kit.prompt_ids(request.job_id), request.max_new_tokens)
        agreement.check(generation.token_ids, [token for token in tokens if token not in ends(kit)], logits)


def test_an_answer_ends_at_the_requests_own_end_tokens_beside_others_that_go_on(kit, engine):
    whole = engine.generate(greedy(kit, "on and on", None, max_new_tokens=20), ignore)
    stop = whole.token_ids[5]
    with ThreadPoolExecutor(2) as pool:
        ended = pool.submit(
            engine.generate, greedy(kit, "on and on", None, max_new_tokens=20, end_ids=frozenset([stop])), ignore
        )
        others = engine.generate(greedy(kit, "on and on", None, max_new_tokens=20), ignore)
    assert others.token_ids == whole.token_ids
    assert ended.result(30).token_ids == whole.token_ids[: whole.token_ids.index(stop)]
    assert ended.result().finish_reason == "stop"


def test_adapters_load_and_leave_while_others_run(kit, engine):
    engine.load_adapter("plain", kit.adapter("plain", **ADAPTERS["plain"]))
    alone = engine.generate(greedy(kit, "steady", "plain", max_new_tokens=200), ignore)
    with ThreadPoolExecutor() as pool:
        steady = pool.submit(engine.generate, greedy(kit, "steady", "plain", max_new_tokens=200), ignore)
        for _ in range(5):
            engine.load_adapter("rslora", kit.adapter("rslora", **ADAPTERS["rslora"]))
            engine.unload_adapter("rslora")
        assert steady.result(30).token_ids == alone.token_ids


def test_a_common_instruction_is_computed_once_for_each_adapter_and_changes_no_answer(kit, engine, agreement):
    for name in ("plain", "rslora"):
        engine.load_adapter(name, kit.adapter(name, **ADAPTERS[name]))
    instruction = Segment(Part.USER, "Answer the question in as few words as can be, and then stop. ")
    for text in ("one", "another one", "x" * 40):
        for name in ("plain", "rslora"):
            prompt = [instruction, *kit.prompt(text)]
            request = GenerationRequest(job_id=text, attempt=1, prompt=prompt, adapter=name, max_new_tokens=12)
            mine = engine.generate(request, ignore).token_ids
            tokens, logits = kit.solo(kit.folder / name, encode(kit.tokenizer, prompt, 1 << 20), 12)
            agreement.check(mine, [token for token in tokens if token not in ends(kit)], logits)
    kept = engine._runner.pages
    assert kept.count - kept.free_count >= 2 * (len(instruction.text) // PAGE)


def test_requests_wait_where_the_cache_is_full_and_all_are_answered(kit):
    engine = kit.engine(cache_bytes=1 << 17)
    requests = [greedy(kit, "x" * 50 + str(n), None, max_new_tokens=30) for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        generations = list(pool.map(lambda request: engine.generate(request, ignore), requests))
    assert all(generation.token_ids for generation in generations)
    with pytest.raises(Invalid) as caught:
        engine.generate(greedy(kit, "x" * 300, None, max_new_tokens=200), ignore)
    assert caught.value.code == "prompt_too_large"
    engine.close()


def test_an_adapter_that_leaves_serves_what_it_has_accepted(kit, engine):
    engine.load_adapter("plain", kit.adapter("plain", **ADAPTERS["plain"]))
    alone = engine.generate(greedy(kit, "last", "plain", max_new_tokens=100), ignore)
    pieces = []
    with ThreadPoolExecutor() as pool:

        def leave_at_once(piece):
            if not pieces:
                pool.submit(engine.unload_adapter, "plain")
            pieces.append(piece)

        last = engine.generate(greedy(kit, "last", "plain", max_new_tokens=100), leave_at_once)
    assert last.token_ids == alone.token_ids
    assert engine.resident == frozenset()


def test_an_adapter_that_changes_nothing_is_refused(kit, engine):
    idle = kit.adapter("idle", init_lora_weights=True)
    with pytest.raises(Invalid) as caught:
        engine.load_adapter("idle", idle)
    assert caught.value.code == "adapter_inactive"
    assert engine.resident == frozenset()
    engine.load_adapter("plain", kit.adapter("plain", **ADAPTERS["plain"]))
    assert engine.resident == {"plain"}


def test_base_answers_stay_the_same_beside_adapters(kit, engine):
    before = engine.generate(greedy(kit, "plain", None), ignore)
    engine.load_adapter("dora", kit.adapter("dora", **ADAPTERS["dora"]))
    engine.generate(greedy(kit, "other", "dora"), ignore)
    assert engine.generate(greedy(kit, "plain", None), ignore).token_ids == before.token_ids


def test_a_seed_gives_the_same_text_alone_and_in_company(kit, engine):
    sampled = {"temperature": 1.0, "top_p": 0.9, "top_k": 40, "seed": 5}
    alone = engine.generate(greedy(kit, "dice", None, **sampled), ignore)
    with ThreadPoolExecutor() as pool:
        crowd = [greedy(kit, f"n{n}", None, temperature=2.0, seed=n) for n in range(4)]
        others = [pool.submit(engine.generate, request, ignore) for request in crowd]
        assert engine.generate(greedy(kit, "dice", None, **sampled), ignore).token_ids == alone.token_ids
        assert [other.result(20).finish_reason for other in others]
    assert engine.generate(greedy(kit, "dice", None, **{**sampled, "seed": 6}), ignore).token_ids != alone.token_ids


def test_logprobs_are_those_before_temperature(kit, engine):
    request = greedy(kit, "dice", None, temperature=3.0, seed=4, logprobs=True)
    generation = engine.generate(request, ignore)
    alone = kit.logprobs(None, kit.prompt_ids("dice"), generation.token_ids)
    assert generation.logprobs.logprobs == pytest.approx(alone, abs=1e-4)


def test_cancel_reaches_a_job_that_still_waits(kit):
    engine = kit.engine(max_batch=1)
    joined, goes_on = threading.Event(), threading.Event()

    def hold(_):
        joined.set()
        assert goes_on.wait(10)  # in its first step, so that it cannot end before it is cancelled

    with ThreadPoolExecutor() as pool:
        running = pool.submit(engine.generate, greedy(kit, "first", None, max_new_tokens=300), hold)
        assert joined.wait(10)
        waiting = pool.submit(engine.generate, greedy(kit, "second", None), ignore)
        while not engine.cancel("second", 1):
            pass
        assert engine.cancel("first", 1)
        goes_on.set()
        for cancelled in (waiting, running):
            with pytest.raises(Cancelled):
                cancelled.result(10)
    engine.close()


def test_a_prompt_that_breaks_the_step_fails_alone_and_the_engine_lives(kit, engine):
    broken = kit.engine(model=BreaksOn(kit, "!"))
    with ThreadPoolExecutor(6) as pool:
        good = [pool.submit(broken.generate, greedy(kit, f"good {n}", None), ignore) for n in range(5)]
        bad = pool.submit(broken.generate, greedy(kit, "!!!", None), ignore)
        with pytest.raises(SignalboxError) as caught:
            bad.result(20)
        assert caught.value.code == "engine_step_failed"
        assert all(one.result(20).token_ids for one in good)
    assert broken.generate(greedy(kit, "good again", None), ignore).token_ids
    broken.close()


def test_a_step_without_memory_is_retryable(kit):
    broken = kit.engine(model=BreaksOn(kit, "!", MemoryError()))
    with pytest.raises(SignalboxError) as caught:
        broken.generate(greedy(kit, "!!!", None), ignore)
    assert (caught.value.code, caught.value.retryable) == ("engine_out_of_memory", True)
    broken.close()


def test_a_long_prompt_is_shortened_and_says_so(kit):
    engine = kit.engine(max_prompt_tokens=32)
    generation = engine.generate(greedy(kit, "y" * 500, None, max_new_tokens=4), ignore)
    assert (generation.prompt_tokens, generation.prompt_shortened) == (32, True)
    engine.close()


def test_more_tokens_than_the_context_holds_are_refused(kit, engine):
    with pytest.raises(Invalid) as caught:
        engine.generate(greedy(kit, "y", None, max_new_tokens=512), ignore)
    assert caught.value.code == "max_new_tokens_too_large"
