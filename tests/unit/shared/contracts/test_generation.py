"""What generation and selection jobs ask for and are answered, in the forms of today and of before."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.conversation import Message, message, single_turn, with_instruction
from shared.contracts.generation import (
    Choice,
    GenerationBody,
    GenerationResult,
    LabelProbability,
    SelectBody,
    SelectionResult,
    Usage,
    generation_body,
    generation_result,
    select_body,
    selection_of,
)
from shared.contracts.generation_params import GenerationParams
from shared.contracts.logprobs import TokenLogprobs, TopToken
from shared.errors import Invalid
from tests.support.old_jobs import OLD_BODY, OLD_RESULT, OLD_SELECTION, job_of


def test_a_body_of_before_is_one_system_and_one_user_message():
    assert generation_body(job_of()) == GenerationBody(
        messages=(message("system", "Answer briefly."), message("user", "my card was declined")),
        label="bank.cards",
        params=GenerationParams(max_new_tokens=8, temperature=0.5, seed=7, stop=("\n",), logprobs=True),
        priority="batch",
        deadline_seconds=30,
        metadata={"who": "me"},
    )


@pytest.mark.parametrize("body", ['{"input":"x"}', '{"input":"x","instruction":"","label":null,"params":null}'])
def test_what_a_body_of_before_leaves_out_has_its_default(body):
    assert generation_body(job_of(body=body)) == GenerationBody(messages=(message("user", "x"),))
    assert generation_body(job_of(body=body)).params == GenerationParams(
        version=1, max_new_tokens=64, temperature=0, top_p=1, top_k=0, seed=None, stop=(), logprobs=False,
        n=1, top_logprobs=0, presence_penalty=0, frequency_penalty=0, logit_bias={},
    )  # fmt: skip


def test_the_selector_reads_the_input_and_the_instruction_of_a_body_of_before():
    for body, texts in ((OLD_BODY, ("Answer briefly.", "my card was declined")), ('{"input":"x"}', ("", "x"))):
        asked = select_body(job_of(body=body))
        assert (asked.system_text, asked.last_user_text) == texts


def test_the_selector_reads_the_last_user_turn_of_a_conversation():
    body = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "yes?"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "my card"}, {"type": "text", "text": "was declined"}],
            },
        ]
    }
    asked = select_body(job_of(body=json.dumps(body)))
    assert (asked.system_text, asked.last_user_text) == ("Be brief.", "my card\nwas declined")


def test_a_selection_of_before_keeps_every_field():
    added = {"ambiguous": False, "choices": []}
    assert selection_of(job_of(selection=OLD_SELECTION)).model_dump(mode="json") == json.loads(OLD_SELECTION) | added
    assert selection_of(job_of()) is None


def test_a_selection_whose_writer_knew_fewer_fields_is_read():
    fields = '{"label":null,"probability":0.4,"runners_up":[],"rejected":true}'
    assert selection_of(job_of(selection=fields)) == SelectionResult(probability=0.4, rejected=True)


def test_a_flat_result_of_before_is_one_choice():
    assert generation_result(job_of(result=OLD_RESULT)) == GenerationResult(
        choices=(
            Choice(
                text="Call us.",
                finish_reason="length",
                logprobs=TokenLogprobs(token_ids=(1, 2, 3), logprobs=(-0.1, 0.0, -2.5)),
            ),
        ),
        usage=Usage(prompt_tokens=31, completion_tokens=3),
        label="bank.cards",
        adapter="d2",
        adapter_ref="bank.cards@1",
        release="rel_1",
        selector="d1",
        base_model="tiny",
        prompt_shortened=True,
        first_token_ms=12.5,
        generate_ms=40.25,
    )
    assert generation_result(job_of()) is None


def test_a_flat_result_without_log_probabilities_has_none():
    assert generation_result(job_of(result='{"text":"x"}')).choices == (Choice(text="x"),)


def test_fields_that_a_newer_version_writes_are_ignored_and_those_of_params_kept():
    newer = json.dumps(
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache": True}], "name": "me"}],
            "params": {"version": 2, "beams": 3, "penalties": {"presence": 0.5}},
            "tools": [],
        }
    )
    body = generation_body(job_of(body=newer))
    assert body.messages == (message("user", "x"),)
    assert "tools" not in body.model_dump()
    assert body.params.version == 2
    assert body.params.model_dump(exclude_unset=True) == {"version": 2, "beams": 3, "penalties": {"presence": 0.5}}


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"input":5}',
        '{"messages":[]}',
        '{"messages":[{"role":"user","content":[]}]}',
        '{"messages":[{"role":"user","content":[{"type":"image","text":"x"}]}]}',
        '{"messages":[{"role":"assistant","content":"x"}]}',
        '{"messages":[{"role":"user","content":"x"},{"role":"system","content":"y"},{"role":"user","content":"z"}]}',
        '{"input":"x","params":{"temperature":"hot"}}',
        '{"input":"x","params":{"logit_bias":{"hot":1}}}',
    ],
)
def test_a_body_that_cannot_be_answered_says_which_job_and_where(body):
    with pytest.raises(Invalid, match=r"job_1 does not read as a GenerationBody: .+: .+") as refusal:
        generation_body(job_of(body=body))
    assert refusal.value.code == "job_malformed"


def test_what_is_malformed_is_not_repeated():
    with pytest.raises(Invalid) as refusal:
        generation_body(job_of(body='{"input":"secret","priority":"secret"}'))
    assert "secret" not in refusal.value.detail


def test_an_own_instruction_stays_and_a_missing_one_is_put_first():
    own = single_turn("mine", "x")
    assert with_instruction(own, "theirs") == own
    assert with_instruction(own[1:], "theirs") == single_turn("theirs", "x")
    assert with_instruction([message("developer", "mine"), own[1]], "theirs")[0].text == "mine"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (SelectBody, {"messages": ()}),
        (Message, {"role": "robot", "content": "x"}),
        (Message, {"role": "user", "content": ()}),
        (GenerationResult, {"choices": ()}),
    ],
)
def test_what_says_nothing_is_no_record(kind, fields):
    with pytest.raises(ValidationError):
        kind.model_validate(fields)


def test_records_do_not_change():
    for record, name in ((message("user", "x"), "role"), (GenerationParams(), "seed"), (Usage(), "prompt_tokens")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(record, name, None)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
WHOLE = st.integers(0, 1 << 40)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), min_size=1, max_size=3)
CONTENT = st.one_of(TEXTS, PARTS)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "version": st.integers(1, 9),
        "max_new_tokens": WHOLE,
        "temperature": NUMBERS,
        "top_p": NUMBERS,
        "top_k": WHOLE,
        "seed": st.none() | WHOLE,
        "stop": st.lists(TEXTS, max_size=3),
        "logprobs": st.booleans(),
        "n": WHOLE,
        "top_logprobs": WHOLE,
        "presence_penalty": NUMBERS,
        "frequency_penalty": NUMBERS,
        "logit_bias": st.dictionaries(st.integers(0, 999_999).map(str), NUMBERS, max_size=3),
        "later": st.dictionaries(TEXTS, WHOLE, max_size=2),
    },
)
OTHERS = {
    "label": TEXTS,
    "adapter": TEXTS,
    "params": PARAMS,
    "priority": st.sampled_from(["interactive", "batch"]),
    "deadline_seconds": NUMBERS,
    "metadata": st.dictionaries(TEXTS, TEXTS, max_size=3),
}


def turns(*roles):
    return st.fixed_dictionaries({"role": st.sampled_from(roles), "content": CONTENT})


CONVERSATIONS = st.builds(
    lambda first, middle, last: [*first, *middle, last],
    st.lists(turns("system", "developer"), max_size=1),
    st.lists(turns("user", "assistant"), max_size=4),
    turns("user"),
)
BODIES = st.one_of(
    st.fixed_dictionaries({"messages": CONVERSATIONS}, optional=OTHERS),
    st.fixed_dictionaries({"input": TEXTS}, optional={**OTHERS, "instruction": TEXTS}),
)


# Long conversations take a busy machine seconds to draw.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES)
def test_any_body_is_the_same_after_it_was_written_down(fields):
    body = GenerationBody.model_validate(fields)
    written = body.model_dump_json()
    assert GenerationBody.model_validate_json(written) == body
    assert generation_body(job_of(body=written)) == body
    assert select_body(job_of(body=written)).messages == body.messages


TOPS = st.builds(TopToken, token_id=WHOLE, logprob=NUMBERS, bytes=st.binary(max_size=4).map(bytes.hex))
RESULTS = st.builds(
    GenerationResult,
    choices=st.lists(
        st.builds(
            Choice,
            index=WHOLE,
            text=TEXTS,
            finish_reason=st.sampled_from(["stop", "length"]),
            logprobs=st.none()
            | st.builds(
                TokenLogprobs,
                token_ids=st.lists(WHOLE, max_size=3).map(tuple),
                logprobs=st.lists(NUMBERS, max_size=3).map(tuple),
                token_bytes=st.lists(st.binary(max_size=4).map(bytes.hex), max_size=3).map(tuple),
                top=st.lists(st.lists(TOPS, max_size=2).map(tuple), max_size=3).map(tuple),
            ),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    usage=st.builds(Usage, prompt_tokens=WHOLE, completion_tokens=WHOLE),
    label=st.none() | TEXTS,
    generate_ms=NUMBERS,
)
SELECTIONS = st.builds(
    SelectionResult,
    label=st.none() | TEXTS,
    confidence=NUMBERS,
    runners_up=st.lists(st.builds(LabelProbability, label=TEXTS, probability=NUMBERS), max_size=3).map(tuple),
)


@given(RESULTS, SELECTIONS)
def test_any_answer_is_the_same_after_it_was_written_down(result, selection):
    job = job_of(result=json.dumps(result.model_dump(mode="json")), selection=selection.model_dump_json())
    assert generation_result(job) == result
    assert selection_of(job) == selection
