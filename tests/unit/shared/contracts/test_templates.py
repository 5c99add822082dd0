import pytest
from pydantic import ValidationError

from shared.contracts.built_in_templates import BUILT_IN, adapter_prompt
from shared.contracts.conversation import message, single_turn
from shared.contracts.prompts import Part, render
from shared.contracts.templates import PromptTemplate, Turn, check_controls, control_strings
from shared.errors import Invalid

TURNS = [message("system", "Be brief."), message("user", "a"), message("assistant", "b"), message("user", "c")]
GOLDEN = {
    "alpaca": (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nBe brief.\n\n### Input:\na"
        "\n\n### Response:\nb\n\n### Instruction:\nc\n\n### Response:\n"
    ),
    "llama3": (
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "gemma": (
        "<start_of_turn>user\nBe brief.\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n"
        "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n"
    ),
    "mistral": "[INST] Be brief.\n\na [/INST] b[INST] c [/INST]",
    "zephyr": "<|system|>\nBe brief.\n<|user|>\na\n<|assistant|>\nb\n<|user|>\nc\n<|assistant|>\n",
    "phi": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\na<|end|>\n<|assistant|>\nb<|end|>\n<|user|>\nc<|end|>\n<|assistant|>\n"
    ),
}
"""Without the tokenizer's own tokens, which stand where each vocabulary has them."""


@pytest.mark.parametrize(("name", "text"), GOLDEN.items())
def test_a_template_frames_each_turn(name, text):
    assert render(adapter_prompt(name, TURNS)) == text


@pytest.mark.parametrize("name", GOLDEN)
def test_an_empty_instruction_is_none(name):
    assert adapter_prompt(name, single_turn("  ", "a"))[-3:] == adapter_prompt(name, [message("user", "a")])[-3:]
    assert "system" not in render(adapter_prompt(name, single_turn("", "a")))


@pytest.mark.parametrize("name", GOLDEN)
def test_texts_are_the_users_and_the_last_one_of_the_user_may_be_shortened(name):
    segments = adapter_prompt(name, TURNS)
    assert [s.text for s in segments if s.part is Part.USER] == ["Be brief.", "a", "b", "c"]
    assert [s.text for s in segments if s.is_input] == ["c"]
    assert all(s.is_joined for s in segments)


def test_the_answers_before_end_with_the_tokenizers_own_token():
    assert [s.part for s in adapter_prompt("mistral", TURNS)].count(Part.END) == 1
    assert [s.part for s in adapter_prompt("zephyr", TURNS)].count(Part.END) == 4
    assert adapter_prompt("llama3", TURNS)[0].part is Part.START


DIGESTS = {
    "chatml": "4d6519cee349",
    "plain": "11851109c66c",
    "alpaca": "9b382401ab3a",
    "llama3": "2f20a4e589e7",
    "gemma": "cf214a00ab94",
    "mistral": "80c44f3012cb",
    "zephyr": "687c2af58e4d",
    "phi": "986964fdc9dd",
    "model": "44136fa355b3",
}


def test_a_digest_is_of_what_a_template_does():
    """A stored name goes on meaning what it meant."""
    assert {name: template.digest[:12] for name, template in BUILT_IN.items()} == DIGESTS


def test_a_template_has_one_form():
    with pytest.raises(ValidationError, match="either `jinja` or frames of turns"):
        PromptTemplate(name="house", jinja="{{ messages }}", user=Turn(before="<"))


def test_what_looks_like_a_control_token_is_found():
    text = "{{ '<|eot_id|>' }}<start_of_turn>x<end_of_turn><|eot_id|><b>"
    assert control_strings(text) == ["<|eot_id|>", "<start_of_turn>", "<end_of_turn>"]


def test_every_token_that_a_vocabulary_lacks_is_named():
    check_controls(BUILT_IN["phi"], ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], "base x")
    stopping = PromptTemplate(name="house", end="<|a|>", stops=("<|b|>",), controls=("<|c|>",))
    with pytest.raises(
        Invalid, match=r"'house' writes <\|c\|>, <\|b\|>, <\|a\|>, which the vocabulary of base x lacks"
    ):
        check_controls(stopping, ["<|d|>"], "base x")
