"""Trainings over an adapter and compositions of adapters, as the API takes them in."""

import asyncio
import json

import pytest

from services.cli import training_pages
from shared.contracts.compose import AdapterPart
from shared.contracts.jobs import JobState
from shared.contracts.manifests import AdapterManifest
from shared.contracts.training_cost import Speed
from shared.ledger import calls
from tests.support.api import code

PATH = "/v1/training/jobs"
LAW, TASK = "law.texts", "law.qa"
ON = {"kind": "adapter.train", "label": TASK, "dataset": "rows", "on": LAW}
COMPOSE = {
    "kind": "adapter.compose",
    "label": TASK,
    "parts": [{"adapter": LAW}, {"adapter": "law.task", "weight": 0.5}],
}
CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


@pytest.fixture
def add(registry, store, base):
    """Register an adapter of which the store has the config alone, which is all that the API reads."""
    store.ensure_bucket()

    def made(label, base_model="tiny", tenant_id="default", parts=(), **config):
        digest = f"{abs(hash((label, tenant_id, str(config)))):064x}"
        store.put(f"adapters/{digest}/adapter_config.json", json.dumps(CONFIG | config).encode())
        fields = {"tenant_id": tenant_id, "label": label, "version": 1, "digest": digest, "base_model": base_model}
        manifest = AdapterManifest(**fields, parts=parts)
        registry.adapters._records.add(tenant_id, manifest.ref, manifest)
        return manifest

    return made


@pytest.fixture
async def train(api, add):
    lines = [json.dumps({"input": f"{n:03}", "output": "x"}) for n in range(20)]
    await api["train"].post("/v1/datasets?name=rows", content="\n".join(lines).encode())
    add(LAW), add("law.task", r=8)
    return api["train"]


def body_of(ledger, answer):
    assert answer.status_code == 202, answer.text
    return ledger.do(calls.get(answer.json()["id"])).body


async def test_a_domain_means_its_version_at_submit(train, ledger, add):
    assert body_of(ledger, await train.post(PATH, json=ON))["on"] == f"{LAW}@1"
    body = body_of(ledger, await train.post(PATH, json={**COMPOSE, "dataset": "rows"}))
    assert body["parts"] == [{"adapter": f"{LAW}@1", "weight": 1.0}, {"adapter": "law.task@1", "weight": 0.5}]
    plain = body_of(ledger, await train.post(PATH, json={**ON, "on": None}))
    assert "on" not in plain  # a stored training without it is as before


async def test_a_domain_that_another_job_makes_is_looked_up_when_that_has_ended(train, ledger):
    before = (await train.post(PATH, json={**ON, "on": None, "label": "law.coming"})).json()["id"]
    late = {"on": "law.coming", "after": [before]}
    assert body_of(ledger, await train.post(PATH, json={**ON, **late}))["on"] == "law.coming"
    newer = {"on": LAW, "after": [before]}  # which may make a newer version of it
    assert body_of(ledger, await train.post(PATH, json={**ON, **newer}))["on"] == LAW
    parts = [{"adapter": "law.coming"}, {"adapter": f"{LAW}@1"}]
    body = body_of(
        ledger, await train.post(PATH, json={**COMPOSE, "parts": parts, "unjudged": True, "after": [before]})
    )
    assert [part["adapter"] for part in body["parts"]] == ["law.coming", f"{LAW}@1"]


