"""What every engine keeps, whichever it is."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.adapter_worker.engine import DeadlineExceeded, GenerationRequest, make_engine
from services.adapter_worker.engine.echo import EchoEngine
from shared.contracts.constraints import Constraint
from shared.contracts.logprobs import TokenLogprobs
from shared.contracts.prompts import Part, Segment
from shared.errors import Cancelled, Invalid, NotFound, Unavailable
from shared.settings import Settings
from tests.support.engine_kit import vllm_engine

ADAPTER = "a" * 64


class Pieces:
    """Collects the stream, tells when the first piece came, and does `then` at that moment."""

    def __init__(self, then=lambda: None):
        self.all = []
        self.first = threading.Event()
        self._then = then

    def __call__(self, piece):
        self.all.append(piece)
        if not self.first.is_set():
            self.first.set()
            self._then()

    @property
    def text(self):
        return self.text_of(0)

    def text_of(self, index):
        return "".join(piece.text for piece in self.all if piece.index == index)

    def logprobs_of(self, index):
        parts = [piece.logprobs for piece in self.all if piece.index == index]
        fields = ("token_ids", "logprobs", "token_bytes", "top")
        return TokenLogprobs(**{name: [x for part in parts for x in getattr(part, name)] for name in fields})


MAKE = {
    "echo": lambda _request, _kit: EchoEngine(seconds_per_token=0.002),
    "transformers": lambda _request, kit: kit.engine(),
    "vllm": lambda request, kit: vllm_engine(request.getfixturevalue("vllm"), kit),
}


@pytest.fixture
def kit(wide_kit):
    return wide_kit


@pytest.fixture(params=["echo", "transformers", pytest.param("vllm", marks=pytest.mark.slow)])
def engine(request, kit):
    engine = MAKE[request.param](request, kit)
    yield engine
    engine.close()


@pytest.fixture
def ask(kit):
    def build(text="one two three four five six", **options):
        options = {"job_id": "job", "attempt": 1, "adapter": None, "max_new_tokens": 5, **options}
        return GenerationRequest(prompt=kit.prompt(text), **options)

    return build


@pytest.fixture
def endless(ask):
    """A request that runs until somebody ends it."""
    return lambda **options: ask("word " * 400, **{"max_new_tokens": 400, **options})


def run(engine, request):
    pieces = Pieces()
    return engine.generate(request, pieces), pieces


def test_pieces_concatenated_are_the_text(engine, ask):
    generation, pieces = run(engine, ask())
    assert pieces.text == generation.text != ""


def test_the_same_request_gives_the_same_answer(engine, ask):
    assert run(engine, ask())[0].token_ids == run(engine, ask())[0].token_ids


def test_max_new_tokens_is_honoured_and_says_length(engine, ask):
    generation, _ = run(engine, ask(max_new_tokens=3))
    assert (len(generation.token_ids), generation.finish_reason) == (3, "length")


def test_logprobs_come_where_they_are_asked_for_one_a_token(engine, ask):
    generation, _ = run(engine, ask(logprobs=True))
    logprobs = generation.logprobs
    assert list(logprobs.token_ids) == generation.token_ids
    assert len(logprobs.logprobs) == len(logprobs.token_bytes) == len(generation.token_ids) > 0
    assert all(value <= 0 for value in logprobs.logprobs)
    assert logprobs.top == ()
    plain, pieces = run(engine, ask())
    assert plain.logprobs is None
    assert {piece.logprobs for piece in pieces.all} == {None}


def test_alternatives_are_the_most_probable_ones_and_a_greedy_token_is_the_first(engine, ask):
    generation, _ = run(engine, ask(logprobs=True, top_logprobs=3))
    logprobs = generation.logprobs
    assert len(logprobs.top) == len(generation.token_ids)
    for token, value, text, top in zip(
        logprobs.token_ids, logprobs.logprobs, logprobs.token_bytes, logprobs.top, strict=True
    ):
        assert 1 <= len(top) <= 3
        assert [other.logprob for other in top] == sorted((other.logprob for other in top), reverse=True)
        assert (top[0].token_id, top[0].bytes) == (token, text)
        assert top[0].logprob == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("n", [1, 3])
def test_pieces_concatenated_are_the_text_and_the_logprobs_of_each_choice(engine, ask, n):
    sampled = {"temperature": 1.5, "seed": 3, "max_new_tokens": 40}
    stop = (run(engine, ask(n=n, **sampled))[0].choices[-1].text[20:22],)
    for options in ({}, {"top_logprobs": 2}, {"stop": stop}, {"stop": ("\0\0", stop[0])}):
        generation, pieces = run(engine, ask(n=n, logprobs=True, **sampled, **options))
        assert {piece.index for piece in pieces.all} == set(range(n))
        assert len(generation.choices) == n
        for index, choice in enumerate(generation.choices):
            assert pieces.text_of(index) == choice.text
            assert pieces.logprobs_of(index) == choice.logprobs
            shown = list(choice.logprobs.token_ids)
            assert shown == choice.token_ids[: len(shown)]
            if not options.get("stop"):
                assert shown == choice.token_ids


def test_bytes_of_the_tokens_are_the_text(engine, ask):
    logprobs = run(engine, ask(logprobs=True, max_new_tokens=40))[0]
    joined = b"".join(map(bytes.fromhex, logprobs.logprobs.token_bytes))
    assert joined.decode(errors="replace").replace("\ufffd", "") == logprobs.text.replace("\ufffd", "")


def test_tokens_that_a_stop_string_cuts_off_have_no_logprobs(engine, ask):
    whole, _ = run(engine, ask(logprobs=True))
    stop = whole.text[2:4]
    generation, _ = run(engine, ask(logprobs=True, stop=(stop,)))
    shown = b"".join(map(bytes.fromhex, generation.logprobs.token_bytes)).decode(errors="replace")
    assert shown.startswith(generation.text)
    assert len(generation.logprobs.token_ids) <= len(generation.token_ids)


def test_choices_are_those_of_the_following_seeds(engine, ask):
    sampled = {"temperature": 1.0, "seed": 11, "max_new_tokens": 8}
    together, _ = run(engine, ask(n=3, **sampled))
    alone = [run(engine, ask(**{**sampled, "seed": 11 + n}))[0] for n in range(3)]
    assert [choice.token_ids for choice in together.choices] == [generation.token_ids for generation in alone]
    assert together.prompt_tokens == alone[0].prompt_tokens
    assert together.generated_tokens == sum(generation.generated_tokens for generation in alone)


def test_greedy_choices_are_equal(engine, ask):
    first, *others = run(engine, ask(n=3))[0].choices
    assert others == [first, first]


def test_cancel_ends_all_choices(engine, endless):
    pieces = Pieces()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(engine.generate, endless(job_id="mine", n=3), pieces)
        assert pieces.first.wait(10)
        assert engine.cancel("mine", 1)
        with pytest.raises(Cancelled):
            running.result(10)
    assert engine.running_count == 0
    assert run(engine, endless(n=2, max_new_tokens=3))[0].generated_tokens == 6


def test_a_choice_whose_reader_fails_fails_the_request(engine, ask):
    def poison(piece):
        if piece.index == 1:
            raise RuntimeError("reader is gone")

    with pytest.raises(RuntimeError, match="reader is gone"):
        engine.generate(ask(n=3), poison)
    assert engine.running_count == 0
    assert run(engine, ask())[0].text


def test_times_and_prompt_tokens_are_reported(engine, ask):
    generation, _ = run(engine, ask())
    assert 0 < generation.first_token_ms <= generation.total_ms
    assert generation.prompt_tokens > 0
    assert not generation.prompt_shortened


def test_text_ends_before_a_stop_string(engine, ask):
    whole, _ = run(engine, ask())
    stop = whole.text[2:4]
    generation, pieces = run(engine, ask(stop=(stop,)))
    assert generation.text == pieces.text == whole.text[: whole.text.index(stop)]
    assert generation.finish_reason == "stop"


def test_a_stop_string_that_never_comes_holds_nothing_back(engine, ask):
    whole, _ = run(engine, ask())
    generation, _ = run(engine, ask(stop=(whole.text[-1:] + "\0\0",)))
    assert generation.text == whole.text


def test_an_unknown_adapter_is_an_error_not_the_base_model(engine, ask):
    with pytest.raises(NotFound) as caught:
        run(engine, ask(adapter=ADAPTER))
    assert caught.value.code == "adapter_not_loaded"


def test_a_loaded_adapter_answers_and_an_unloaded_one_does_not(engine, ask, kit):
    engine.load_adapter(ADAPTER, kit.adapter("contract", seed=3))
    engine.load_adapter(ADAPTER, kit.adapter("contract", seed=3))
    assert engine.resident == {ADAPTER}
    assert run(engine, ask(adapter=ADAPTER))[0].text != run(engine, ask())[0].text
    engine.unload_adapter(ADAPTER)
    assert engine.resident == frozenset()
    with pytest.raises(NotFound):
        run(engine, ask(adapter=ADAPTER))


def test_a_missing_adapter_folder_is_refused(engine, tmp_path):
    with pytest.raises(Invalid) as caught:
        engine.load_adapter(ADAPTER, tmp_path / "nothing")
    assert caught.value.code == "adapter_weights_missing"
    assert engine.resident == frozenset()


def test_cancel_ends_a_running_job(engine, endless):
    pieces = Pieces()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(engine.generate, endless(job_id="mine"), pieces)
        assert pieces.first.wait(10)
        assert engine.cancel("mine", 1)
        with pytest.raises(Cancelled) as caught:
            running.result(10)
    assert caught.value.code == "cancelled"
    assert engine.running_count == 0


def test_cancelling_one_attempt_leaves_the_other_of_the_same_job_alone(engine, endless):
    answers = []
    old, new = Pieces(), Pieces(lambda: answers.append(engine.cancel("job", 1)))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(engine.generate, endless(attempt=1), old)
        assert old.first.wait(10)
        second = pool.submit(engine.generate, endless(attempt=2), new)
        with pytest.raises(Cancelled):
            first.result(20)
        assert answers == [True]
        assert second.result(20).finish_reason == "length"


def test_cancelling_an_unknown_job_says_so(engine):
    assert not engine.cancel("nobody", 1)


@pytest.mark.parametrize("n", [1, 3])
def test_a_passed_deadline_ends_the_job(engine, endless, n):
    with pytest.raises(DeadlineExceeded) as caught:
        run(engine, endless(n=n, deadline=time.monotonic() + 0.01))
    assert caught.value.code == "deadline_exceeded"


def test_a_deadline_in_the_past_makes_no_text(engine, endless):
    pieces = Pieces()
    with pytest.raises(DeadlineExceeded):
        engine.generate(endless(deadline=time.monotonic() - 1), pieces)
    assert pieces.all == []


def test_one_poisoned_reader_fails_alone(engine, ask, endless):
    def poison(_text):
        raise RuntimeError("reader is gone")

    with ThreadPoolExecutor() as pool:
        beside = pool.submit(engine.generate, endless(job_id="beside", max_new_tokens=30), Pieces())
        with pytest.raises(RuntimeError, match="reader is gone"):
            engine.generate(ask(), poison)
        assert len(beside.result(20).token_ids) == 30


def test_many_threads_get_their_own_answers(engine, ask):
    requests = [ask(f"text number {n}", job_id=str(n)) for n in range(20)]
    alone = [run(engine, request)[0].text for request in requests]
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(lambda request: run(engine, request), requests))
    assert [generation.text for generation, _ in together] == alone
    assert [pieces.text for _, pieces in together] == alone


@pytest.mark.parametrize("n", [1, 3])
def test_close_fails_what_runs_and_what_comes_later(engine, ask, endless, n):
    pieces = Pieces()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(engine.generate, endless(n=n), pieces)
        assert pieces.first.wait(10)
        engine.close()
        with pytest.raises(Unavailable) as caught:
            running.result(10)
    assert caught.value.code == "engine_stopped"
    with pytest.raises(Unavailable):
        run(engine, ask())


def test_engines_are_made_by_name_and_unknown_names_are_refused(tmp_path):
    make_engine("echo", Settings(), tmp_path).close()
    with pytest.raises(Invalid) as caught:
        make_engine("magic", Settings(), tmp_path)
    assert caught.value.code == "engine_unknown"


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        ({"choices": ["yes", "no"]}, "yes|no"),
        ({"regex": "[a-c]{4}x"}, "[a-c]{4}x"),
        ({"json_schema": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}}, None),
    ],
)
def test_an_answer_fits_its_constraint(engine, ask, constraint, pattern):
    generation, pieces = run(engine, ask(max_new_tokens=60, constraint=Constraint(**constraint), n=2))
    assert pieces.text_of(1) == generation.choices[1].text
    for choice in generation.choices:
        assert choice.finish_reason == "stop"
        assert re.fullmatch(pattern, choice.text) if pattern else len(json.loads(choice.text)) == 2


def test_the_cache_is_told_as_a_share_and_as_tokens_looked_up_and_found(engine, ask):
    told = [Segment(Part.TEMPLATE, "answer briefly " * 4), Segment(Part.USER, "one two", is_input=True)]
    request = GenerationRequest(prompt=told, job_id="job", attempt=1, adapter=None, max_new_tokens=5)
    for _ in range(2):
        engine.generate(request, Pieces())
    engine.check()
    cache = engine.cache
    assert 0 <= cache.used_ratio <= 1
    assert 0 <= cache.found <= cache.looked_up
    assert cache.found > 0 or isinstance(engine, EchoEngine)  # the second prompt is the first one
