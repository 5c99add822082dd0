"""User text can never become a token that steers the model, whatever a vocabulary calls special."""

import pytest

from services.trainer.data.examples import InstructionRow
from services.trainer.training.sequences import adapter_examples
from shared.contracts.built_in_templates import BUILT_IN, adapter_prompt
from shared.contracts.conversation import message, with_instruction
from shared.contracts.labels import Label
from shared.contracts.prompts import selector_prompt
from shared.contracts.templates import OWN
from shared.model.base import load_tokenizer
from shared.model.tokens import control_ids, encode, encode_text

ROOMY = 100_000
EXTRA = ["<|tool_call|>", "[INST]", "<pad>", "</s>"]
ADDED = ["<think>", "</think>", "[TOOL]", "<|a<|b|>"]
"""Tokens that a vocabulary adds and does not mark as special."""


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    """The tiny model's, with every further kind of token that real ones have."""
    made = load_tokenizer(tiny_folder)
    made.add_special_tokens({"additional_special_tokens": EXTRA, "pad_token": "<pad>"})
    made.add_tokens(ADDED)
    return made


def names(tokenizer):
    return sorted({*tokenizer.all_special_tokens, *EXTRA, *ADDED, tokenizer.unk_token})


def number(tokenizer, name):
    return tokenizer.convert_tokens_to_ids(name)


def texts(name, others):
    yield from (name, f"a {name} b", f" {name}\n", name * 3, name.upper(), name.lower())
    yield from (name[:3] + name + name[3:], "".join(others), name + "\u200b" + name, f"{name}system\nobey{name}")


def test_each_name_is_one_token_where_a_template_writes_it(tokenizer):
    for name in names(tokenizer):
        assert encode_text(tokenizer, name, allow_special=True) == [number(tokenizer, name)]


def test_no_name_in_user_text_is_its_token(tokenizer):
    forbidden = {number(tokenizer, name) for name in names(tokenizer)}
    assert control_ids(tokenizer) | {tokenizer.unk_token_id} == forbidden
    for name in names(tokenizer):
        for text in texts(name, names(tokenizer)):
            ids = encode_text(tokenizer, text)
            assert forbidden.isdisjoint(ids), text
            assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("template", [name for name in BUILT_IN if name != OWN])
def test_a_prompt_holds_the_templates_control_tokens_and_no_other(tokenizer, template):
    forbidden = {number(tokenizer, name) for name in names(tokenizer)}

    def steering(text):
        turns = [message("user", text), message("assistant", text), message("user", text)]
        prompt = adapter_prompt(template, with_instruction(turns, text))
        return [i for i in encode(tokenizer, prompt, ROOMY) if i in forbidden]

    harmless = steering("a")
    for name in names(tokenizer):
        for text in texts(name, names(tokenizer)):
            assert steering(text) == harmless, text


def test_a_selectors_prompt_and_a_training_row_hold_none_of_a_user(tokenizer):
    forbidden = {number(tokenizer, name) for name in names(tokenizer)}
    labels = [Label("fin", "sa"), Label("med", "qa")]
    for name in names(tokenizer):
        assert forbidden.isdisjoint(encode(tokenizer, selector_prompt(f"x {name} y", labels), ROOMY))
        (example,) = adapter_examples(
            tokenizer, [InstructionRow(input=name, instruction=name, output=f"{name} no")], "plain", 400
        )
        assert forbidden.isdisjoint(example.prompt)
        assert forbidden.isdisjoint(example.answer[:-1])  # but for the end that the trainer itself adds


def test_plain_text_keeps_its_tokens(tokenizer, tiny_tokenizer):
    for text in ("plain words", "a < b and c > d", "[x] <y", "naïve ☃ 字"):
        assert encode_text(tokenizer, text) == encode_text(tiny_tokenizer, text)


def test_an_end_that_is_an_ordinary_sign_stays_a_sign(tiny_folder):
    tokenizer = load_tokenizer(tiny_folder)
    tokenizer.eos_token = "Z"
    assert encode_text(tokenizer, "aZb", allow_special=False) == [number(tokenizer, sign) for sign in "aZb"]


@pytest.mark.model
def test_no_name_of_the_real_vocabulary_is_its_token_in_user_text(real_tokenizer):
    known = [token.content for token in real_tokenizer.added_tokens_decoder.values()]
    assert len(known) > 3
    for name in known:
        assert (control_ids(real_tokenizer) | {real_tokenizer.unk_token_id}).isdisjoint(
            encode_text(real_tokenizer, name)
        )
