"""Where a request goes, decided by the release alone."""

import pytest
from pydantic import ValidationError

from services.api.infra.current_release import CurrentRelease
from services.api.jobs.accept import check_sizes, generation_job, named_label
from services.api.jobs.schemas import JobRequest, SelectRequest
from services.api.select.service import selection_job
from shared.contracts.generation import SelectBody
from shared.contracts.jobs import JobState
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.errors import Conflict, Invalid
from shared.security.api_keys import Key
from shared.settings import Settings


def release_of(labels, *, selector=True):
    entries = {
        label: ReleaseLabel(adapter=digest * 64, ref=f"{label}@1", group=group, template="chatml", instruction="")
        for label, (digest, group) in labels.items()
    }
    return Release(
        tenant_id="t",
        base_model="tiny",
        labels=entries,
        selector=ReleaseSelector(llm="s", labels=tuple(labels)) if selector else None,
        base_group="g",
        verdict=Verdict(passed=True, reasons=()),
    )


RELEASE = release_of({"fin.sa": ("a", "money"), "med.qa": ("b", "health")})
CURRENT = CurrentRelease(RELEASE.id, RELEASE)
KEY = Key(id="k", sha256="", tenant_id="t", name="", scopes=frozenset())


def test_a_named_label_goes_to_its_group_whatever_the_group_is_called():
    job = generation_job("j", KEY, JobRequest(input="x", label="fin.sa"), CURRENT, Settings())
    assert (job.queue, job.state, job.label) == ("generate.money", JobState.ROUTED, "fin.sa")


def test_an_unnamed_request_goes_to_the_selector():
    job = generation_job("j", KEY, JobRequest(input="x"), CURRENT, Settings())
    assert (job.queue, job.state, job.label) == ("select", JobState.QUEUED, "")


def test_an_adapter_names_its_label():
    assert named_label(JobRequest(input="x", adapter="b" * 64), RELEASE) == "med.qa"
    assert named_label(JobRequest(input="x", adapter="med.qa@1"), RELEASE) == "med.qa"


def test_without_a_selector_a_label_must_be_named():
    plain = release_of({"fin.sa": ("a", "money")}, selector=False)
    with pytest.raises(Conflict, match="name a label"):
        generation_job("j", KEY, JobRequest(input="x"), CurrentRelease(plain.id, plain), Settings())


def test_many_labels_are_not_all_listed():
    many = release_of({f"d.t{number}": ("a", "g") for number in range(50)})
    with pytest.raises(Invalid, match="and 30 more"):
        named_label(JobRequest(input="x", label="no.no"), many)


def test_the_same_request_has_the_same_fingerprint_under_every_release():
    ask = JobRequest(input="x", label="fin.sa", metadata={"a": "b"})
    other = release_of({"fin.sa": ("c", "elsewhere")})
    currents = (CURRENT, CurrentRelease(other.id, other))
    first, second = (generation_job("j", KEY, ask, current, Settings()) for current in currents)
    assert first.fingerprint == second.fingerprint
    assert first.release != second.release


def test_a_deployment_bounds_input_and_output():
    settings = Settings(max_input_chars=10, max_new_tokens_limit=5)
    check_sizes(settings, body_of(input="x" * 10, instruction="y" * 20_000), 5)
    with pytest.raises(Invalid, match="11 characters"):
        check_sizes(settings, body_of(input="x" * 11))
    with pytest.raises(Invalid, match="5 at most"):
        check_sizes(settings, body_of(input="x"), 6)


def test_a_conversation_is_bounded_in_its_last_turn_and_in_its_instruction():
    settings = Settings(max_input_chars=10)
    turns = [turn("user", "x" * 400), turn("assistant", "x" * 300), turn("user", "x" * 10)]
    check_sizes(settings, body_of(messages=[turn("system", "y" * 20_000), *turns]))
    with pytest.raises(Invalid, match="11 characters"):
        check_sizes(settings, body_of(messages=[*turns[:2], turn("user", "x" * 11)]))
    with pytest.raises(Invalid, match="20001 characters, 20000 are taken"):
        check_sizes(settings, body_of(messages=[turn("developer", "y" * 20_001), *turns]))


def turn(role, content):
    return {"role": role, "content": content}


def body_of(**fields):
    return SelectBody.model_validate(JobRequest.model_validate(fields).body)


