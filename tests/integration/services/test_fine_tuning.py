"""Fine-tuning jobs by the `openai` package, against the real API and a real trainer on a tiny model."""

import asyncio
import json

import openai
import pytest

from shared.contracts.jobs import JobState
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.api import serving
from tests.support.samples import rows
from tests.support.training import LABELS

QUICK = {"n_epochs": 1, "batch_size": 8, "learning_rate_multiplier": 50.0}
SUPERVISED = {"type": "supervised", "supervised": {"hyperparameters": QUICK}}


def chats(label, count, seed=0):
    """Lines of a file in OpenAI's chat form."""
    for row in rows(label, count, seed):
        turns = [("system", row["instruction"]), ("user", row["input"]), ("assistant", row["output"])]
        yield json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]})


@pytest.fixture
async def url(settings, clients):
    async with serving(settings) as (_, url):
        yield f"{url}/v1"


@pytest.fixture
async def connect(url, ledger):
    """An OpenAI client with a new key of these scopes, of the trainer's tenant."""
    opened = []

    def make(*scopes, tenant_id="t"):
        _, key = api_keys.create(ledger.redis, frozenset(scopes), tenant_id=tenant_id)
        opened.append(openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0))
        return opened[-1]

    yield make
    for client in opened:
        await client.close()


@pytest.fixture
def client(connect):
    return connect(Scope.TRAIN)


async def upload(client, *lines, purpose="fine-tune"):
    return (await client.files.create(file=("rows.jsonl", "\n".join(lines).encode()), purpose=purpose)).id


async def refusal(awaitable, error=openai.BadRequestError):
    with pytest.raises(error) as caught:
        await awaitable
    return caught.value


async def test_a_file_becomes_a_model_and_tells_on_the_way(client, run, registry):
    file, held_out = await upload(client, *chats(LABELS[0], 24)), await upload(client, *chats(LABELS[0], 6, seed=1))
    made = await client.fine_tuning.jobs.create(
        model="base",
        training_file=file,
        validation_file=held_out,
        suffix=LABELS[0],
        seed=7,
        method=SUPERVISED,
        metadata={"team": "cards"},
    )
    assert (made.status, made.fine_tuned_model, made.finished_at, made.seed) == ("queued", None, None, 7)
    job = await asyncio.to_thread(run, made.id)
    assert job.state is JobState.SUCCEEDED, job.error
    done = await client.fine_tuning.jobs.retrieve(made.id)
    type(done).model_validate(done.model_dump(), strict=True)
    assert (done.status, done.fine_tuned_model) == ("succeeded", f"{LABELS[0]}@1")
    assert (done.training_file, done.validation_file, done.metadata) == (file, held_out, {"team": "cards"})
    assert done.hyperparameters.model_dump() == QUICK == done.method.supervised.hyperparameters.model_dump()
    assert done.finished_at >= done.created_at
    assert done.trained_tokens > 100
    assert registry.adapters.get("t", f"{LABELS[0]}@1").made_by == made.id
    assert done.signalbox["validation_rows"] == 6
    assert 0 < done.signalbox["validation_loss"] < 20

    (results,) = done.result_files
    kept = await client.files.retrieve(results)
    assert (kept.purpose, kept.filename) == ("fine-tune-results", "step_metrics.csv")
    head, *steps = (await client.files.content(results)).text.splitlines()
    assert head == "step,train_loss,learning_rate,trained_tokens"
    assert [line.split(",")[0] for line in steps] == ["1", "2", "3"]
    assert int(steps[-1].split(",")[3]) == done.trained_tokens

    events = [event async for event in client.fine_tuning.jobs.list_events(made.id, limit=3)]
    for event in events:
        type(event).model_validate(event.model_dump())
    assert [event.message for event in (events[0], events[-1])] == ["The job has succeeded", "The job is queued"]
    losses = [event.data["train_loss"] for event in events if event.type == "metrics"]
    assert [f"{loss:.6f}" for loss in losses[::-1]] == [f"{float(line.split(',')[1]):.6f}" for line in steps]

    (checkpoint,) = [one async for one in client.fine_tuning.jobs.checkpoints.list(made.id)]
    type(checkpoint).model_validate(checkpoint.model_dump())
    assert (checkpoint.fine_tuned_model_checkpoint, checkpoint.step_number) == (f"{LABELS[0]}@1", 3)
    assert checkpoint.metrics.full_valid_loss == done.signalbox["validation_loss"]


async def test_jobs_are_listed_by_pages_and_cancelled(client, connect):
    file = await upload(client, *chats(LABELS[0], 8))
    made = [
        await client.fine_tuning.jobs.create(model="base", training_file=file, suffix=f"team.task{n}") for n in range(3)
    ]
    listed = [job.id async for job in client.fine_tuning.jobs.list(limit=2)]
    assert listed == [job.id for job in reversed(made)]
    cancelled = await client.fine_tuning.jobs.cancel(made[0].id)
    assert (cancelled.status, cancelled.error) == ("cancelled", None)
    other = connect(Scope.ADMIN, tenant_id="other")
    assert [job async for job in other.fine_tuning.jobs.list()] == []
    error = await refusal(other.fine_tuning.jobs.retrieve(made[1].id), openai.NotFoundError)
    assert error.code == "job_not_found"


