"""Rows that a constraint binds beside rows that are free: each by its own mask, which is applied last."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
import torch

from services.adapter_worker.engine.matchers import Matchers
from services.adapter_worker.engine.native.token_mask import TokenMask, masked
from shared.constraints.program import byte_tokenizer
from shared.contracts.constraints import Constraint
from shared.errors import Invalid
from tests.support.engine_kit import ADAPTERS, greedy, ignore

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 3, "maximum": 99},
        "kind": {"enum": ["x", "yes", None]},
        "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["n", "kind", "list"],
    "additionalProperties": False,
}
CONSTRAINTS = [
    Constraint(json_schema=SCHEMA),
    Constraint(choices=("yes", "no", "yes, but")),
    Constraint(regex="[a-f]{3,9}!"),
    Constraint(grammar='start: ("ab" | "c" D)+\nD: /[0-9]{2}/'),
]


def is_right(constraint, text):
    if constraint.json_schema:
        jsonschema.validate(json.loads(text), SCHEMA)
        return True
    pattern = {"choices": "yes(, but)?|no", "regex": constraint.regex, "grammar": "(ab|c[0-9]{2})+"}[constraint.kind]
    return re.fullmatch(pattern, text) is not None


@pytest.fixture(scope="module")
def engine(kit):
    engine = kit.engine(max_batch=8)
    engine.load_adapter("plain", kit.adapter("plain", **ADAPTERS["plain"]))
    yield engine
    engine.close()


def test_bound_rows_fit_and_free_rows_are_what_they_are_without_them(kit, engine):
    free = [greedy(kit, f"free {n}", None if n % 2 else "plain", max_new_tokens=24) for n in range(4)]
    bound = [
        greedy(kit, f"bound {n}", None, max_new_tokens=120, constraint=constraint, temperature=n % 2 * 1.3, seed=n)
        for n, constraint in enumerate(CONSTRAINTS * 4)
    ]
    alone = [engine.generate(request, ignore).token_ids for request in free]
    with ThreadPoolExecutor(20) as pool:
        bound_answers = pool.map(lambda request: engine.generate(request, ignore), bound)
        beside = [found.token_ids for found in pool.map(lambda request: engine.generate(request, ignore), free)]
        answers = list(bound_answers)
    assert beside == alone
    ended = [(r.constraint, a.text) for r, a in zip(bound, answers, strict=True) if a.finish_reason == "stop"]
    assert len(ended) >= 12
    assert all(is_right(constraint, text) for constraint, text in ended)


def test_an_answer_that_is_whole_ends_without_a_token_for_its_end(kit, engine):
    found = engine.generate(greedy(kit, "say", None, max_new_tokens=2, constraint=Constraint(choices=("no",))), ignore)
    assert (found.text, found.finish_reason, len(found.token_ids)) == ("no", "stop", 2)


def test_an_answer_that_is_cut_says_so_and_a_stop_text_ends_it_earlier(kit, engine):
    bound = {"constraint": Constraint(regex="[ab]{20}c")}
    cut = engine.generate(greedy(kit, "say", None, max_new_tokens=5, **bound), ignore)
    assert (len(cut.text), cut.finish_reason) == (5, "length")
    stopped = engine.generate(greedy(kit, "say", None, max_new_tokens=30, stop=(cut.text[2:4],), **bound), ignore)
    assert stopped.finish_reason == "stop"
    assert cut.text.startswith(stopped.text)


def test_the_requests_own_end_tokens_end_it_only_where_the_constraint_is_met(kit, engine):
    letter = kit.tokenizer.encode("a", add_special_tokens=False)[0]
    options = {"constraint": Constraint(regex="[ab]{3,}"), "end_ids": frozenset([letter]), "max_new_tokens": 9}
    found = engine.generate(greedy(kit, "say", None, logit_bias={letter: 100.0}, **options), ignore)
    assert (found.text, found.finish_reason) == ("bbb", "stop")


def test_choices_penalties_bias_and_logprobs_go_on_under_a_mask(kit, engine):
    a, z = (kit.tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "az")
    request = greedy(
        kit, "say", None, constraint=Constraint(regex="[ab]{6}"), max_new_tokens=9, n=3, temperature=1.0, seed=1,
        logit_bias={a: 1.0, z: 100.0}, frequency_penalty=2.0, logprobs=True, top_logprobs=2,
    )  # fmt: skip
    found = engine.generate(request, ignore)
    assert all(re.fullmatch("[ab]{6}", choice.text) for choice in found.choices)
    assert {letter for choice in found.choices for letter in choice.text} == {"a", "b"}
    for choice in found.choices:
        expected = kit.logprobs(None, kit.prompt_ids("say"), list(choice.token_ids))
        assert choice.logprobs.logprobs == pytest.approx(expected, abs=1e-3)
        assert len(choice.logprobs.top) == 6


def test_a_constraint_that_does_not_compile_fails_its_request_alone(kit, engine):
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(engine.generate, greedy(kit, "free", None, max_new_tokens=20), ignore)
        with pytest.raises(Invalid, match=r"params\.constraint\.regex"):
            engine.generate(greedy(kit, "bad", None, constraint=Constraint(regex="a(")), ignore)
    assert len(other.result().token_ids) == 20


def test_a_dead_end_fails_its_request_alone(kit, engine):
    dead = Constraint(grammar='start: "ab" N\nN: /[^\\x00-\\U0010FFFF]/')
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(engine.generate, greedy(kit, "free", None, max_new_tokens=20), ignore)
        with pytest.raises(Exception, match="constraint") as caught:
            engine.generate(greedy(kit, "dead", None, constraint=dead), ignore)
    assert caught.value.code in ("constraint_failed", "constraint_invalid")
    assert len(other.result().token_ids) == 20


def test_a_mask_changes_its_own_row_alone_and_takes_nothing_from_the_logits():
    logits = torch.randn(3, 257)
    with ThreadPoolExecutor(1) as pool:
        mask = TokenMask(Matchers(byte_tokenizer).of(Constraint(regex="[ab]c")), 257, [], pool)
        found = masked(logits, [None, mask, None], list)
        assert found[[0, 2]].equal(logits[[0, 2]])
        assert found[1].isfinite().nonzero().flatten().tolist() == [97, 98]
        assert found[1, [97, 98]].equal(logits[1, [97, 98]])
        mask.take(97)
        assert masked(logits, [None, mask, None], list)[1].isfinite().nonzero().flatten().tolist() == [99]
        mask.take(99)
    assert mask.is_complete
    assert masked(logits, [None] * 3, list) is logits