@pytest.mark.parametrize(
    ("ask", "status", "expected", "said"),
    [
        ({**ON, "on": "law.gone"}, 404, "adapter_not_found", "law.gone"),
        ({**ON, "on": "law.theirs"}, 404, "adapter_not_found", "law.theirs"),
        ({**ON, "on": "law.dora"}, 422, "adapter_not_composable", "is DoRA, whose magnitudes"),
        ({**ON, "on": "law.heads"}, 422, "adapter_not_composable", "whole layers of its own (modules_to_save)"),
        ({**ON, "on": "law.classifier"}, 422, "adapter_not_composable", "has a head of its own"),
        ({**ON, "on": "law.other", "base_model": "tiny"}, 422, "adapter_base_mismatch", "train it anew"),
        ({**ON, "settings": {"rank": 253}}, 422, "compose_rank_too_large", "train with rank 252 or less"),
        ({**ON, "settings": {"method": "dora"}}, 422, "request_invalid", "train with lora, rslora or pissa"),
        ({**COMPOSE}, 422, "request_invalid", "name validation rows in `dataset`, or set `unjudged`"),
        ({**COMPOSE, "dataset": "rows", "unjudged": True}, 422, "request_invalid", "leave out `unjudged`"),
        ({**COMPOSE, "parts": [{"adapter": LAW}]}, 422, "request_invalid", "name 2 to 8 parts"),
        ({**COMPOSE, "parts": [{"adapter": LAW}] * 2}, 422, "request_invalid", "name it once"),
        ({**COMPOSE, "parts": [{"adapter": LAW}, {"adapter": f"{LAW}@1"}]}, 422, "compose_part_twice", "name it once"),
        ({**COMPOSE, "parts": [{"adapter": LAW}, {"adapter": "law.other"}]}, 422, "adapter_base_mismatch", "other"),
        ({**COMPOSE, "parts": [{"adapter": LAW}, {"adapter": "law.wide"}]}, 422, "compose_rank_too_large",
         "the ranks 4 + 253 come to 257"),
        ({**COMPOSE, "parts": [{"adapter": LAW}, {"adapter": "law.both"}]}, 422, "compose_part_twice",
         f"{LAW}@1 is within law.both@1 already"),
        ({**COMPOSE, "method": "svd"}, 422, "request_invalid", "name it in `rank`"),
        ({**COMPOSE, "rank": 4}, 422, "request_invalid", "leave `rank` out"),
        ({**COMPOSE, "method": "ties", "rank": 4, "density": 0}, 422, "request_invalid", "should be greater than 0"),
        ({**COMPOSE, "method": "ties", "rank": 4, "density": 1.5}, 422, "request_invalid", "less than or equal to 1"),
        ({**COMPOSE, "method": "svd", "rank": 4, "density": 0.5}, 422, "request_invalid", "leave `density` out"),
        ({**COMPOSE, "dataset": "gone"}, 404, "dataset_not_found", "gone"),
    ],
)  # fmt: skip
async def test_what_cannot_be_composed_is_refused_at_submit(train, ledger, add, ask, status, expected, said):
    add("law.theirs", tenant_id="other"), add("law.dora", use_dora=True), add("law.heads", modules_to_save=["lm_head"])
    law = add(LAW)
    add("law.classifier", task_type="SEQ_CLS"), add("law.other", base_model="other"), add("law.wide", r=253)
    add("law.both", parts=(AdapterPart(ref=law.ref, digest=law.digest), AdapterPart(digest="e" * 64)))
    if ask["kind"] == "adapter.compose" and expected != "request_invalid" and "dataset" not in ask:
        ask = {**ask, "unjudged": True}
    answer = await train.post(PATH, json=ask)
    assert code(answer, status) == expected, answer.text
    assert said in answer.text


async def test_an_adapter_of_a_base_model_that_no_live_trainer_has_is_refused(train, ledger, add):
    ledger.do(calls.heartbeat("trainer", ["train", "train@tiny"], [], {}, 60))
    add("law.other", base_model="other")
    answer = await train.post(PATH, json={**ON, "on": "law.other"})
    assert code(answer, 422) == "adapter_base_mismatch"
    assert "trainers have tiny; train it anew on one of these, or start a trainer" in answer.json()["detail"]
    assert body_of(ledger, await train.post(PATH, json=ON))["base_model"] == "tiny"


