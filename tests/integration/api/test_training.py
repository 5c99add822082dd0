"""`/v1/training/jobs`: checked at submit, queued in order."""

import asyncio
import json

import pytest

from services.api.training.service import SelectorTrainRequest, gate_limits
from shared.contracts.jobs import JobState
from shared.contracts.manifests import BaseModelManifest
from shared.contracts.training import parse_training
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.settings import Settings
from tests.support.api import client_of, code, make_release, serving

ROWS = b'{"input": "a"}\n{"input": "b"}\n{"input": "c"}\n{"input": "d"}\n'
ADAPTER = {"kind": "adapter.train", "label": "fin.sa", "dataset": "demo"}
COMPARISON = {"kind": "comparison.train", "labels": {"fin.sa": "demo", "fin.ha": "demo"}}
SELECTOR = {"kind": "selector.train", "labels": {"fin.sa": "demo", "fin.ha": "demo"}}


@pytest.fixture
async def train(api):
    await api["train"].post("/v1/datasets?name=demo", content=ROWS)
    await api["train"].post("/v1/datasets?name=one", content=b'{"input": "a"}\n')
    await api["train"].post("/v1/datasets?name=three", content=b'{"input": "a"}\n{"input": "b"}\n{"input": "c"}\n')
    return api["train"]


