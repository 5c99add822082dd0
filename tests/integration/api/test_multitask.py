"""Jobs on several tasks: checked and estimated at submit; a shared adapter is asked by its labels."""

import json

import pytest

from shared.contracts.manifests import BaseModelManifest
from shared.contracts.training import parse_training
from shared.contracts.training_cost import Speed, training_flops
from shared.contracts.training_settings import LoraSettings
from shared.ledger import calls
from tests.support.api import code

PATH = "/v1/training/jobs"
SHAPES = {f"model.layers.{layer}.{name}_proj": (1024, 1024) for layer in range(4) for name in "qkvo"}
LABELS = {"fin.sa": "hundred", "fin.ha": "hundred"}
PLAN = {"kind": "multitask.plan", "labels": LABELS}
TRAIN = {"kind": "multitask.train", "labels": LABELS, "high_resource": ["fin.sa"]}


@pytest.fixture
def base(ledger, registry, settings):
    pin = settings.data_dir.parent.name.replace("_", "-")
    manifest = BaseModelManifest(id=pin, shapes=SHAPES, vocabulary_size=1000)
    registry.base_models.publish(manifest)
    ledger.do(calls.heartbeat("worker", ["generate.base", f"generate.base@{pin}"], [], {}, 60))
    flops = training_flops(SHAPES, LoraSettings())
    registry.speeds.add(pin, Speed(pace="float32", step_flops=1e9, flops_per_second=100 * flops))
    return pin


@pytest.fixture
async def train(api, base):
    lines = [json.dumps({"input": f"{n:03} " + "word " * 20, "output": "x"}) for n in range(100)]
    await api["train"].post("/v1/datasets?name=hundred", content="\n".join(lines).encode())
    return api["train"]


@pytest.mark.parametrize("ask", [PLAN, TRAIN], ids=lambda ask: ask["kind"])
async def test_what_is_queued_is_what_the_trainer_reads_with_every_default(train, ledger, ask):
    answer = await train.post(PATH, json=ask)
    assert answer.status_code == 202, answer.text
    job = ledger.do(calls.get(answer.json()["id"], "default"))
    body = parse_training(job.body)
    assert body.settings.learning_rate == 3e-5
    assert set(body.labels) == set(LABELS)
    assert body.labels["fin.sa"] != "hundred"  # the id that the name stood for


async def test_the_estimate_counts_the_runs_of_a_plan_and_the_steps_of_both_stages(train):
    plan = (await train.post(f"{PATH}/estimate", json=PLAN)).json()
    assert (plan["language_model"], plan["steps"]) == ("trained", 2 * 80 * 4 // 8)  # four epochs decide a resource
    said = {**PLAN, "overrides": {"fin.sa": {"resource": "low"}}}
    assert (await train.post(f"{PATH}/estimate", json=said)).json()["steps"] == 80 * 4 // 8
    shared = (await train.post(f"{PATH}/estimate", json=TRAIN)).json()
    assert shared["steps"] == 2 * 80 * 11 // 8
    capped = (await train.post(f"{PATH}/estimate", json={**TRAIN, "max_steps": 100})).json()
    assert capped["steps"] == 100
    assert capped["tokens"] < shared["tokens"]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ({**PLAN, "labels": {"fin.sa": "hundred"}}, "name two labels or more"),
        ({**TRAIN, "cap": 0}, "take 1 or more"),
        ({**TRAIN, "tau": 0}, "take one above 0"),
        ({**TRAIN, "max_steps": 0}, "trains nothing"),
        ({**TRAIN, "prefixes": {"fin.sa": "same", "fin.ha": "same"}}, "give each its own"),
    ],
)
async def test_what_cannot_work_is_refused_in_a_sentence(train, ask, says):
    answer = await train.post(PATH, json=ask)
    assert answer.status_code == 422
    assert says in answer.text


async def test_a_task_without_rows_is_refused(train):
    await train.post("/v1/datasets?name=other", content=b'{"input": "a", "output": "b", "label": "fin.ie"}\n' * 9)
    refused = await train.post(PATH, json={**TRAIN, "labels": {**LABELS, "fin.ha": "other"}})
    assert code(refused, 422) == "dataset_too_small"


async def test_a_plan_has_to_have_ended_and_to_be_the_tenants(api, train):
    by_plan = {**TRAIN, "high_resource": None}
    plan = (await train.post(PATH, json=PLAN)).json()["id"]
    assert code(await train.post(PATH, json={**by_plan, "plan": plan}), 409) == "job_unfinished"
    assert (await train.post(PATH, json={**by_plan, "plan": plan, "after": [plan]})).status_code == 202
    assert code(await train.post(PATH, json={**by_plan, "plan": "job_none"}), 404) == "job_not_found"
    other = (await train.post(PATH, json=TRAIN)).json()["id"]
    assert code(await train.post(PATH, json={**by_plan, "plan": other}), 422) == "job_kind_wrong"
    await api["other"].post("/v1/datasets?name=hundred", content=b'{"input": "a", "output": "b"}\n' * 9)
    assert code(await api["other"].post(PATH, json={**by_plan, "plan": plan}), 404) == "job_not_found"


async def test_labels_of_one_adapter_are_models_of_their_own_and_their_digest_alone_names_none(api, registry, release):
    shared = {"adapter": release.labels["fin.sa"].adapter}
    entries = {
        label: entry.model_copy(update={**shared, "prefix": f"Task: {label}"})
        for label, entry in release.labels.items()
    }
    made = release.model_copy(update={"labels": entries, "parent": release.id})
    registry.releases.promote("default", registry.releases.add(made), force=True)
    await api["app"].state.clients.releases.refresh("default")
    listed = {one["id"]: one for one in (await api["submit"].get("/v1/models")).json()["data"]}
    assert {"fin.sa", "fin.ha", "fin.sa@1", "fin.ha@1"} <= set(listed)
    for label in ("fin.sa", "fin.ha"):
        answer = await api["submit"].post("/v1/jobs", json={"input": "hello", "adapter": f"{label}@1"})
        assert answer.status_code == 202
    refused = await api["submit"].post("/v1/jobs", json={"input": "hello", **shared})
    assert code(refused, 422) == "adapter_shared"
    assert "name one in `label`" in refused.text


async def test_a_proposal_of_an_unknown_adapter_is_refused_at_submit(train):
    ask = {"kind": "multitask.propose", "validation": LABELS}
    assert code(await train.post(PATH, json={**ask, "adapter": "fin.sa"}), 404) == "adapter_not_found"
    assert code(await train.post(PATH, json={**ask, "job": "job_none"}), 404) == "job_not_found"
