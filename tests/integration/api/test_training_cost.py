"""What a training will take: said before it is queued, and refused above the operator's limit unless confirmed."""

import asyncio
import json
import re

import pytest

from shared.contracts.jobs import JobState
from shared.contracts.manifests import BaseModelManifest, ReleaseSelector, TrainedAs
from shared.contracts.training_cost import Speed, training_flops
from shared.contracts.training_settings import LoraSettings
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from tests.support.api import code, make_release

PATH = "/v1/training/jobs"
SHAPES = {f"model.layers.{layer}.{name}_proj": (1024, 1024) for layer in range(4) for name in "qkvo"}
ADAPTER = {"kind": "adapter.train", "label": "fin.sa", "dataset": "hundred"}
SELECTOR = {"kind": "selector.train", "labels": {"fin.sa": "hundred", "fin.ha": "hundred"}, "selector": "cascade"}
ADD = {"kind": "selector.add", "labels": {"law.ie": "hundred"}}
OLD = LoraSettings(epochs=1, batch_size=4, precision="bfloat16")


@pytest.fixture
def base(ledger, registry, settings):
    """The base model that is served; its trainings do a token in a hundredth of a second."""
    pin = settings.data_dir.parent.name.replace("_", "-")
    manifest = BaseModelManifest(id=pin, shapes=SHAPES, vocabulary_size=1000)
    registry.base_models.publish(manifest)
    ledger.do(calls.heartbeat("worker", ["generate.base", f"generate.base@{manifest.id}"], [], {}, 60))
    flops = training_flops(SHAPES, LoraSettings())
    registry.speeds.add(manifest.id, Speed(pace="float32", step_flops=1e9, flops_per_second=100 * flops))
    return manifest.id


@pytest.fixture
async def train(api, base):
    lines = [json.dumps({"input": f"{n:03} " + "word " * 20, "output": "x"}) for n in range(100)]
    await api["train"].post("/v1/datasets?name=hundred", content="\n".join(lines).encode())
    return api["train"]


async def estimate(train, **ask):
    answer = await train.post(f"{PATH}/estimate", json=ask)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_training_is_estimated_from_rows_tokens_steps_and_the_speed_of_former_ones(train, ledger):
    quote = await estimate(train, **ADAPTER, settings={"epochs": 2, "batch_size": 8})
    assert quote["language_model"] == "trained"
    found = quote["estimate"]
    assert found["steps"] == 2 * 10  # 80 of 100 rows are trained on
    assert 2 * 80 * 30 < found["tokens"] < 2 * 80 * 60
    assert found["tokens"] / 100 < found["seconds"] < found["tokens"] / 50
    assert found["basis"] == "measured"
    assert not quote["needs_confirmation"]
    assert not ledger.redis.keys(LedgerKey.JOB.pattern)


async def test_what_a_training_takes_of_a_card_is_said_for_the_precision_of_the_trainer(train, registry, base):
    float32 = (await estimate(train, **ADAPTER, settings={"dropout": 0}))["memory"]
    registry.speeds.add(base, Speed(pace="bfloat16", step_flops=1e9, flops_per_second=1e9, auto="bfloat16"))
    bfloat16 = (await estimate(train, **ADAPTER, settings={"dropout": 0}))["memory"]
    assert float32["weights"] == 2 * bfloat16["weights"] == 4 * (16 * 1024**2 + 1000 * 1024)
    assert float32["adapter"] == bfloat16["adapter"] == 16 * 8 * 2048 * 16
    assert bfloat16["logits"] == 16 * 8 * 512 * 1000
    assert float32["total_checkpointed"] < float32["total"]
    named = {**SELECTOR, "settings": {"dropout": 0}}
    assert (await estimate(train, **named))["memory"]["logits"] == 16 * 8 * 32 * 1000
    light = await estimate(train, **{**SELECTOR, "selector": "light"})
    assert (light["memory"], light["rows"], light["tokens"], light["steps"]) == (None, 0, 0, 0)


async def test_a_dry_run_prints_what_a_training_takes_and_starts_nothing(train, command, ledger):
    words = ("train", "adapter", "--label", "fin.sa", "--dataset", "hundred", "--dry-run")

    async def run(*more):
        process = command(*words, *more)
        out, err = await asyncio.to_thread(process.communicate, timeout=60)
        return process.returncode, out, err

    status, out, err = await run()
    told = dict(line.split("\t") for line in out.splitlines())
    assert (status, told["language model"], told["rows"], told["steps"]) == (0, "trained", "80", "50"), err
    assert int(told["tokens"]) > 5 * 80 * 30
    for name in ("memory on a card", "with gradient checkpointing"):
        assert re.fullmatch(r"at most 0\.\d\d GiB", told[name])
    assert told["time"].endswith("(measured)")
    status, out, err = await run("--json")
    quote = await estimate(train, **ADAPTER)
    assert (status, json.loads(out)["memory"]) == (0, quote["memory"]), err
    assert not ledger.redis.keys(LedgerKey.JOB.pattern)


