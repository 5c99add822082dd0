import pytest

from shared.contracts.labels import Label
from shared.contracts.prompts import Part, adapter_prompt, render, selector_answer, selector_prompt
from shared.errors import Invalid

LABELS = [Label("fin", "sa"), Label("legal", "mc"), Label("fin", "ha")]


def test_the_adapter_prompt_is_the_papers_chatml():
    prompt = render(adapter_prompt("chatml", "Name the mood.", "Shares fell."))

    assert prompt == (
        "<|im_start|>system\nName the mood.<|im_end|>\n"
        "<|im_start|>user\nShares fell.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_selector_prompt_and_its_answer_are_the_papers():
    prompt = render(selector_prompt("Shares fell.", LABELS)) + selector_answer(LABELS[0])

    assert prompt == (
        "Determine which of the following datapoint is in which domain, what is the task.\n"
        "input:Shares fell.\n"
        "Select from below list:\n"
        "Domains:fin, legal\n"
        "Tasks:ha, mc, sa\n"
        "Results:\n"
        "Domain:fin\n"
        "Task:sa"
    )


def test_the_plain_prompt_has_no_control_tokens():
    assert render(adapter_prompt("plain", "Name the mood.", "Shares fell.")) == "Name the mood.\n\nShares fell.\n\n"


def test_the_selector_prompt_does_not_depend_on_the_order_of_labels():
    assert selector_prompt("a", LABELS) == selector_prompt("a", LABELS[::-1])


@pytest.mark.parametrize("template", ["chatml", "plain"])
def test_what_users_write_is_marked_as_theirs(template):
    segments = adapter_prompt(template, "instruction", "text")

    assert [segment.text for segment in segments if segment.part is Part.USER] == ["instruction", "text"]
    assert [segment.text for segment in segments if segment.is_input] == ["text"]


def test_only_the_input_of_a_selector_prompt_is_the_users():
    segments = selector_prompt("text", LABELS)

    assert [segment.text for segment in segments if segment.part is Part.USER or segment.is_input] == ["text"]


def test_an_unknown_template_is_refused_by_name():
    with pytest.raises(Invalid, match="no prompt template 'alpaca'; known: chatml, plain"):
        adapter_prompt("alpaca", "a", "b")
