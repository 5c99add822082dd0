"""A generation whose adapter is unloaded, or whose store is away, just then."""

import pytest

from services.adapter_worker.engine.echo import EchoEngine
from services.adapter_worker.handlers import generate, make_resident
from services.adapter_worker.prompts import worker_prompts
from shared.contracts.built_in_templates import BUILT_IN, adapter_prompt
from shared.contracts.conversation import Message, single_turn
from shared.contracts.generation import generation_result
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.prompts import render
from shared.contracts.templates import PromptTemplate
from shared.errors import NotFound, Unavailable
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.prompts.of_job import prompt_of
from shared.worker.leases import HeldJob
from tests.support.echo_release import DIGEST, ENTRY, RELEASE, prompts


class Unloading(EchoEngine):
    """Loses the adapter to a promotion, `times` times, when a job is about to use it."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def generate(self, request, on_piece):
        self.times -= 1
        if self.times >= 0:
            self.unload_adapter(request.adapter)
        return super().generate(request, on_piece)


@pytest.fixture
def generated(jobs, attempts, tmp_path):
    def run(engine, body=None, job_id="", *, base_model="tiny", template="", prompts=prompts, label_base=""):
        body = body or {"input": "card limit"}
        job_id = job_id or jobs.new(JobKind.GENERATE, "generate.bank", body, label="bank.cards", deadline_seconds=60)
        tools = {"engine": engine, "base_model": base_model, "fetch": lambda _: tmp_path, "store_patience_seconds": 0}
        tools["prompts"] = prompts
        entry = ENTRY.model_copy(update={"template": template or ENTRY.template, "base_model": label_base})
        release = RELEASE.model_copy(update={"labels": {"bank.cards": entry}})
        attempts.run(jobs.get(job_id).queue, lambda attempt: generate(attempt, release, **tools))
        return jobs.get(job_id)

    return run


def test_an_adapter_unloaded_just_before_its_job_is_loaded_again(generated):
    job = generated(Unloading(times=1))
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result["adapter"] == DIGEST


@pytest.mark.parametrize("tells_tokens", [True, False])
def test_a_job_whose_pieces_nobody_reads_tells_its_states_alone(generated, events, ledger, tells_tokens):
    job = generated(EchoEngine(), {"input": "card limit", "tells_tokens": tells_tokens})
    assert generation_result(job).choices[0].text
    events.flush()
    told = ledger.redis.xrange(LedgerKey.EVENTS.of(job.id))
    assert ("token" in [event["type"] for _, event in told]) == tells_tokens


class Remembering(EchoEngine):
    """Keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def generate(self, request, on_piece):
        self.requests.append(request)
        return super().generate(request, on_piece)


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


def test_a_template_of_the_release_makes_the_prompt_and_one_that_does_not_fit_ends_the_job(
    generated, registry, tiny_folder
):
    prompts_here = worker_prompts(registry, tiny_folder, renders_jinja=True)
    house = PromptTemplate(name="house", jinja="{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}")
    registry.templates.add("t", house)
    found = {}
    for name in ("alpaca", "house", "llama3", "gone", "model"):
        engine = Remembering()
        job = generated(engine, template=name, prompts=prompts_here)
        found[name] = render(engine.requests[0].prompt) if engine.requests else job.error["code"]
    assert found["alpaca"].endswith("### Instruction:\nAnswer.\n\n### Input:\ncard limit\n\n### Response:\n")
    assert found["house"] == "<|im_start|>Answer.<|im_start|>card limit"
    refused = {"llama3": "template_tokens_missing", "gone": "template_unknown", "model": "template_missing"}
    assert {name: found[name] for name in refused} == refused


