"""Which template is usual on a base model, and what is told of its own."""

import pytest

from shared.contracts.built_in_templates import BUILT_IN
from shared.prompts.bound import BasePrompts
from shared.prompts.findings import template_findings
from tests.support.chat_tokenizers import family
from tests.support.tiny_model import _tokenizer


def told(name):
    return template_findings(BasePrompts(family(name)), family(name))[0].says


@pytest.mark.parametrize(
    ("name", "usual", "without_jinja"),
    [
        ("qwen2.5", "chatml", "chatml"),
        ("smollm3", "chatml", "chatml"),
        ("llama3", "model", "llama3"),
        ("gemma3", "model", "gemma"),
        ("phi3", "model", "phi"),
        ("mistral", "model", "plain"),
        ("olmo2", "model", "plain"),
    ],
)
def test_the_usual_template_is_one_that_the_vocabulary_has(name, usual, without_jinja):
    for renders_jinja, expected in ((True, usual), (False, without_jinja)):
        prompts = BasePrompts(family(name), renders_jinja=renders_jinja)
        assert prompts.usual == expected
        prompts.bind(BUILT_IN[expected])


def test_a_base_without_a_chat_template_or_with_one_that_is_none_gets_another():
    tokenizer = family("llama3").__class__(tokenizer_object=family("llama3").backend_tokenizer, eos_token="<|eot_id|>")
    assert BasePrompts(tokenizer).usual == "llama3"
    tokenizer.chat_template = "{{ messages[0].content[:3] }}"
    assert BasePrompts(tokenizer).usual == "llama3"
    assert "cannot be used" in template_findings(BasePrompts(tokenizer), tokenizer)[0].says


def test_a_base_model_without_a_chat_template_is_told():
    tokenizer = _tokenizer()
    own, usual = template_findings(BasePrompts(tokenizer), tokenizer)
    assert own.says.startswith("none")
    assert usual.says.startswith("chatml")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("llama3", ("the same as llama3;", "it has a role for the instruction;", "ends at <|eot_id|>")),
        ("gemma2", ("the same as gemma;", "goes in front of the first question", "ends at <end_of_turn>")),
        ("qwen2.5", ("none of the built-in ones", "writes one of its own", "ends at <|im_end|>")),
    ],
)
def test_its_own_template_is_told_by_what_it_does(name, says):
    found = told(name)
    assert all(part in found for part in says), found


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("qwen2.5", "it writes no tools"),
        ("qwen2.5-tools", "it writes tools, and calls of them behind <tool_call>"),
        ("mistral-tools", "it writes tools, and calls of them behind [TOOL_CALLS] ["),
        ("llama3.1-tools", "it writes tools, and calls of them as JSON alone"),
    ],
)
def test_whether_it_writes_tools_is_told(name, says):
    assert told(name).endswith(says)
