"""Several choices of one request share its prompt, and each is what it would be alone."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from services.adapter_worker.engine.native.kv_cache import PAGE, pages_for, pages_for_choices
from shared.errors import Cancelled, Invalid, SignalboxError, Unavailable
from tests.support.engine_kit import ADAPTERS, greedy, ignore
from tests.support.eventually import eventually
from tests.support.watched_models import BreaksOn, Counting

SAMPLED = {"temperature": 1.0, "seed": 21}


@pytest.fixture(params=["kernels", "torch"])
def engine(kit, request):
    engine = kit.engine(max_batch=6, kernels=kit.kernels if request.param == "kernels" else None)
    yield engine
    engine.close()


def held_pages(engine):
    """Pages that something else than the cache of prefixes holds."""
    pool = engine._runner.pages
    return pool.count - pool.free_count - len(pool._prefixes)


def test_the_prompt_is_computed_once_for_all_choices(kit):
    model = Counting(kit)
    engine = kit.engine(model=model)
    begun = model.tokens
    generation = engine.generate(greedy(kit, "x" * 40, None, n=5, max_new_tokens=4), ignore)
    # The last token of a choice is not computed on.
    assert [len(choice.token_ids) for choice in generation.choices] == [4] * 5
    assert model.tokens - begun == generation.prompt_tokens + 5 * 3
    engine.close()


@pytest.mark.parametrize("length", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE])
def test_each_choice_is_the_answer_to_its_own_seed_wherever_the_prompt_ends_in_a_page(kit, engine, length):
    engine.load_adapter("plain", kit.adapter("plain", **ADAPTERS["plain"]))
    text = "y" * (length - 1)  # and the template's token
    together = engine.generate(greedy(kit, text, "plain", n=4, **SAMPLED), ignore)
    assert together.prompt_tokens == length
    for n, choice in enumerate(together.choices):
        alone = engine.generate(greedy(kit, text, "plain", **{**SAMPLED, "seed": SAMPLED["seed"] + n}), ignore)
        assert choice.token_ids == alone.token_ids
    assert len({tuple(choice.token_ids) for choice in together.choices}) == 4


def test_choices_beside_other_requests_with_fewer_seats_than_choices(kit):
    engine, rows = kit.engine(max_batch=2), []
    requests = [greedy(kit, f"text {n}", None, n=4, **SAMPLED, max_new_tokens=3 + n) for n in range(4)]
    alone = [engine.generate(request, ignore).choices for request in requests]
    with ThreadPoolExecutor(4) as pool:
        observe = lambda _piece: rows.append(len(engine._runner.rows))  # noqa: E731
        together = list(pool.map(lambda request: engine.generate(request, observe).choices, requests))
    assert together == alone
    assert max(rows) <= 2
    engine.close()


def test_requests_of_many_choices_wait_for_room_and_give_it_back(kit):
    engine = kit.engine(cache_bytes=1 << 17)
    before = held_pages(engine)
    requests = [greedy(kit, "x" * 50 + str(n), None, n=4, max_new_tokens=20) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        generations = list(pool.map(lambda request: engine.generate(request, ignore), requests))
    assert all(len(generation.choices) == 4 for generation in generations)
    eventually(lambda: held_pages(engine) == before, "all pages are free again")
    engine.close()


def test_a_prompt_is_too_large_where_its_choices_together_find_no_room(kit):
    engine = kit.engine(cache_bytes=1 << 17)
    pages = engine._runner.pages.count
    one, many = greedy(kit, "x" * 50, None, max_new_tokens=100), greedy(kit, "x" * 50, None, max_new_tokens=100, n=8)
    assert pages_for(51 + 100) <= pages < pages_for_choices(51, 100, 8)
    assert engine.generate(one, ignore).token_ids
    with pytest.raises(Invalid, match="ask for fewer choices") as caught:
        engine.generate(many, ignore)
    assert caught.value.code == "prompt_too_large"
    engine.close()


def ended_by(kit, engine, how):
    """Generate three long choices in a batch of two and end them at the tenth piece; returns what was raised."""
    pieces = itertools.count(1)

    def on_piece(_piece):
        if next(pieces) == 10:
            how()

    request = greedy(kit, "long", None, n=3, max_new_tokens=300, **SAMPLED)
    with pytest.raises(SignalboxError) as caught:
        engine.generate(request, on_piece)
    return caught.value


def test_what_ends_a_request_ends_all_its_choices_and_frees_their_pages(kit):
    engine = kit.engine(max_batch=2)
    before = held_pages(engine)
    assert isinstance(ended_by(kit, engine, lambda: engine.cancel("long", 1)), Cancelled)

    def break_off():
        raise ReaderIsDone

    assert isinstance(ended_by(kit, engine, break_off), ReaderIsDone)
    assert engine.running_count == 0
    assert engine.generate(greedy(kit, "next", None, n=2), ignore).choices
    eventually(lambda: held_pages(engine) == before, "all pages are free again")
    with ThreadPoolExecutor() as pool:
        closing = []
        assert isinstance(ended_by(kit, engine, lambda: closing.append(pool.submit(engine.close))), Unavailable)
        closing[0].result(10)


class ReaderIsDone(SignalboxError):
    def __init__(self):
        super().__init__("by_test", "the reader has had enough")


def test_a_step_that_breaks_fails_all_choices_and_the_engine_lives(kit):
    broken = kit.engine(model=BreaksOn(kit, "!"))
    before = held_pages(broken)
    with pytest.raises(SignalboxError) as caught:
        broken.generate(greedy(kit, "!!!", None, n=3), ignore)
    assert caught.value.code == "engine_step_failed"
    assert len(broken.generate(greedy(kit, "good", None, n=3), ignore).choices) == 3
    eventually(lambda: held_pages(broken) == before, "all pages are free again")
    broken.close()


def test_a_long_prompt_beside_decoding_rows_is_computed_in_pieces_and_then_shared(kit, engine):
    with ThreadPoolExecutor() as pool:
        beside = pool.submit(engine.generate, greedy(kit, "beside", None, max_new_tokens=60), ignore)
        together = engine.generate(greedy(kit, "z" * 400, None, n=2, max_new_tokens=5), ignore)
        assert beside.result(30).token_ids
    alone = engine.generate(greedy(kit, "z" * 400, None, max_new_tokens=5), ignore)
    assert [choice.token_ids for choice in together.choices] == [alone.token_ids] * 2


def by_hand(kit, text, answer, changes):
    """Logits of each token of an answer by plain forward passes, with `changes(counts)` added; [tokens, vocabulary]."""
    ids = kit.prompt_ids(text)
    with torch.no_grad():
        logits = kit.model(input_ids=torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1].clone()
    counts = torch.zeros(logits.shape[-1])
    for row, token in enumerate(answer):
        logits[row] += changes(counts)
        counts[token] += 1
    return logits


@pytest.mark.parametrize(("presence", "frequency"), [(1.5, 0.0), (0.0, 1.5), (0.7, 0.4), (-0.5, -1.0)])
def test_penalties_and_bias_are_those_worked_out_by_hand(kit, engine, presence, frequency):
    plain = engine.generate(greedy(kit, "again", None, max_new_tokens=40), ignore)
    bias = {plain.token_ids[0]: -3.0, plain.token_ids[2]: 2.0}
    options = {"presence_penalty": presence, "frequency_penalty": frequency, "logit_bias": bias}
    with ThreadPoolExecutor() as pool:  # beside rows without penalties, which they leave alone
        beside = pool.submit(engine.generate, greedy(kit, "again", None, max_new_tokens=40), ignore)
        mine = engine.generate(greedy(kit, "again", None, max_new_tokens=40, **options), ignore)
        assert beside.result(30).token_ids == plain.token_ids
    assert mine.token_ids != plain.token_ids

    def changes(counts):
        added = -presence * (counts > 0) - frequency * counts
        for token, value in bias.items():
            added[token] += value
        return added

    for row, token in zip(by_hand(kit, "again", mine.token_ids, changes), mine.token_ids, strict=True):
        assert row[token] >= row.max() - 1e-3


def test_a_bias_forbids_and_forces(kit, engine):
    plain = engine.generate(greedy(kit, "bias", None), ignore)
    banned = plain.token_ids[0]
    without = engine.generate(greedy(kit, "bias", None, logit_bias={banned: -100.0}), ignore)
    assert banned not in without.token_ids
    forced = engine.generate(greedy(kit, "bias", None, logit_bias={65: 100.0}, max_new_tokens=5), ignore)
    assert forced.token_ids == [65] * 5


def test_a_bias_for_a_token_that_the_model_has_not_is_refused(kit, engine):
    last = kit.model.config.vocab_size - 1
    assert engine.generate(greedy(kit, "x", None, logit_bias={last: -1.0}), ignore).token_ids
    with pytest.raises(Invalid, match=f"end at {last}") as caught:
        engine.generate(greedy(kit, "x", None, logit_bias={last + 1: 1.0}), ignore)
    assert caught.value.code == "token_unknown"


def test_logprobs_and_alternatives_are_the_models_own_before_penalties_bias_and_temperature(kit, engine):
    options = {"presence_penalty": 2.0, "frequency_penalty": 2.0, "logit_bias": {65: 5.0}, **SAMPLED}
    request = greedy(kit, "own", None, n=2, logprobs=True, top_logprobs=5, **options)
    for choice in engine.generate(request, ignore).choices:
        expected = by_hand(kit, "own", choice.token_ids, lambda counts: 0 * counts).log_softmax(-1)
        best = expected.topk(5)
        for n, top in enumerate(choice.logprobs.top):
            assert [other.token_id for other in top] == best.indices[n].tolist()
            assert [other.logprob for other in top] == pytest.approx(best.values[n].tolist(), abs=1e-4)
        of_tokens = expected.gather(-1, torch.tensor(choice.token_ids).unsqueeze(-1)).squeeze(-1).tolist()
        assert choice.logprobs.logprobs == pytest.approx(of_tokens, abs=1e-4)


def test_rows_that_ask_for_different_numbers_of_alternatives_get_their_own(kit, engine):
    counts = [0, 1, 20, 3]
    requests = [greedy(kit, "several", None, logprobs=True, top_logprobs=count, max_new_tokens=10) for count in counts]
    with ThreadPoolExecutor(4) as pool:
        generations = list(pool.map(lambda request: engine.generate(request, ignore), requests))
    for count, generation in zip(counts, generations, strict=True):
        assert [len(top) for top in generation.logprobs.top] == ([count] * 10 if count else [])
