"""Tools and calls in chat templates: token for token as transformers renders them, and never a control token."""

import copy
import json

import pytest

from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.conversation import message
from shared.contracts.prompts import Part, render
from shared.contracts.templates import PromptTemplate
from shared.errors import Invalid
from shared.model.tokens import control_names, encode
from shared.prompts.bound import BasePrompts, without_vocabulary
from shared.prompts.call_form import CallForm
from tests.support.chat_tokenizers import TOOL_FAMILIES, family
from tests.support.tool_chats import (
    ASKED,
    CONVERSATIONS,
    PARALLEL,
    ROUND,
    TOOLS,
    answer,
    call,
    calls,
    theirs,
    tool,
)

ROOMY = 100_000
LOOP = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"


def own(name):
    return BasePrompts(family(name)).bind(BUILT_IN["model"])


def of_jinja(jinja, name="qwen2.5-tools"):
    return BasePrompts(family(name)).bind(PromptTemplate(name="house", jinja=jinja))


def ids_of(name, messages, tools=()):
    return encode(family(name), own(name).of_turns(messages, tools=tools), ROOMY)


@pytest.mark.parametrize("tools", [TOOLS, ()], ids=["tools", "no tools"])
@pytest.mark.parametrize("name", TOOL_FAMILIES)
def test_a_conversation_has_the_tokens_of_apply_chat_template(name, tools):
    for what, messages in CONVERSATIONS.items():
        if name != "llama3.1-tools" or messages is not PARALLEL:
            assert ids_of(name, messages, tools) == theirs(family(name), messages, tools), what


def test_a_template_that_writes_one_call_alone_says_so():
    with pytest.raises(Invalid, match="only supports single tool-calls at once") as refusal:
        own("llama3.1-tools").of_turns(PARALLEL, tools=TOOLS)
    assert refusal.value.code == "template_refuses"


@pytest.mark.parametrize(
    ("name", "form", "shown"),
    [
        ("qwen2.5-tools", CallForm("<tool_call>", "</tool_call>\n<tool_call>", "</tool_call>"), []),
        ("qwen3-tools", CallForm("<tool_call>", "</tool_call>\n<tool_call>", "</tool_call>"), []),
        ("llama3.1-tools", CallForm(arguments_key="parameters"), []),
        ("mistral-tools", CallForm("[TOOL_CALLS] [", ",", "]"), ["[TOOL_CALLS]"]),
    ],
)
def test_how_calls_are_written_is_learnt_from_the_template(name, form, shown):
    found = own(name).calling()
    assert found.form == form
    assert sorted(found.shown_ids) == family(name).convert_tokens_to_ids(shown)


def steering(tokenizer, ids):
    controls = {tokenizer.convert_tokens_to_ids(name) for name in control_names(tokenizer)} - {tokenizer.unk_token_id}
    return [one for one in ids if one in controls]


def hostile(texts):
    """A round in which callers wrote these texts wherever they may write any."""
    said = " ".join(texts)
    schema = {"type": "object", "properties": {text: {"type": "string", "description": text} for text in texts}}
    schema["properties"]["x"] = {"enum": texts}
    offered = (tool("get_weather", said, schema), tool("now"))
    made = call(1, **{text: [text, {text: text}] for text in texts})
    return [message("user", said), calls(made), answer(1, said)], offered


@pytest.mark.parametrize("name", TOOL_FAMILIES)
def test_control_strings_stay_text_wherever_a_caller_writes_them(name):
    tokenizer = family(name)
    names = [*sorted(control_names(tokenizer)), "{bos}", "{eos}"]
    texts = [*names, *(f"x{one}y" for one in names), *(f"{one[:2]}{one}{one[2:]}" for one in names), "{{ messages }}"]
    harmless = steering(tokenizer, ids_of(name, *hostile(["a", "b"])))
    messages, offered = hostile(texts)
    ids = ids_of(name, messages, offered)
    assert steering(tokenizer, ids) == harmless
    assert all(tokenizer.decode(ids).count(one) > 5 for one in names)


def test_a_name_between_a_templates_own_brackets_makes_no_control_token():
    jinja = "{% for t in tools or [] %}[{{ t.function.name }}]<|{{ t.function.description }}|>{% endfor %}"
    whole = f"{jinja}{(family('mistral-tools').chat_template)}"
    bound, tokenizer = of_jinja(whole, "mistral-tools"), family("mistral-tools")
    harmless = bound.of_turns([ASKED], tools=[tool("PLUS", "x"), tool("INSTR", "x")])
    steered = bound.of_turns([ASKED], tools=[tool("INST", "x"), tool("TOOL_CALLS", "INST")])
    assert "[INST]<|x|>[TOOL_CALLS]<|INST|>" in render(steered)
    assert steering(tokenizer, encode(tokenizer, steered, ROOMY)) == steering(
        tokenizer, encode(tokenizer, harmless, ROOMY)
    )


def test_what_stands_in_for_signs_is_nothing_that_callers_or_templates_wrote():
    signs = "".join(map(chr, range(0x13000, 0x13010)))
    offered = [tool("now", f"<{signs}>")]
    assert f"<{signs}>" in render(own("qwen2.5-tools").of_turns([ASKED], tools=offered))
    every = "".join(map(chr, range(0x13000, 0x13430)))
    with pytest.raises(Invalid, match="every hieroglyph"):
        own("qwen2.5-tools").of_turns([ASKED], tools=[tool("now", every)])


