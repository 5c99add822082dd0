"""The job's states and ids."""

import json

import pytest

from services.selector.scoring.neighbours import MAX_CHARS, SHOWN
from shared.contracts.generation import Choice, GenerationResult, LabelProbability, Neighbour, SelectionResult
from shared.contracts.jobs import TRANSITIONS, Job, JobKind, JobState, NewJob, new_job_id
from shared.contracts.logprobs import TokenLogprobs, TopToken
from shared.contracts.prompts import PromptPart
from shared.contracts.selection import MOST_EXPLAINED


def test_final_states_are_exactly_those_that_nothing_leaves():
    assert {s for s in JobState if s.is_final} == {"succeeded", "failed", "cancelled", "rejected"}


def test_every_state_can_be_reached_from_queued():
    reached, frontier = {JobState.QUEUED}, [JobState.QUEUED]
    while frontier:
        for state in TRANSITIONS[frontier.pop()] - reached:
            reached.add(state)
            frontier.append(state)
    assert reached == set(JobState)


def test_an_idempotency_key_always_names_the_same_job_of_its_tenant():
    assert new_job_id("a", "k") == new_job_id("a", "k")
    other = {new_job_id("b", "k"), new_job_id("a", "j"), new_job_id("a"), new_job_id("a")}
    assert len(other | {new_job_id("a", "k")}) == 5


def test_the_fingerprint_tells_another_request_from_a_repeated_one():
    def job(**changes):
        body = {
            "id": "job_1",
            "tenant_id": "t",
            "kind": JobKind.GENERATE,
            "stage": "select",
            "queue": "select",
            "body": {"input": "x"},
        }
        return NewJob(**(body | changes)).fingerprint

    assert job() == job(id="job_2", release="rel_2")
    assert job() != job(body={"input": "y"})


def test_stage_times_run_from_one_state_to_the_next():
    at = {"queued": 1.0, "selecting": 3.0, "routed": 7.0, "running": 8.0, "succeeded": 20.0}
    job = Job(
        id="j",
        tenant_id="t",
        kind="generate",
        stage="generate",
        state="succeeded",
        queue="generate.g",
        body={},
        timestamps=at,
    )
    assert job.stage_ms() == {"queued": 2.0, "selecting": 4.0, "routed": 1.0, "running": 12.0}


def test_a_job_that_waits_again_has_no_negative_stage():
    at = {"queued": 1.0, "selecting": 3.0, "running": 8.0, "routed": 20.0}
    job = Job(
        id="j",
        tenant_id="t",
        kind="generate",
        stage="generate",
        state="routed",
        queue="generate.g",
        body={},
        timestamps=at,
    )
    assert job.stage_ms() == {"queued": 2.0, "selecting": 5.0, "running": 12.0}


def generation(**params):
    return NewJob(
        id="j", tenant_id="t", kind=JobKind.GENERATE, stage="generate", queue="generate.g", body={"params": params}
    )


def test_every_choice_counts_for_turns_and_room():
    assert generation().new_tokens == 64
    assert generation(n=3, max_new_tokens=10).new_tokens == 30
    assert generation(n=None).new_tokens == 64
    assert generation(n=4, max_new_tokens=8).kept_bytes("") == generation(max_new_tokens=32).kept_bytes("")


@pytest.mark.parametrize("params", [{}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 20}])
@pytest.mark.parametrize("n", [1, 3])
def test_a_job_has_room_for_the_events_and_the_result_of_its_longest_answer(params, n):
    count, word = 50, " declined"
    job = generation(n=n, max_new_tokens=count, **params)
    token = TopToken(token_id=123_456, logprob=-12.345678, bytes=word.encode().hex())

    def logprobs(tokens):
        top = ((token,) * params["top_logprobs"],) * tokens if "top_logprobs" in params else ()
        several = {"token_ids": (token.token_id,), "logprobs": (token.logprob,), "token_bytes": (token.bytes,)}
        return TokenLogprobs(**{name: one * tokens for name, one in several.items()}, top=top) if params else None

    choices = [Choice(index=index, text=word * count, logprobs=logprobs(count)) for index in range(n)]
    result = GenerationResult(choices=choices).model_dump_json()
    # As the event writer joins them, some twenty tokens at a time.
    text = {"text": word * 20, "attempt": 1, "index": 1}
    event = json.dumps(text | ({"logprobs": logprobs(20).model_dump(mode="json")} if params else {}))
    assert len(result) + n * count / 20 * len(event) < job.kept_bytes("")


def test_an_explained_job_has_room_for_its_prompt_its_rows_and_all_probabilities():
    plain, text = generation(), "a text that is compressed in the body " * 1000
    explained = plain.model_copy(update={"body": {"input": text, "explain": True, "params": {}}})
    label = "a" * 32 + "." + "b" * 32
    selection = SelectionResult(
        probabilities=(LabelProbability(label=label, probability=0.123456),) * MOST_EXPLAINED,
        neighbours=(Neighbour(label=label, text="\u2028" * MAX_CHARS, similarity=0.123),) * SHOWN,
    ).model_dump_json()
    prompt = GenerationResult(
        choices=[Choice()],
        prompt=[PromptPart(by="template", text="i" * 20_000), PromptPart(by="user", text=text)],
    ).model_dump_json()
    assert len(selection) + len(prompt) < explained.kept_bytes("") - plain.kept_bytes("")