async def test_what_it_costs_to_ask_every_arm_is_said(train, registry):
    registry.speeds.add("tiny", Speed(pace="float32", step_flops=1e9, flops_per_second=1e4))
    alone = (await train.post(f"{PATH}/estimate", json={**ON, "on": None})).json()
    over = (await train.post(f"{PATH}/estimate", json=ON)).json()
    assert over["estimate"]["seconds"] > alone["estimate"]["seconds"]  # four arms in place of two
    assert over["tokens"] == alone["tokens"]
    stack = (await train.post(f"{PATH}/estimate", json={**COMPOSE, "dataset": "rows"})).json()
    assert (stack["language_model"], stack["rows"], stack["steps"], stack["memory"]) == ("asked", 0, 0, None)
    merged = {**COMPOSE, "dataset": "rows", "method": "svd", "rank": 4}
    assert (await train.post(f"{PATH}/estimate", json=merged)).json()["estimate"]["seconds"] > stack["estimate"][
        "seconds"
    ]
    unjudged = (await train.post(f"{PATH}/estimate", json={**COMPOSE, "unjudged": True})).json()
    assert (unjudged["language_model"], unjudged["estimate"]) == ("none", None)


async def test_a_composition_shows_its_parts(train, add, api):
    add("law.both", parts=(AdapterPart(ref=f"{LAW}@1", digest="d" * 64), AdapterPart(digest="e" * 64, weight=0.5)))
    shown = (await api["admin"].get("/v1/adapters/law.both")).json()["parts"]
    assert [(part["ref"], part["digest"][0], part["weight"]) for part in shown] == [
        (f"{LAW}@1", "d", 1.0),
        ("", "e", 0.5),
    ]


ARM = {"value": 0.5, "low": 0.4, "high": 0.6}
RESULT = {
    "label": TASK, "ref": f"{TASK}@1", "published": True, "why": "fine", "rank": 12, "slots": 2, "lost": 0.25,
    "parts": [{"ref": f"{LAW}@1", "digest": "d" * 64, "weight": 1.0}], "measure": "rouge_l",
    "arms": [{"arm": "base", "role": "base", "exact_match": ARM, "rouge_l": ARM}],
}  # fmt: skip


async def test_a_command_composes_and_shows_the_arms(command, train, worker, ledger):
    words = ("adapters", "compose", "--label", TASK, "--dataset", "rows", "--method", "svd", "--rank", "4")
    process = command(*words, LAW, "law.task=0.5", "--wait")
    said = await asyncio.to_thread(process.stderr.readline)
    job = worker.take(said.split()[-1], "train")
    asked = {name: job.body[name] for name in ("kind", "method", "rank", "parts")}
    parts = [{"adapter": f"{LAW}@1", "weight": 1.0}, {"adapter": "law.task@1", "weight": 0.5}]
    assert asked == {"kind": "adapter.compose", "method": "svd", "rank": 4, "parts": parts}
    worker.end(job, JobState.SUCCEEDED, result=RESULT)
    out, err = await asyncio.to_thread(process.communicate)
    told = dict(line.split("\t") for line in out.splitlines())
    assert (process.returncode, told["ref"], told["published"]) == (0, f"{TASK}@1", "yes: fine"), err
    assert told["rouge_l: base"] == "0.500 (in truth 0.40 to 0.60)"
    assert f"releases edit --add {TASK}={TASK}@1" in err


@pytest.mark.parametrize(("parts", "said"), [((LAW, f"{LAW}=2"), "named twice"), ((LAW, "law.task=x"), "REF=WEIGHT")])
async def test_a_command_names_a_part_that_is_typed_wrongly(command, train, parts, said):
    process = command("adapters", "compose", "--label", TASK, "--unjudged", *parts)
    _, err = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 2
    assert said in " ".join(err.replace("│", " ").split())


async def test_a_command_trains_on_a_domain(command, train, ledger):
    process = command("train", "adapter", "--label", TASK, "--dataset", "rows", "--on", LAW, "--json")
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0, err
    assert ledger.do(calls.get(json.loads(out)["id"])).body["on"] == f"{LAW}@1"


def test_what_was_not_published_is_said_on_its_page():
    refused = {**RESULT, "ref": "", "published": False, "why": "worse"}
    assert training_pages.composition(refused)["published"] == "no: worse"
    assert list(training_pages.next_steps(refused)) == [f"nothing was published; {TASK} answers as before"]