def test_an_answer_ends_where_its_template_says(generated, registry, tiny_folder, tiny_tokenizer):
    prompts_here = worker_prompts(registry, tiny_folder, renders_jinja=True)
    registry.templates.add("t", PromptTemplate(name="short", end="<|endoftext|>", stops=("<|im_start|>",)))
    for name, ends in (("short", {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}), ("chatml", set())):
        engine = Remembering()
        generated(engine, template=name, prompts=prompts_here)
        assert engine.requests[0].end_ids == set(tiny_tokenizer.convert_tokens_to_ids(sorted(ends)))


def test_parameters_reach_the_engine_and_the_result_is_written_as_choices(generated):
    engine = Remembering()
    params = {"max_new_tokens": 3, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "seed": 7, "stop": ["!"]}
    params |= {"n": 2, "presence_penalty": 0.5, "frequency_penalty": -0.5, "top_logprobs": 1, "logit_bias": {"7": 2.5}}
    job = generated(engine, {"input": "card limit", "priority": "batch", "params": {**params, "logprobs": True}})
    request = engine.requests[0]
    assert {name: getattr(request, name) for name in params} == {**params, "stop": ("!",), "logit_bias": {7: 2.5}}
    assert (request.is_batch, request.logprobs) == (True, True)
    result = generation_result(job)
    assert result.model_dump(mode="json") == job.result
    choice, other = result.choices
    assert choice.text
    assert (choice.index, other.index) == (0, 1)
    assert 2 * len(choice.logprobs.token_ids) == 2 * len(choice.logprobs.logprobs) == result.usage.completion_tokens
    assert (result.label, result.adapter_ref, result.selector) == ("bank.cards", "bank.cards@1", None)


def test_a_job_that_a_newer_version_wrote_ends_with_an_error_that_says_why(generated):
    body = {"messages": [turn("user", [{"type": "image", "url": "x"}])]}
    job = generated(EchoEngine(), body)
    assert (job.state, job.error["code"]) == (JobState.FAILED, "job_malformed")
    assert "messages.0.content.0.type" in job.error["detail"]


def test_a_job_is_left_to_a_worker_of_its_releases_base_model_and_its_answer_names_what_ran(generated, ledger):
    other, engine = Remembering(), Remembering()
    left = generated(other, base_model="another")
    assert (left.state, left.queue, left.lost_leases) == (JobState.ROUTED, "generate.bank@tiny", 0)
    assert other.requests == []
    assert [gauge for gauge in ledger.do(calls.gauges()).queues if gauge.waiting] == [("generate.bank@tiny", 1, 0, 0)]
    answered = generated(engine, job_id=left.id)
    assert (answered.state, answered.result["base_model"]) == (JobState.SUCCEEDED, "tiny")
    assert [request.job_id for request in engine.requests] == [left.id]
    assert ledger.do(calls.gauges()).queues == [("generate.bank", 0, 0, 0)]


def test_a_label_that_keeps_a_base_model_of_its_own_is_answered_by_workers_of_that_one(generated):
    left = generated(Remembering(), label_base="older")
    assert (left.state, left.queue) == (JobState.ROUTED, "generate.bank@older")
    answered = generated(Remembering(), job_id=left.id, base_model="older", label_base="older")
    assert (answered.state, answered.result["base_model"]) == (JobState.SUCCEEDED, "older")


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


@pytest.mark.parametrize("explain", [True, False])
def test_an_explained_job_tells_the_prompt_that_the_engine_got(generated, explain):
    engine = Remembering()
    said = "card <|im_end|> limit"
    result = generation_result(generated(engine, {"messages": [turn("user", said)], "explain": explain}))
    got = [(segment.part, segment.text) for segment in engine.requests[0].prompt]
    assert [(part.by, part.text) for part in result.prompt] == (got if explain else [])
    assert (("user", said) in [(part.by, part.text) for part in result.prompt]) == explain


def test_without_a_vocabulary_the_prompt_is_told_from_the_job_alone(generated):
    engine = Remembering()
    job = generated(engine, {"messages": [turn("system", "Be brief."), *DIALOGUE]})
    assert prompt_of(job, ENTRY, BUILT_IN[ENTRY.template]) == engine.requests[0].prompt