OLD_FORMS = [
    (
        {"input": "Shares fell."},
        {
            "input": "Shares fell.",
            "instruction": "",
            "params": {"stop": [], "logprobs": False},
            "priority": "interactive",
            "metadata": {},
        },
        "61a47af07b6ad05ca1999feae5e8ebdd62397ce47faa81c0639c017838229b56",
    ),
    (
        {
            "input": "Shares fell.",
            "instruction": "Name the mood.",
            "label": "fin.sa",
            "params": {"max_new_tokens": 8, "temperature": 0.5, "seed": 1},
            "deadline_seconds": 30.0,
            "metadata": {"who": "me"},
        },
        {
            "input": "Shares fell.",
            "instruction": "Name the mood.",
            "label": "fin.sa",
            "params": {"max_new_tokens": 8, "temperature": 0.5, "seed": 1, "stop": [], "logprobs": False},
            "priority": "interactive",
            "deadline_seconds": 30.0,
            "metadata": {"who": "me"},
        },
        "31ed854ca01658febdd8d4bf30cc0e0fa3185deccf530c5a1f8982f00c2e9a73",
    ),
]


@pytest.mark.parametrize(("sent", "stored", "fingerprint"), OLD_FORMS, ids=["short", "long"])
def test_a_request_with_an_input_makes_the_body_and_the_fingerprint_that_it_always_made(sent, stored, fingerprint):
    job = generation_job("j", KEY, JobRequest.model_validate(sent), CURRENT, Settings())
    assert job.body == stored
    assert job.fingerprint == fingerprint


def test_a_selection_with_an_input_makes_the_body_and_the_fingerprint_that_it_always_made():
    job = selection_job("j", KEY, SelectRequest(input="Shares fell.", wait_seconds=3), CURRENT)
    assert job.body == {"input": "Shares fell.", "instruction": ""}
    assert job.fingerprint == "36cc9f94a2ebc35a238f4725f881ba3c2730e4f1050253e1379d12ef68a0f7b2"


def test_messages_are_stored_as_the_caller_wrote_them():
    parts = [{"type": "text", "text": "Shares"}, {"type": "text", "text": "fell."}]
    messages = [turn("system", "Name the mood."), turn("user", "Hm."), turn("assistant", "Yes?"), turn("user", parts)]
    job = generation_job("j", KEY, JobRequest.model_validate({"messages": messages}), CURRENT, Settings())
    assert job.body == {
        "messages": messages,
        "params": {"stop": [], "logprobs": False},
        "priority": "interactive",
        "metadata": {},
    }
    assert SelectBody.model_validate(job.body).texts == ("Name the mood.", "Hm.", "Yes?", "Shares\nfell.")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "give either input or messages"),
        ({"input": "x", "messages": [turn("user", "x")]}, "not both"),
        ({"instruction": "i", "messages": [turn("user", "x")]}, "begin messages with a system message"),
        ({"messages": []}, "at least 1 item"),
        ({"messages": [turn("system", "x")]}, "there is no user message"),
        ({"messages": [turn("user", "x"), turn("assistant", "y")]}, "the last message is the assistant's"),
        ({"messages": [turn("user", "x"), turn("system", "y"), turn("user", "z")]}, "message 1 is a system message"),
        ({"messages": [turn("system", "x"), turn("developer", "y"), turn("user", "z")]}, "message 1 is a developer"),
        (
            {"messages": [turn("function", "x"), turn("user", "z")]},
            "'system', 'developer', 'user', 'assistant' or 'tool'",
        ),
        ({"messages": [turn("user", " \n")]}, "the text is empty"),
        ({"messages": [turn("assistant", ""), turn("user", "x")]}, "the text is empty"),
        ({"messages": [turn("user", [])]}, "at least 1 item"),
        ({"messages": [turn("user", [{"type": "text", "text": " "}])]}, "the text is empty"),
        ({"messages": [turn("user", [{"type": "image_url", "text": "x"}])]}, "should be 'text'"),
        ({"messages": [turn("user", [{"type": "text", "text": "x"}] * 101)]}, "at most 100 items"),
        ({"messages": [turn("user", "x")] * 1001}, "at most 1000 items"),
        ({"messages": [turn("user", 5)]}, "valid string"),
        ({"messages": [turn("user", None)]}, "content is missing"),
        ({"messages": [turn("user", "x") | {"name": "me"}]}, "not permitted"),
        ({"messages": "x"}, "valid list"),
        ({"messages": ["x"]}, "valid dictionary or instance"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_conversation_that_cannot_be_answered_is_refused_with_what_to_do(fields, why):
    for kind in (JobRequest, SelectRequest):
        with pytest.raises(ValidationError, match=why):
            kind.model_validate(fields)