@pytest.mark.parametrize(
    "ask",
    [
        {**ADAPTER, "instruction": "Judge.", "settings": {"rank": 4, "method": "dora", "epochs": 2, "seed": 7}},
        {**SELECTOR, "background": "demo", "selection": {"rows_per_label": 50, "distance": "cos"}, "promote": True},
        {"kind": "selector.add", "labels": {"law.ie": "demo"}, "retention": 0.3},
        {"kind": "selector.balance", "labels": {"law.ie": "demo"}, "easy": ["law.mc"], "retention": "auto"},
        {"kind": "selector.delete", "labels": ["law.ie"], "retention": 0.1, "deleted_texts": "forget"},
        {"kind": "traffic.review", "window": 200, "windows": 4},
    ],
    ids=lambda ask: ask["kind"],
)
async def test_what_is_queued_is_what_the_trainer_reads(api, train, ledger, broker, ask):
    answer = await api["admin"].post("/v1/training/jobs", json=ask)
    assert answer.status_code == 202
    job = ledger.do(calls.get(answer.json()["id"], "default"))
    assert (job.queue, job.state) == ("train", JobState.QUEUED)
    demo = (await train.get("/v1/datasets/demo")).json()["id"]
    read = parse_training(job.body).with_datasets(lambda ref, label, rows: {demo: "demo"}[ref]).model_dump(mode="json")
    assert {name: read[name] for name in ask if name not in ("settings", "selection")}.items() <= ask.items()
    _, message = await asyncio.to_thread(broker.brpop, "train", 10)
    assert json.loads(message)["headers"]["id"] == job.id


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        ({"kind": "selector.magic"}, 422, "kind_unsupported"),
        ({"kind": None}, 422, "kind_unsupported"),
        ({"dataset": "none"}, 404, "dataset_not_found"),
        ({"dataset": "one"}, 422, "dataset_too_small"),
        ({"dataset": "three"}, 422, "dataset_too_small"),
        ({"validation": "one"}, 422, "dataset_too_small"),
        ({"label": "fin sa"}, 422, "label_malformed"),
        ({"colour": "red"}, 422, "request_invalid"),
        ({"settings": {"rank": 0}}, 422, "request_invalid"),
        ({"settings": {"rank": 100_000}}, 422, "request_invalid"),
        ({"settings": {"learning_rate": "fast"}}, 422, "request_invalid"),
        ({"settings": {"epochs": 0}}, 422, "request_invalid"),
        ({"after": ["x"] * 65}, 422, "request_invalid"),
        ({"after": ["job_none"]}, 422, "dependency_unknown"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_wrong_training_job_is_refused_at_submit(train, ledger, change, status, expected):
    answer = await train.post("/v1/training/jobs", json={**ADAPTER, **change})
    assert code(answer, status) == expected
    assert not ledger.redis.keys(LedgerKey.JOB.pattern)


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        ({"labels": {}}, 422, "request_invalid"),
        ({"labels": {"fin.sa": "demo"}}, 422, "request_invalid"),
        ({"labels": {"fin.sa": "demo", "fin.ha": "none"}}, 404, "dataset_not_found"),
        ({"background": "none"}, 404, "dataset_not_found"),
        ({"selection": {"distance": "manhattan"}}, 422, "request_invalid"),
        ({"selection": {"embedder": "bert"}}, 422, "request_invalid"),
        ({"selection": {"rows_per_label": 0}}, 422, "request_invalid"),
        ({"selection": {"hidden_layer": 1001}}, 422, "request_invalid"),
        ({"selection": {"max_tokens": 0}}, 422, "request_invalid"),
        ({"selection": {"shortfall": "ignore"}}, 422, "request_invalid"),
        ({"min_accuracy": 1.5}, 422, "request_invalid"),
        ({"reject_policy": "maybe"}, 422, "request_invalid"),
        ({"templates": {"fin.sa": "nope"}}, 422, "template_unknown"),
        ({"templates": {"law.ie": "plain"}}, 422, "request_invalid"),
        ({"instructions": {"law.ie": "Judge."}}, 422, "request_invalid"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_wrong_selector_job_is_refused_at_submit(train, ledger, change, status, expected):
    answer = await train.post("/v1/training/jobs", json={**SELECTOR, **change})
    assert code(answer, status) == expected
    assert not ledger.redis.keys(LedgerKey.JOB.pattern)


@pytest.mark.parametrize(
    ("ask", "chosen", "expected"),
    [
        (ADAPTER, {"target_modules": [f"layers.{n}.self_attn.q_proj" for n in range(65)]}, None),
        (ADAPTER, {"method": "pissa", "rank": 129}, "adapter_rank_too_large"),
        (ADAPTER, {"method": "pissa", "rank": 65, "target_modules": ["up_proj"]}, "rank_too_large"),
        (ADAPTER, {"target_modules": ["embed_tokens"]}, "target_modules_unknown"),
        (ADAPTER, {"target_modules": []}, "request_invalid"),
        (SELECTOR, {"target_modules": ["embed_tokens"]}, "target_modules_unknown"),
        (COMPARISON, {"target_modules": ["w_pack"]}, "target_modules_unknown"),
        (SELECTOR | {"selector": "light"}, {"target_modules": ["embed_tokens"]}, None),
        (ADAPTER, {"target_modules": "all-linear"}, None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_could_not_be_trained_or_stored_on_the_base_model_is_refused_at_submit(
    train, ledger, registry, ask, chosen, expected
):
    layer = dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), (256, 256)) | {"up_proj": (64, 256)}
    shapes = {f"model.layers.{n}.self_attn.{name}": shape for n in range(80) for name, shape in layer.items()}
    registry.base_models.publish(BaseModelManifest(id="planned", shapes=shapes))
    ledger.do(calls.heartbeat("worker", ["generate.base", "generate.base@planned"], [], {}, 60))
    answer = await train.post("/v1/training/jobs", json={**ask, "settings": chosen})
    assert (code(answer, 422) if expected else answer.status_code) == (expected or 202)
    assert bool(ledger.redis.keys(LedgerKey.JOB.pattern)) is not bool(expected)


async def test_a_rank_above_the_operators_limit_is_refused_at_submit(settings, tokens, ledger, registry):
    layer = "model.layers.0.self_attn.q_proj"
    registry.base_models.publish(BaseModelManifest(id="planned", shapes={layer: (256, 256)}))
    ledger.do(calls.heartbeat("worker", ["generate.base", "generate.base@planned"], [], {}, 60))
    limited = settings.model_copy(update={"max_adapter_rank": 4})
    async with serving(limited) as (_, url), client_of(url, tokens["train"]) as train:
        await train.post("/v1/datasets?name=demo", content=ROWS)
        chosen = {"target_modules": ["q_proj"], "rank": 5}
        refused = await train.post("/v1/training/jobs", json={**ADAPTER, "settings": chosen})
        assert code(refused, 422) == "adapter_rank_too_large"
        taken = await train.post("/v1/training/jobs", json={**ADAPTER, "settings": chosen | {"rank": 4}})
        assert taken.status_code == 202


@pytest.mark.parametrize("kind", ["selector.train", "selector.add", "selector.balance", "selector.delete"])
async def test_a_training_job_that_promotes_needs_the_scope(train, ledger, kind):
    ask = {"kind": kind, "labels": ["fin.sa"] if kind == "selector.delete" else SELECTOR["labels"], "promote": True}
    assert code(await train.post("/v1/training/jobs", json=ask), 403) == "scope_missing"
    assert not ledger.redis.keys(LedgerKey.JOB.pattern)


@pytest.mark.parametrize("loose", [{"min_accuracy": 0.79}, {"max_loss": 0.011}], ids=str)
async def test_a_job_may_only_tighten_the_operators_gate(train, ledger, loose):
    refused = await train.post("/v1/training/jobs", json={**SELECTOR, **loose})
    assert code(refused, 422) == "gate_loosened"
    assert f"SIGNALBOX_GATE_{next(iter(loose)).upper()}" in refused.json()["detail"]
    tight = {"min_accuracy": 0.9, "max_loss": 0.005}
    job_id = (await train.post("/v1/training/jobs", json={**SELECTOR, **tight})).json()["id"]
    body = ledger.do(calls.get(job_id)).body
    assert (body["min_accuracy"], body["max_loss"]) == (0.9, 0.005)


def test_a_job_that_names_no_limit_gets_the_operators():
    request = SelectorTrainRequest(**SELECTOR, max_loss=0.01)
    settings = Settings(gate_min_accuracy=0.95, gate_max_loss=0.02)
    assert gate_limits(settings, request) == {"min_accuracy": 0.95}


async def test_rows_that_carry_another_label_do_not_count(train):
    rows = b'{"input": "a", "label": "fin.ha"}\n' + ROWS.replace(b'"a"', b'"e"').removesuffix(b'{"input": "d"}\n')
    await train.post("/v1/datasets?name=mixed", content=rows)
    answer = await train.post("/v1/training/jobs", json={**ADAPTER, "dataset": "mixed"})
    assert code(answer, 422) == "dataset_too_small"
    assert (await train.post("/v1/training/jobs", json={**ADAPTER, "label": "fin.ha", "dataset": "mixed"})).is_success


async def test_a_name_means_what_it_meant_at_submit_and_the_same_key_the_same_job(train, ledger):
    meant = (await train.get("/v1/datasets/demo")).json()["id"]
    first = await train.post("/v1/training/jobs", json=ADAPTER, headers={"Idempotency-Key": "k"})
    await train.post("/v1/datasets?name=demo", content=ROWS + b'{"input": "e"}\n')
    again = await train.post("/v1/training/jobs", json=ADAPTER, headers={"Idempotency-Key": "k"})
    assert again.json() == first.json()
    assert ledger.do(calls.get(first.json()["id"])).body["dataset"] == meant
    other = await train.post("/v1/training/jobs", json={**ADAPTER, "label": "fin.ha"}, headers={"Idempotency-Key": "k"})
    assert code(other, 422) == "idempotency_key_reused"


async def test_labels_are_added_to_the_release_of_now_or_to_that_of_the_jobs_before(train, ledger, release):
    ask = {"kind": "selector.add", "labels": {"law.ie": "demo"}}
    now = (await train.post("/v1/training/jobs", json=ask)).json()["id"]
    later = (await train.post("/v1/training/jobs", json={**ask, "after": [now]})).json()["id"]
    assert [ledger.do(calls.get(job_id)).body["parent"] for job_id in (now, later)] == [release.id, ""]


@pytest.mark.parametrize(
    ("ask", "status", "expected"),
    [
        ({"kind": "selector.add", "labels": {"fin.sa": "demo"}}, 409, "label_exists"),
        ({"kind": "selector.add", "labels": {"law.ie": "demo"}, "retention": 1.5}, 422, "request_invalid"),
        ({"kind": "selector.add", "labels": {"law.ie": "demo"}, "parent": "rel_none"}, 404, "release_not_found"),
        ({"kind": "selector.delete", "labels": ["law.ie"]}, 422, "label_unknown"),
        ({"kind": "selector.delete", "labels": ["fin.sa", "fin.ha", "med.qa"]}, 422, "labels_too_few"),
        ({"kind": "selector.delete", "labels": ["fin.sa"], "retention": -1}, 422, "request_invalid"),
        ({"kind": "selector.balance", "hard": ["law.ie"]}, 422, "label_unknown"),
        ({"kind": "selector.balance", "labels": {"fin.sa": "none"}}, 404, "dataset_not_found"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_an_update_that_does_not_fit_the_release_is_refused_at_submit(
    train, ledger, release, ask, status, expected
):
    assert code(await train.post("/v1/training/jobs", json=ask), status) == expected
    assert not ledger.redis.keys(LedgerKey.JOB.pattern)


async def test_jobs_wait_for_those_they_name_and_fail_with_them(train, worker):
    first = (await train.post("/v1/training/jobs", json=ADAPTER)).json()["id"]
    second = (await train.post("/v1/training/jobs", json={**SELECTOR, "after": [first]})).json()["id"]
    assert (await train.delete(f"/v1/training/jobs/{first}")).json()["state"] == "cancelled"
    view = (await train.get(f"/v1/training/jobs/{second}")).json()
    assert (view["state"], view["error"]["code"]) == ("failed", "dependency_failed")
    listed = (await train.get("/v1/training/jobs?state=failed")).json()["items"]
    assert [job["id"] for job in listed] == [second]


async def test_progress_is_shown_and_streamed(train, worker):
    job_id = (await train.post("/v1/training/jobs", json=ADAPTER)).json()["id"]
    job = worker.take(job_id, "train")
    worker.tell(job, "progress", step=1, steps=2, loss=0.5)
    assert (await train.get(f"/v1/training/jobs/{job_id}")).json()["progress"] == {"step": 1, "steps": 2, "loss": 0.5}
    worker.end(job, JobState.SUCCEEDED, result={})
    stream = (await train.get(f"/v1/training/jobs/{job_id}/events")).text
    assert [line for line in stream.splitlines() if line.startswith("event")] == [
        "event: state", "event: state", "event: progress", "event: state",
    ]  # fmt: skip


async def test_a_generation_is_no_training_job(api, release):
    job_id = (await api["admin"].post("/v1/jobs", json={"input": "x"})).json()["id"]
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        assert code(await api["admin"].request(method, f"/v1/training/jobs/{job_id}{path}"), 404) == "job_not_found"


async def test_a_candidate_whose_parent_was_replaced_is_trained_anew_on_the_current_release(
    train, ledger, registry, release
):
    ask = {"kind": "selector.add", "labels": {"law.ie": "demo"}, "retention": 0.3, "promote": False}
    first = (await train.post("/v1/training/jobs", json=ask)).json()["id"]
    candidate = make_release(parent=release.id, made_by=first)
    other = make_release(labels=("fin.sa", "fin.ha"), parent=release.id, made_by="a person")
    for one in (candidate, other):
        registry.releases.add(one)
    registry.releases.promote("default", other.id, force=True)
    keyed = {"Idempotency-Key": "again"}
    answers = [await train.post(f"/v1/releases/{candidate.id}/rebuild", headers=keyed) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"] != first
    before, now = (ledger.do(calls.get(job)).body for job in (first, answers[0].json()["id"]))
    assert (before["parent"], now["parent"]) == (release.id, other.id)
    assert {**before, "parent": ""} == {**now, "parent": ""}
    assert code(await train.post(f"/v1/releases/{other.id}/rebuild"), 409) == "candidate_not_trained"
    assert code(await train.post("/v1/releases/rel_none/rebuild"), 404) == "release_not_found"
