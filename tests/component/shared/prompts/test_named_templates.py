"""The templates with names: their texts, their tokens, and what they need of a vocabulary."""

import hashlib
import json

import pytest

from shared.contracts.built_in_templates import BUILT_IN, adapter_prompt
from shared.contracts.conversation import message, single_turn, with_instruction
from shared.contracts.prompts import CHATML_END, render
from shared.errors import Invalid
from shared.model.tokens import bos_ids, encode
from shared.prompts.bound import BasePrompts, built_in
from tests.support.chat_tokenizers import conversations, family, theirs

ROOMY = 100_000
SAME = {"llama3": "llama3", "gemma": "gemma2", "mistral": "mistral", "phi": "phi3"}
"""Named templates, and the family whose own template they are."""


@pytest.mark.parametrize(("name", "base"), SAME.items())
def test_a_familys_template_has_the_tokens_of_its_models(name, base):
    tokenizer, bound = family(base), built_in(family(base), name)
    for messages in conversations():
        start = [] if base != "phi3" else bos_ids(tokenizer)  # Phi-3's own template leaves the start token out
        assert encode(tokenizer, bound.of_turns(messages), ROOMY) == start + theirs(tokenizer, messages), messages


def test_zephyrs_template_has_the_texts_of_its_models():
    tokenizer, bound = family("zephyr"), built_in(family("zephyr"), "zephyr")
    for messages in conversations():
        ours = encode(tokenizer, bound.of_turns(messages), ROOMY)
        # Trained prompts go on with a line break, which their template's generation prompt leaves to the model.
        assert ours[1:] == [*theirs(tokenizer, messages)[: len(ours) - 2], ours[-1]]
        assert tokenizer.decode(ours[-1:]) == "\n"


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("llama3", "<|start_header_id|>, <|end_header_id|>, <|eot_id|>"),
        ("gemma", "<start_of_turn>"),
        ("phi", "<|end|>"),
    ],
)
def test_a_template_whose_control_tokens_a_vocabulary_lacks_is_refused_by_name(tiny_tokenizer, name, missing):
    with pytest.raises(Invalid) as refusal:
        built_in(tiny_tokenizer, name)
    assert refusal.value.code == "template_tokens_missing"
    assert f"template '{name}'" in refusal.value.detail
    assert missing in refusal.value.detail


def test_chatml_is_served_on_a_vocabulary_without_its_tokens_as_it_was():
    tokenizer = family("mistral")
    assert built_in(tokenizer, "chatml").end_id == tokenizer.eos_token_id


def test_an_unknown_name_is_refused(tiny_tokenizer):
    with pytest.raises(Invalid, match="no prompt template 'vicuna'; take one of chatml, plain, alpaca"):
        built_in(tiny_tokenizer, "vicuna")


@pytest.mark.parametrize("limit", [60, 61, 75])
def test_a_long_input_loses_its_middle_and_nothing_else(limit):
    tokenizer, bound = family("qwen3"), built_in(family("qwen3"), "alpaca")
    whole = encode(tokenizer, bound.of_turns(single_turn("Sum up.", "begin " + "x, " * 400 + "end")), ROOMY)
    fixed = len(encode(tokenizer, bound.of_turns(single_turn("Sum up.", "begin")), ROOMY))
    ids = encode(tokenizer, bound.of_turns(single_turn("Sum up.", "begin " + "x, " * 400 + "end")), fixed + limit)
    assert len(ids) == fixed + limit < len(whole)
    text = tokenizer.decode(ids)
    assert text.startswith("Below is an instruction")
    assert text.endswith("x, end\n\n### Response:\n")
    assert "\n\n### Input:\nbegin x, x" in text


def test_an_instruction_that_leaves_no_room_is_refused():
    tokenizer, bound = family("qwen3"), built_in(family("qwen3"), "alpaca")
    with pytest.raises(Invalid, match="the prompt without its input already fills") as refusal:
        encode(tokenizer, bound.of_turns(single_turn("long " * 100, "hi")), 100)
    assert refusal.value.code == "prompt_too_long"


FIRST = "1e724b2b7754128a4e0b8b1adda932a619b8b3d3c3c6b91a266682accdc339e4"
"""Of the ids below, as they were before templates were data."""


def test_the_first_templates_keep_their_tokens_exactly(tiny_tokenizer):
    said = [("You are a terse assistant.", "Hello!", "Hi <|im_end|>", "Sum 12 and 30, please.")]
    said.append(("", " x\n", "", "\n\ny <|im_start|>system"))
    found = []
    for name in ("chatml", "plain"):
        for system, first, answer, last in said:
            turns = [message("user", first), message("assistant", answer), message("user", last)]
            told, asked = with_instruction(turns, system), with_instruction(turns[:1], system)
            for messages in (turns, told, asked, single_turn(system, last)):
                whole = encode(tiny_tokenizer, adapter_prompt(name, messages), ROOMY)
                cut = encode(tiny_tokenizer, adapter_prompt(name, messages), max(30, len(whole) - 2))
                found += [whole, cut]
    assert hashlib.sha256(json.dumps(found).encode()).hexdigest() == FIRST
    brief = encode(tiny_tokenizer, adapter_prompt("plain", single_turn("Be brief.", " hi\n")), ROOMY)
    assert brief == [36, 71, 223, 68, 84, 75, 71, 72, 16, 201, 201, 223, 74, 75, 201, 201, 201]


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "model"])
def test_a_template_is_named_by_its_digest(name):
    digests = {template.digest for template in BUILT_IN.values()}
    assert len(digests) == len(BUILT_IN)
    assert BUILT_IN[name].model_copy(update={"name": "other"}).digest == BUILT_IN[name].digest


def test_a_prompt_of_several_turns_in_alpacas_form():
    said = [message("user", "a"), message("assistant", "b"), message("user", "c")]
    bound = BasePrompts(family("qwen3")).bind(BUILT_IN["alpaca"])
    assert render(bound.of_turns(said)) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\na\n\n### Response:\nb\n\n### Instruction:\nc\n\n### Response:\n"
    )
    assert encode(family("qwen3"), bound.of_turns(said), ROOMY).count(family("qwen3").eos_token_id) == 1
    assert CHATML_END not in render(bound.of_turns(said))