async def test_the_older_forms_are_taken(client, ledger):
    lines = [json.dumps({"prompt": row["input"], "completion": row["output"]}) for row in rows(LABELS[0], 8)]
    talk = [("user", "a"), ("assistant", "b", 0), ("user", "c"), ("assistant", "d", 1)]
    turns = [{"role": role, "content": text, **({"weight": w[0]} if w else {})} for role, text, *w in talk]
    file = await upload(client, *lines, json.dumps({"messages": turns}))
    made = await client.fine_tuning.jobs.create(
        model="base", training_file=file, hyperparameters={"n_epochs": 2}, metadata={"label": LABELS[0]}
    )
    assert (made.hyperparameters.n_epochs, made.hyperparameters.batch_size) == (2, "auto")
    body = ledger.do(calls.get(made.id, "t")).body
    assert (body["label"], body["settings"]["epochs"]) == (LABELS[0], 2)


async def test_what_is_wrong_is_refused_by_its_field(client):
    file = await upload(client, *chats(LABELS[0], 8))
    broken = await upload(client, *chats(LABELS[0], 2), '{"messages": []}', "no json")
    data = await upload(client, "{}", purpose="user_data")
    wrong = [
        ({"model": "gpt-4o-mini"}, "model", "model_not_found"),
        ({"training_file": "file-x"}, None, "file_not_found"),
        ({"training_file": data}, "training_file", "invalid_file_purpose"),
        ({"training_file": broken}, "training_file", "dataset_malformed"),
        ({"validation_file": broken}, "validation_file", "dataset_malformed"),
        ({"suffix": openai.omit}, "suffix", "label_missing"),
        ({"suffix": "No Label!"}, "suffix", "label_malformed"),
        ({"method": {"type": "dpo", "dpo": {}}}, "method.type", "request_invalid"),
        ({"method": {"type": "reinforcement"}}, "method.type", "request_invalid"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "request_invalid"),
        ({"hyperparameters": {"n_epochs": 1000}}, "hyperparameters.n_epochs", "request_invalid"),
        ({"metadata": {"route": "auto"}}, "metadata.route", "labels_too_few"),
        ({"metadata": {"route": "always"}}, "metadata.route", "route_unknown"),
    ]
    for change, param, code in wrong:
        asked = {"model": "base", "training_file": file, "suffix": LABELS[0]} | change
        error = await refusal(client.fine_tuning.jobs.create(**asked), openai.APIStatusError)
        assert error.status_code in (400, 404), change
        assert error.code == code, (change, error.body)
        assert (error.param or "").startswith(param or ""), (change, error.body)
        if asked["training_file"] == broken:
            assert "line 3" in str(error)
            assert "line 4" in str(error)
    assert [job async for job in client.fine_tuning.jobs.list()] == []


@pytest.mark.parametrize("scopes", [(Scope.TRAIN,), (Scope.TRAIN, Scope.PROMOTE)])
async def test_a_label_joins_the_selector_after_its_adapter(connect, ledger, scopes):
    client = connect(*scopes)
    first, second = [await upload(client, *chats(label, 24)) for label in LABELS[:2]]
    await client.fine_tuning.jobs.create(model="base", training_file=first, suffix=LABELS[0])
    made = await client.fine_tuning.jobs.create(
        model="base", training_file=second, suffix=LABELS[1], metadata={"route": "auto"}
    )
    selector = ledger.do(calls.get(made.signalbox["selector_job"], "t"))
    assert selector.body["kind"] == "selector.train"
    assert sorted(selector.body["labels"]) == sorted(LABELS[:2])
    assert selector.body["promote"] is (Scope.PROMOTE in scopes)
    assert ledger.redis.smembers(LedgerKey.BLOCKERS.of(selector.id)) == {made.id}
    await client.fine_tuning.jobs.cancel(made.id)
    assert ledger.do(calls.get(selector.id, "t")).error["code"] == "dependency_failed"


async def test_a_further_label_is_added_to_the_selector_that_is_there(connect, first, ledger):
    client = connect(Scope.TRAIN, Scope.PROMOTE)
    files = {label: await upload(client, *chats(label, 24)) for label in LABELS[1:]}
    made = await client.fine_tuning.jobs.create(
        model="base", training_file=files[LABELS[2]], suffix=LABELS[2], metadata={"route": "auto"}
    )
    selector = ledger.do(calls.get(made.signalbox["selector_job"], "t"))
    assert (selector.body["kind"], list(selector.body["labels"])) == ("selector.add", [LABELS[2]])
    known = client.fine_tuning.jobs.create(
        model="base", training_file=files[LABELS[1]], suffix=LABELS[1], metadata={"route": "auto"}
    )
    assert (await refusal(known)).code == "label_exists"
