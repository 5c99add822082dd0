"""The plain path of section 3.5 against the batched scorers, and against each adapter alone in a model of its own."""

import numpy as np
import pytest
import torch

from services.trainer.data.examples import InstructionRow
from services.trainer.evaluation.generate import answer_rows
from services.trainer.evaluation.reference import Reference
from shared.contracts.built_in_templates import BASE_INSTRUCTION, adapter_prompt
from shared.contracts.conversation import single_turn
from shared.errors import Conflict, Invalid
from shared.model.base import load_model
from shared.model.light import LightSelector
from shared.model.merge import with_adapter
from shared.model.scoring import load_scorer
from shared.model.tokens import encode, encode_text
from tests.support.reference_release import LABELS, MAX_PROMPT, NAMES, Weights, release, save_adapter, selector

TEXTS = ["where is my card", "b", "a much longer text about a flight, a hotel and a lost bag on the way to Rome"]
TOKENS = 12


def alone(base, tokenizer, folder, prompt):
    """Greedy tokens of a fresh model with one adapter, the whole text read anew for each."""
    model = load_model(base, "float32", device="cpu")
    model = with_adapter(model, folder) if folder else model
    ids = encode(tokenizer, prompt, MAX_PROMPT)
    start = len(ids)
    while len(ids) < start + TOKENS:
        with torch.inference_mode():
            token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


@pytest.mark.parametrize("form", ["names", "head"])
def test_the_selector_says_of_a_text_what_the_batched_one_says(
    tiny_folder, tiny_tokenizer, weights, served, form, monkeypatch
):
    monkeypatch.setattr("shared.model.scoring.computes_bfloat16", lambda device: False)
    scorer = load_scorer(
        tiny_folder, weights.fetch(form), tiny_tokenizer, LABELS, max_tokens=MAX_PROMPT, dtype="float32"
    )
    expected = np.exp(scorer.score(TEXTS))
    reference = served(selector(llm=form))

    for row, text in zip(expected, TEXTS, strict=True):
        said = reference.select(text)
        assert (said.label, said.by) == (NAMES[int(row.argmax())], "llm")
        assert said.best.probability == pytest.approx(row.max(), abs=1e-4)


def test_a_cascade_asks_the_language_model_where_the_light_part_is_not_sure(weights, served):
    light = LightSelector.load(weights.fetch_light("light")).in_order(NAMES)
    sure = served(selector(light="light", llm="names", cascade_threshold=0.0)).select("cards 1")
    unsure = served(selector(light="light", llm="names", cascade_threshold=2.0)).select("cards 1")

    assert (sure.label, sure.by, unsure.by) == ("bank.cards", "light", "both")
    assert sure.best.probability == pytest.approx(float(np.exp(light.score(["cards 1"])).max()), abs=1e-5)


def test_each_answer_is_that_of_its_adapter_alone_whatever_came_before(tiny_folder, tiny_tokenizer, weights, served):
    reference = served(selector(llm="names"))
    entries = [*reference.release.labels.values(), None]

    expected = {
        entry: alone(
            tiny_folder,
            tiny_tokenizer,
            entry and weights.fetch(entry.adapter),
            adapter_prompt("plain", single_turn(entry.instruction, TEXTS[0]))
            if entry
            else adapter_prompt("chatml", single_turn(BASE_INSTRUCTION, TEXTS[0])),
        )
        for entry in entries
    }

    assert len(set(expected.values())) == len(entries)
    for entry in [*entries, *reversed(entries)]:
        reference.select(TEXTS[1])  # the selector is on the model between two answers
        assert reference.generate(entry, TEXTS[0], max_new_tokens=TOKENS) == expected[entry]


def test_an_answer_names_the_adapter_of_its_label(served):
    reference = served(selector(light="light"))

    answer = reference.answer("trips 2", max_new_tokens=3)

    assert answer.selection.label == "travel.trips"
    assert answer.entry == reference.release.labels["travel.trips"]
    assert answer.text == reference.generate(answer.entry, "trips 2", max_new_tokens=3)


def test_a_rejected_text_goes_where_the_release_says(served):
    strict = selector(light="light", threshold=1.0)

    by_base = served(strict, reject_policy="base")
    answer = by_base.answer("trips 2", max_new_tokens=3)
    refused = served(strict, reject_policy="error").answer("trips 2", max_new_tokens=3)

    assert (answer.selection.label, answer.entry) == ("", None)
    assert answer.text == by_base.generate(None, "trips 2", max_new_tokens=3)
    assert (refused.entry, refused.text) == (None, None)


def test_an_instruction_of_the_request_takes_the_place_of_the_adapters_own(served):
    reference = served()
    entry = reference.release.labels["bank.cards"]

    own = reference.generate(entry, "card", max_new_tokens=TOKENS)

    assert reference.generate(entry, "card", entry.instruction, max_new_tokens=TOKENS) == own
    assert reference.generate(entry, "card", "Say it in Spanish.", max_new_tokens=TOKENS) != own


def test_a_release_without_a_selector_says_what_to_do(served):
    with pytest.raises(Conflict, match="train a selector"):
        served().answer("card", max_new_tokens=3)


def test_more_new_tokens_than_the_context_holds_are_refused(served):
    reference = served()
    with pytest.raises(Invalid, match="holds 1024 tokens"):
        reference.generate(None, "card", max_new_tokens=2000)


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(600)
def test_the_real_model_is_read_as_by_the_batched_scorer_and_by_generate(
    real_folder, real_tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr("shared.model.scoring.computes_bfloat16", lambda device: False)
    for name, config in {"names": {"target_modules": ["q_proj"]}, "bank-cards": {"target_modules": ["v_proj"]}}.items():
        save_adapter(real_folder, tmp_path / name, config)
    reference = Reference(release(selector(llm="names")), Weights(tmp_path), real_folder, max_prompt_tokens=MAX_PROMPT)
    scorer = load_scorer(
        real_folder, tmp_path / "names", real_tokenizer, LABELS, max_tokens=MAX_PROMPT, dtype="float32"
    )
    expected = np.exp(scorer.score(TEXTS))
    entry = reference.release.labels["bank.cards"]
    model = with_adapter(load_model(real_folder, "float32"), tmp_path / "bank-cards")

    for row, text in zip(expected, TEXTS, strict=True):
        said = reference.select(text)
        assert (said.label, said.best.probability) == (NAMES[int(row.argmax())], pytest.approx(row.max(), abs=1e-4))
        answers = answer_rows(
            model, real_tokenizer, [InstructionRow(entry.instruction, text, "a b c d e f")], template="plain"
        )
        count = 1 + len(encode_text(real_tokenizer, "a b c d e f"))
        assert reference.generate(entry, text, max_new_tokens=count) == answers[0]