async def test_a_dry_run_names_what_is_wrong_as_a_training_would(command, train):
    for words, said in (
        (("--dataset", "hundred", "--wait"), "--dry-run starts nothing"),
        (("--dataset", "none of this name"), "dataset_not_found"),
    ):
        process = command("train", "adapter", "--label", "fin.sa", "--dry-run", *words)
        _, err = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode != 0
        assert said in err


async def test_an_estimate_above_the_limit_is_refused_until_it_is_confirmed(train, ledger):
    costly = {**ADAPTER, "settings": {"epochs": 100}}
    assert (await estimate(train, **costly))["needs_confirmation"]
    refused = await train.post(PATH, json=costly)
    assert code(refused, 422) == "training_costly"
    assert "confirm_cost" in refused.json()["detail"]
    assert not ledger.redis.keys(LedgerKey.JOB.pattern)
    accepted = await train.post(PATH, json={**costly, "confirm_cost": True})
    assert ledger.do(calls.get(accepted.json()["id"])).state is JobState.QUEUED


async def test_words_alone_cost_nothing_and_auto_asks_for_no_confirmation_because_words_come_first(train):
    costly = {"settings": {"epochs": 100}}
    assert (await train.post(PATH, json={**SELECTOR, **costly})).status_code == 422
    light = await estimate(train, **{**SELECTOR, "selector": "light"}, **costly)
    assert (light["language_model"], light["estimate"]) == ("none", None)
    review = await estimate(train, kind="traffic.review")
    assert (review["language_model"], review["estimate"], review["needs_confirmation"]) == ("none", None, False)
    default = {**SELECTOR, **costly}
    del default["selector"]
    auto = await estimate(train, **default)
    assert (auto["language_model"], auto["needs_confirmation"]) == ("if_needed", True)
    assert (await train.post(PATH, json=default)).status_code == 202


@pytest.mark.parametrize("parent", ["noted", "of an older version"])
async def test_an_update_is_trained_as_its_release_was_and_counts_the_rows_that_it_keeps(
    train, registry, base, ledger, parent
):
    rows = registry.datasets.rows("default", "hundred")
    key = registry.datasets.put_rows("default", rows)
    noted = {"trained_as": TrainedAs(settings=OLD, has_head=False).model_dump(mode="json")}
    release = make_release(("fin.sa", "fin.ha"), base_model=base, report=noted if parent == "noted" else {})
    sets = {"fin.sa": key, "fin.ha": key}
    release = release.model_copy(update={"representation": sets, "validation": sets})
    registry.releases._records.add("default", release.id, release)
    ask = {**ADD, "parent": release.id, "retention": 0.5}
    found = (await estimate(train, **ask))["estimate"]
    trained = 80 + 100  # of the new label, and half of the old ones
    assert found["steps"] == (trained // 4 if parent == "noted" else 5 * -(-trained // 8))
    job = (await train.post(PATH, json=ask)).json()["id"]
    kept = LoraSettings(**ledger.do(calls.get(job)).body["settings"])
    assert kept == (OLD if parent == "noted" else LoraSettings())
    named = await train.post(PATH, json={**ask, "settings": {"epochs": 3}})
    assert LoraSettings(**ledger.do(calls.get(named.json()["id"])).body["settings"]) == LoraSettings(epochs=3)
    light = await estimate(train, **ask, selector="light")
    assert light["language_model"] == "none"


async def test_an_update_of_words_alone_stays_one(train, registry):
    light = ReleaseSelector(light="d" * 64, labels=("fin.sa", "fin.ha"))
    release = make_release(("fin.sa", "fin.ha")).model_copy(update={"selector": light})
    registry.releases._records.add("default", release.id, release)
    assert (await estimate(train, **ADD, parent=release.id))["language_model"] == "none"


async def test_without_a_known_speed_a_training_is_queued_and_its_trainer_tells_the_cost(train, ledger, registry):
    ledger.do(calls.heartbeat("other", ["generate.fin", "generate.fin@unknown"], [], {}, 60))
    costly = {**ADAPTER, "settings": {"epochs": 100}}
    quote = await estimate(train, **costly)
    assert (quote["estimate"], quote["memory"], quote["rows"]) == (None, None, 80)
    assert (await train.post(PATH, json=costly)).status_code == 202
