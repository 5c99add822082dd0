"""A generation whose adapter is unloaded, or whose store is away, just then."""

import pytest

from services.adapter_worker.engine.echo import EchoEngine
from services.adapter_worker.handlers import generate, make_resident
from shared.contracts.conversation import Message, single_turn
from shared.contracts.generation import generation_result
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.prompts import adapter_prompt
from shared.errors import NotFound, Unavailable
from shared.worker.leases import HeldJob
from tests.support.echo_release import DIGEST, RELEASE


class Unloading(EchoEngine):
    """Loses the adapter to a promotion, `times` times, when a job is about to use it."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def generate(self, request, on_text):
        self.times -= 1
        if self.times >= 0:
            self.unload_adapter(request.adapter)
        return super().generate(request, on_text)


@pytest.fixture
def generated(jobs, attempts, tmp_path):
    def run(engine, body=None):
        body = body or {"input": "card limit"}
        job_id = jobs.new(JobKind.GENERATE, "generate.bank", body, label="bank.cards", deadline_seconds=60)
        tools = {"engine": engine, "fetch": lambda _: tmp_path, "store_patience_seconds": 0}
        attempts.run("generate.bank", lambda attempt: generate(attempt, RELEASE, **tools))
        return jobs.get(job_id)

    return run


def test_an_adapter_unloaded_just_before_its_job_is_loaded_again(generated):
    job = generated(Unloading(times=1))
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result["adapter"] == DIGEST


class Remembering(EchoEngine):
    """Keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def generate(self, request, on_text):
        self.requests.append(request)
        return super().generate(request, on_text)


def turn(role, content):
    return {"role": role, "content": content}


DIALOGUE = [turn("user", "hello"), turn("assistant", "yes?"), turn("user", "card limit")]


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        ({"input": "card limit"}, single_turn("Answer.", "card limit")),
        ({"input": "card limit", "instruction": "Be brief."}, single_turn("Be brief.", "card limit")),
        ({"messages": [turn("user", "card limit")]}, single_turn("Answer.", "card limit")),
        ({"messages": [turn("developer", "Be brief."), *DIALOGUE]}, [turn("system", "Be brief."), *DIALOGUE]),
        ({"messages": DIALOGUE}, [turn("system", "Answer."), *DIALOGUE]),
    ],
    ids=["input", "instruction", "message", "dialogue", "dialogue without a system message"],
)
def test_the_prompt_is_the_conversation_under_the_adapters_own_instruction_or_the_callers(generated, body, turns):
    engine = Remembering()
    assert generated(engine, body).state is JobState.SUCCEEDED
    assert engine.requests[0].prompt == adapter_prompt("chatml", [Message.model_validate(turn) for turn in turns])


def test_parameters_reach_the_engine_and_the_result_is_written_as_choices(generated):
    engine = Remembering()
    params = {"max_new_tokens": 3, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "seed": 7, "stop": ["!"]}
    job = generated(engine, {"input": "card limit", "priority": "batch", "params": {**params, "logprobs": True}})
    request = engine.requests[0]
    assert {name: getattr(request, name) for name in params} == {**params, "stop": ("!",)}
    assert (request.is_batch, request.logprobs) == (True, True)
    result = generation_result(job)
    assert result.model_dump(mode="json") == job.result
    (choice,) = result.choices
    assert choice.text
    assert len(choice.logprobs.token_ids) == len(choice.logprobs.logprobs) == result.usage.completion_tokens
    assert (result.label, result.adapter_ref, result.selector) == ("bank.cards", "bank.cards@1", None)


def test_a_job_that_a_newer_version_wrote_ends_with_an_error_that_says_why(generated):
    body = {"messages": [turn("user", [{"type": "image", "url": "x"}])]}
    job = generated(EchoEngine(), body)
    assert (job.state, job.error["code"]) == (JobState.FAILED, "job_malformed")
    assert "messages.0.content.0.type" in job.error["detail"]


def test_an_adapter_that_never_stays_fails_its_job(generated):
    assert generated(Unloading(times=9)).error["code"] == "adapter_not_loaded"


def test_an_adapter_waits_for_the_store_and_a_lost_one_says_so(jobs, tmp_path):
    held = HeldJob(jobs.take(jobs.train()))
    engine, answers = EchoEngine(), [Unavailable("store_unavailable", "away"), NotFound("object_not_found", "gone")]

    def fetch(_):
        if answers:
            raise answers.pop(0)
        return tmp_path

    with pytest.raises(NotFound) as error:
        make_resident(engine, DIGEST, fetch, held, 0.05)
    assert error.value.code == "adapter_missing"
    make_resident(engine, DIGEST, fetch, held, 0)
    assert DIGEST in engine.resident
