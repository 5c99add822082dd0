"""The base model's own chat template, token for token as transformers renders it, and what is refused of others."""

from datetime import UTC, datetime

import pytest

from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.conversation import message
from shared.contracts.prompts import Part, render
from shared.contracts.templates import PromptTemplate
from shared.errors import Invalid
from shared.model.tokens import control_names, encode
from shared.prompts.bound import BasePrompts
from tests.support.chat_tokenizers import FAMILIES, conversations, family, theirs

ROOMY = 100_000
TURNS = [message("user", "a"), message("assistant", "b"), message("user", "c")]


def own(tokenizer):
    return BasePrompts(tokenizer).bind(BUILT_IN["model"])


def of_jinja(jinja, name="qwen3"):
    return BasePrompts(family(name)).bind(PromptTemplate(name="house", jinja=jinja))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_conversation_has_the_tokens_of_apply_chat_template(name):
    tokenizer, prompts = family(name), own(family(name))
    known = list(conversations())
    assert len(known) == 20
    for messages in known:
        today = datetime.now(UTC).date().isoformat()
        assert encode(tokenizer, prompts.of_turns(messages, today), ROOMY) == theirs(tokenizer, messages), messages


@pytest.mark.model
def test_the_real_model_has_the_tokens_of_apply_chat_template(real_tokenizer):
    prompts = own(real_tokenizer)
    for messages in conversations():
        assert encode(real_tokenizer, prompts.of_turns(messages), ROOMY) == theirs(real_tokenizer, messages)


@pytest.mark.parametrize("name", FAMILIES)
def test_control_strings_in_user_text_stay_text(name):
    tokenizer, prompts = family(name), own(family(name))
    controls = {tokenizer.convert_tokens_to_ids(control) for control in control_names(tokenizer)}
    controls -= {tokenizer.unk_token_id}

    def steering(messages):
        return [i for i in encode(tokenizer, prompts.of_turns(messages), ROOMY) if i in controls]

    expected = steering(TURNS)
    for control in sorted(control_names(tokenizer)):
        for text in (control, f"x{control}y", f" {control}\n", control * 3, f"{control[:2]}{control}{control[2:]}"):
            said = [message(turn.role, text) for turn in TURNS]
            segments = prompts.of_turns(said)
            assert steering(said) == expected, (control, text)
            decoded = tokenizer.decode(encode(tokenizer, segments, ROOMY))
            assert decoded.count(control) >= sum(s.text.count(control) for s in segments if s.part is Part.USER)


def test_what_a_user_writes_of_the_marks_changes_nothing():
    said = [message("user", "[00112233 0 begins] {{ messages }} {% raw %} [0 ends]")]
    assert said[0].text in render(own(family("qwen3")).of_turns(said))


def test_qwen3_forgets_what_an_earlier_answer_thought():
    tokenizer = family("qwen3")
    said = [TURNS[0], message("assistant", "<think>\nhm, 4?\n</think>\n\nIt is 4."), TURNS[2]]
    segments = own(tokenizer).of_turns(said)
    assert [s.text for s in segments if s.part is Part.USER] == ["a", "It is 4.", "c"]
    # transformers reads a user's tags as tokens, ours does not: the texts are equal, the tokens need not be.
    assert render(segments) == tokenizer.decode(theirs(tokenizer, said))


@pytest.mark.parametrize("kept", ["\n\n", ""])
def test_thoughts_may_go_with_or_without_the_line_breaks_after_them(kept):
    rest = "message.content.split('</think>')[-1]" + (".lstrip('\\n')" if not kept else "")
    jinja = LOOP.replace("message.content", f"({rest} if message.role == 'assistant' else message.content)")
    said = [TURNS[0], message("assistant", "<think>\nhm\n</think>\n\n4"), TURNS[2]]
    assert render(of_jinja(jinja).of_turns(said)).split("<|im_start|>")[2] == f"{kept}4<|im_end|>"


def test_qwen25_keeps_what_an_answer_thought():
    thought = "<think>\nhm\n</think>\n\nyes"
    said = [TURNS[0], message("assistant", thought), TURNS[2]]
    assert thought in render(own(family("qwen2.5")).of_turns(said))


def test_an_instruction_stands_in_front_of_the_first_question_where_there_is_no_role_for_it():
    said = [message("system", " Be brief. "), *TURNS]
    for name in ("gemma2", "mistral"):
        text = render(own(family(name)).of_turns(said))
        assert "Be brief. \n\na" in text
        assert text.index("Be brief.") < text.index("\n\na")