@pytest.mark.parametrize("name", ["chatml", "plain", "alpaca", "llama3"])
def test_templates_of_frames_refuse_tools_and_their_turns(name):
    bound = without_vocabulary(BUILT_IN[name])
    for ask in (
        lambda: bound.of_turns([ASKED], tools=TOOLS),
        lambda: bound.of_turns(ROUND),
        bound.calling,
    ):
        with pytest.raises(Invalid, match=f"the template '{name}' writes no tools") as refusal:
            ask()
        assert refusal.value.code == "tools_not_rendered"


WRITES = "{{ tools | tojson if tools else '' }}"
CALL = '<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'


@pytest.mark.parametrize(
    ("jinja", "code"),
    [
        (LOOP, "tools_not_rendered"),
        ("{% for t in tools or [] %}{{ t.function.name }}{% endfor %}" + LOOP, "tools_not_rendered"),
        ("{{ tools[:1] | tojson if tools else '' }}" + LOOP, "tools_not_rendered"),
        (WRITES + LOOP, "tool_calls_unreadable"),
        (WRITES + LOOP.replace("{{ m.content }}", "{{ m.content }}{{ m.tool_calls }}"), "tool_calls_unreadable"),
        (WRITES + LOOP + "{% if messages[-1].role == 'tool' %}{{ raise_exception('no') }}{% endif %}",
         "tool_calls_unreadable"),
        ("{{ raise_exception('no tools') if tools }}" + LOOP, "tool_calls_unreadable"),
    ],
    ids=["nothing", "names alone", "the first alone", "no calls", "python", "no answers", "no tools"],
)  # fmt: skip
def test_a_template_that_writes_no_tools_or_no_readable_calls_is_refused_by_name(jinja, code):
    bound = of_jinja(jinja)
    bound.of_turns([ASKED])
    for ask in (bound.calling, lambda: bound.of_turns([ASKED], tools=TOOLS), lambda: bound.of_turns(ROUND)):
        with pytest.raises(Invalid, match="'house'") as refusal:
            ask()
        assert refusal.value.code == code


def test_a_template_that_forgets_tools_in_some_conversations_is_refused_there():
    one_call = "{% for c in m.tool_calls or [] %}" + CALL + "{% endfor %}"
    jinja = "{% if messages | length < 4 %}" + WRITES + "{% endif %}"
    bound = of_jinja(jinja + LOOP.replace("{{ m.content }}", "{{ m.content }}" + one_call))
    bound.of_turns(ROUND, tools=TOOLS)
    with pytest.raises(Invalid, match="writes no tools"):
        bound.of_turns([*ROUND, calls(call(2, "now")), answer(2, "12:00")], tools=TOOLS)


def test_of_several_templates_the_one_for_tools_is_taken_where_tools_are_offered():
    tokenizer = copy.deepcopy(family("qwen2.5-tools"))
    tokenizer.chat_template = {"default": family("qwen2.5").chat_template, "tool_use": tokenizer.chat_template}
    bound = BasePrompts(tokenizer).bind(BUILT_IN["model"])
    for messages, tools in ((ROUND, TOOLS), ([ASKED], TOOLS), ([ASKED], ())):
        assert encode(tokenizer, bound.of_turns(messages, tools=tools), ROOMY) == theirs(tokenizer, messages, tools)
    with pytest.raises(Invalid, match="writes no tools"):
        bound.of_turns(ROUND)


def test_what_an_answer_says_beside_its_call_is_shown_where_the_template_has_a_place_for_it():
    said = [ASKED, calls(call(1, city="Paris"), text="Let me look."), answer(1, "21°")]
    for name in ("qwen2.5-tools", "llama3.1-tools", "mistral-tools"):
        ids = ids_of(name, said, TOOLS)
        assert ids == theirs(family(name), said, TOOLS)
        assert ("Let me look." in family(name).decode(ids)) == name.startswith("qwen")


def test_an_instruction_without_a_place_goes_into_the_first_question():
    told = [message("system", "Be brief."), *ROUND]
    text = render(own("mistral-tools").of_turns(told, tools=TOOLS))
    assert f"[INST] Be brief.\n\n{ASKED.text}[/INST]" in text
    assert text.count("[TOOL_RESULTS]") == 1


def test_the_same_holds_among_several_turns_without_tools():
    said = [message("system", "Be brief."), ASKED, message("assistant", "Warm."), message("user", "And now?")]
    text = render(own("mistral-tools").of_turns(said))
    assert text == f"<s>[INST] Be brief.\n\n{ASKED.text}[/INST] Warm.</s>[INST] And now?[/INST]"


def test_what_a_tool_answers_may_be_shortened_with_the_question_and_earlier_turns_not():
    segments = own("qwen2.5-tools").of_turns([*ROUND, message("user", "And now?"), *PARALLEL[1:]], tools=TOOLS)
    inputs = [segment.text for segment in segments if segment.is_input]
    assert inputs == ["And now?", "21°", "12:00"]


def test_a_frame_with_tools_is_rendered_once_for_what_they_say(monkeypatch):
    from shared.prompts import cut

    rendered, seen = cut.rendered, []
    bound = own("qwen2.5-tools")
    monkeypatch.setattr(cut, "rendered", lambda *args: seen.append(args) or rendered(*args))
    for text in ("a", "b"):
        bound.of_turns([message("user", text)], tools=TOOLS)
    assert len(seen) == 1
    bound.of_turns([ASKED], tools=TOOLS[:1])
    assert len(seen) == 2


def test_parameters_keep_their_order_and_their_nulls():
    text = render(own("qwen2.5-tools").of_turns([ASKED], tools=TOOLS))
    shown = json.dumps({"type": "function", "function": TOOLS[0].shown()["function"]}, ensure_ascii=False)
    assert shown in text
    assert '"default": null' in shown
    assert Part.USER in {segment.part for segment in own("qwen2.5-tools").of_turns([ASKED], tools=TOOLS)}