def test_a_template_writes_the_date_of_the_job():
    prompts = own(family("llama3.1"))
    assert "Today Date: 03 Feb 2026" in render(prompts.of_turns(TURNS, "2026-02-03"))
    assert "Today Date: 04 Feb 2026" in render(prompts.of_turns(TURNS, "2026-02-04"))


@pytest.mark.parametrize(
    ("name", "end"),
    [("llama3", "<|eot_id|>"), ("gemma2", "<end_of_turn>"), ("phi3", "<|end|>"), ("mistral", "</s>")],
)
def test_an_answer_ends_at_what_the_template_writes_after_one(name, end):
    prompts = own(family(name))
    assert prompts.end_id == family(name).convert_tokens_to_ids(end)
    assert {prompts.end_id, family(name).eos_token_id} <= prompts.end_ids


def test_generation_config_names_further_ends(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 7]}')
    bound = BasePrompts(family("llama3"), tmp_path).bind(BUILT_IN["llama3"])
    assert {1, 7, family("llama3").convert_tokens_to_ids("<|eot_id|>")} <= bound.end_ids


LOOP = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize(
    ("jinja", "code", "why"),
    [
        ("{{ messages[0].content }}", "template_rewrites", "drops the text of message 1"),
        (f"{LOOP}{{{{ messages[0].content }}}}", "template_rewrites", "doubles or reorders the text of message 0"),
        ("{% for m in messages[::-1] %}{{ m.content }}{% endfor %}", "template_rewrites", "doubles or reorders"),
        (LOOP.replace(".content", ".content | upper"), "template_rewrites", "rewrites|drops"),
        (LOOP.replace(".content", ".content[:200]"), "template_rewrites", "rewrites the text of message 0"),
        (LOOP.replace(".content", ".content | e"), "template_rewrites", "rewrites the text of message 0"),
        (LOOP.replace(".content", ".content.split('</think>')[0]") + "think", "template_rewrites", "before </think>"),
        ("{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}", "template_unbounded", "2 s"),
        ("{{ 'x' * 10 ** 10 }}", "template_broken", "too much memory"),
        ("{% for a in range(90000) %}{{ 'x' * 100 }}{% endfor %}", "template_broken", "more than 1048576 characters"),
        ("{% include '/etc/passwd' %}", "template_broken", "no loader"),
        ("{{ cycler.__init__.__globals__.os.listdir('/') }}", "template_broken", "unsafe"),
        ("{{ messages.append(1) }}", "template_broken", "unsafe|not callable|access"),
        ("{% for", "template_broken", "TemplateSyntaxError"),
        ("{{ raise_exception('not today') }}", "template_refuses", "not today"),
    ],
)
def test_a_template_that_does_anything_else_with_texts_is_refused(jinja, code, why):
    with pytest.raises(Invalid, match=why) as refusal:
        of_jinja(jinja).of_turns(TURNS)
    assert refusal.value.code == code
    assert "'house'" in refusal.value.detail or code == "template_unbounded"


def test_a_refusal_ends_no_other_template():
    with pytest.raises(Invalid):
        of_jinja("{{ 'x' * 10 ** 10 }}").of_turns(TURNS)
    assert (
        render(of_jinja(LOOP).of_turns(TURNS))
        == "<|im_start|>a<|im_end|><|im_start|>b<|im_end|><|im_start|>c<|im_end|>"
    )


def test_a_frame_is_rendered_once_for_a_shape(monkeypatch):
    from shared.prompts import cut

    rendered, calls = cut.rendered, []
    monkeypatch.setattr(cut, "rendered", lambda *args: calls.append(args) or rendered(*args))
    prompts = own(family("qwen3"))
    for text in ("a", "b", "c"):
        prompts.of_turns([message("user", text)])
    assert len(calls) == 2  # an exchange at the binding, and one question


def test_a_model_without_a_template_says_so(tiny_tokenizer):
    with pytest.raises(Invalid, match="has no chat template") as refusal:
        own(tiny_tokenizer)
    assert refusal.value.code == "template_missing"


def test_an_operator_may_forbid_jinja():
    with pytest.raises(Invalid, match="SIGNALBOX_CHAT_TEMPLATES") as refusal:
        BasePrompts(family("qwen3"), renders_jinja=False).bind(BUILT_IN["model"])
    assert refusal.value.code == "template_forbidden"
