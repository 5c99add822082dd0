"""Adapters trained over others and adapters composed of others, as queued jobs."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.trainer.data.examples import InstructionRow
from services.trainer.evaluation.generate import answer_rows
from services.trainer.handlers import run_kind, train
from shared.adapter_files import AdapterLimits, BaseShapes, check_adapter
from shared.contracts.compose import AdapterPart
from shared.contracts.jobs import JobState
from shared.contracts.manifests import AdapterManifest
from shared.contracts.rows import Row
from shared.errors import Conflict
from shared.model.base import load_model
from shared.model.merge import with_adapter
from shared.registry.collect import collect, garbage
from tests.support.composition import both_active, logits, random_adapter
from tests.support.training import context_of

LAW, TASK = "law.texts", "law.qa"
LEARNT = {"epochs": 4, "rank": 4, "learning_rate": 0.02, "batch_size": 4, "max_length": 300, "dropout": 0}
LEARNT |= {"target_modules": "all-linear", "checkpoint_steps": 10}
EXACT = 1e-5


def answers(count=24, start=0):
    numbers = range(start, start + count)
    return [Row(instruction="Say it.", input=f"word {at}", output="yes" if at % 2 else "no") for at in numbers]


@pytest.fixture
def add(clients, tiny_folder, tmp_path):
    """Register a random adapter under a label."""

    def made(label, seed=0, base_model=None, template="chatml", tenant_id="t", size=0.02, **config):
        config = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **config}
        folder = random_adapter(tiny_folder, tmp_path / f"{label}-{seed}-{len(config)}", seed, size=size, **config)
        manifest = AdapterManifest(
            tenant_id=tenant_id,
            label=label,
            version=0,
            digest="",
            base_model=base_model or clients.base_model,
            template=template,
        )
        return clients.registry.adapters.add(folder, manifest)

    return made


@pytest.fixture
def domain(add):
    return add(LAW, 1, lora_dropout=0.3)


@pytest.fixture
def rows(clients):
    clients.registry.datasets.add("t", "known", answers())
    clients.registry.datasets.add("t", "held-back", answers(12, 24))


@pytest.fixture
def train_on(jobs, run, rows):
    def made(on=LAW, **body):
        body = {"label": TASK, "dataset": "known", "validation": "held-back", "settings": LEARNT, **body}
        return run(jobs.train(kind="adapter.train", on=on, **body))

    return made


@pytest.fixture
def compose(jobs, run, rows):
    def made(*parts, **body):
        body = {"label": TASK, "dataset": "held-back", "parts": [{"adapter": part} for part in parts], **body}
        if body["dataset"] is None:
            body |= {"unjudged": True}
        return run(jobs.new_training(kind="adapter.compose", **body))

    return made


def folder_of(clients, digest):
    return clients.registry.weights.fetch(digest)


def test_a_task_trained_on_a_domain_is_published_as_their_exact_sum_with_its_four_arms(
    clients, train_on, domain, tiny_folder
):
    job = train_on()
    assert job.state is JobState.SUCCEEDED, job.error
    result = job.result
    assert [(arm["arm"], arm["role"]) for arm in result["arms"]] == [
        ("base", "base"), (f"{LAW}@1", "part"), ("task", "part"), ("composition", "composition"),
    ]  # fmt: skip
    assert result["published"], result["why"]
    scores = {arm["arm"]: arm["exact_match"]["value"] for arm in result["arms"]}
    assert (result["base_exact_match"], result["adapter_exact_match"]) == (scores["base"], scores["composition"])
    assert (result["rank"], result["slots"], result["on"]) == (8, 1, f"{LAW}@1")
    manifest = clients.registry.adapters.get("t", TASK)
    assert (manifest.ref, manifest.digest) == (result["ref"], result["adapter"])
    below, task = manifest.parts
    assert (below.ref, below.digest, task.ref) == (f"{LAW}@1", domain.digest, "")
    made = with_adapter(load_model(tiny_folder, "float32", "cpu"), folder_of(clients, manifest.digest))
    both = both_active(tiny_folder, folder_of(clients, domain.digest), folder_of(clients, task.digest))
    assert (logits(made) - logits(both)).abs().max() < EXACT
    check_adapter(folder_of(clients, manifest.digest), BaseShapes.from_folder(tiny_folder), AdapterLimits())


def test_what_it_learnt_over_the_domain_is_composed_again_from_its_own_part(clients, train_on, compose, domain):
    first = train_on().result
    own = first["parts"][1]["digest"]
    again = compose(LAW, own, dataset=None).result
    assert again["adapter"] == first["adapter"]
    twice = compose(LAW, first["ref"], dataset=None)
    assert (twice.state, twice.error["code"]) == (JobState.FAILED, "compose_part_twice")
    assert f"leave it out, or name what else {first['ref']} is made of ({own})" in twice.error["detail"]


def test_a_training_on_a_domain_that_is_killed_is_resumed_by_the_same_domain(
    clients, jobs, train_on, rows, domain, add, run
):
    body = {"label": TASK, "dataset": "known", "validation": "held-back", "settings": LEARNT, "evaluate_rows": 4}
    whole = train_on(**{name: body[name] for name in ("evaluate_rows",)}).result
    job_id = jobs.train(kind="adapter.train", on=LAW, **body)

    class Killed(BaseException):
        pass

    def until_a_checkpoint(job):
        context = context_of(job, clients)
        save, seen = context.callbacks, []

        def callbacks(self, run=""):
            found = save(run)

            def on_checkpoint(folder, step):
                found.on_checkpoint(folder, step)
                seen.append(step)
                raise Killed

            return found._replace(on_checkpoint=on_checkpoint)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(context), "callbacks", callbacks)
            with pytest.raises(Killed):
                run_kind(context)
        return seen

    seen = jobs.lose_after(job_id, until_a_checkpoint)
    add(LAW, 2)  # a newer version of the domain's label, which the job does not begin to use
    job = run(job_id)
    assert seen == [10]
    assert job.state is JobState.SUCCEEDED, job.error
    assert (job.result["on"], job.result["parts"]) == (f"{LAW}@1", whole["parts"])
    assert job.result["adapter"] == whole["adapter"]


def test_over_the_labels_own_adapter_a_second_lora_is_trained_and_that_is_said(train_on):
    assert train_on(on=None).result["ref"] == f"{TASK}@1"
    again = train_on(on=TASK, evaluate_rows=0).result
    assert again["ref"] == f"{TASK}@2"
    assert again["rank"] == 8
    assert any(f"{TASK}@1 is the label's own" in warning for warning in again["warnings"])


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({"on": "law.gone"}, "adapter_not_found", "law.gone"),
        ({"on": "law.foreign"}, "adapter_base_mismatch", "train it anew"),
        ({"on": "law.dora"}, "adapter_not_composable", "is DoRA"),
        ({"on": "law.theirs"}, "adapter_not_found", "law.theirs"),
        ({"settings": {**LEARNT, "rank": 7}}, "compose_rank_too_large", "train with rank 6 or less"),
        ({"settings": {**LEARNT, "method": "pissa"}}, "compose_rank_too_large", "train with rank 3 or less"),
    ],
)  # fmt: skip
def test_a_domain_that_cannot_be_below_is_refused_before_any_work(
    clients, jobs, attempts, add, domain, rows, given, code, said
):
    add("law.foreign", base_model="other"), add("law.theirs", tenant_id="other")
    add("law.dora", use_dora=True)
    body = {"label": TASK, "dataset": "known", "settings": LEARNT, "on": LAW, **given}
    job_id = jobs.train(kind="adapter.train", **body)
    limited = replace(clients, adapter_limits=AdapterLimits(max_rank=10))
    attempts.run("train", lambda attempt: train(attempt, limited))
    job = jobs.get(job_id)
    assert (job.state, job.error["code"]) == (JobState.FAILED, code), job.error
    assert said in job.error["detail"]
    assert clients.registry.adapters.list_all("t", TASK) == []


def test_a_composition_is_measured_beside_its_parts_and_is_the_labels_next_version(
    clients, compose, domain, train_on, tiny_folder
):
    task = train_on(on=None).result["ref"]
    job = compose(LAW, task)
    assert job.state is JobState.SUCCEEDED, job.error
    result = job.result
    assert [(arm["arm"], arm["role"]) for arm in result["arms"]] == [
        ("base", "base"), (f"{LAW}@1", "part"), (task, "part"), ("composition", "composition"),
    ]  # fmt: skip
    for arm in result["arms"]:
        for measure in ("exact_match", "rouge_l"):
            assert 0 <= arm[measure]["low"] <= arm[measure]["value"] <= arm[measure]["high"] <= 1
    assert (result["measure"], result["rank"], result["lost"]) == ("exact_match", 8, 0)
    assert result["published"], result["why"]
    manifest = clients.registry.adapters.get("t", TASK)
    assert (manifest.ref, manifest.template, manifest.instruction) == (result["ref"], "chatml", "Say it.")
    assert [(part.ref, part.weight) for part in manifest.parts] == [(f"{LAW}@1", 1.0), (task, 1.0)]
    made = with_adapter(load_model(tiny_folder, "float32", "cpu"), folder_of(clients, manifest.digest))
    both = both_active(tiny_folder, *(folder_of(clients, part.digest) for part in manifest.parts))
    assert (logits(made) - logits(both)).abs().max() < EXACT
    assert compose(LAW, task).result["ref"] == result["ref"]  # the same weights are no further version


@pytest.fixture
def sure(clients, add):
    """The version of an adapter whose own answers are the right ones of the rows that judge it."""
    manifest = add(TASK, 11, size=0.4)
    model = with_adapter(load_model(clients.base_folder, "float32", "cpu"), folder_of(clients, manifest.digest))
    asked = [InstructionRow("Say it.", f"word {at}", "a" * 24) for at in range(12)]
    said = answer_rows(model, clients.tokenizer, asked)
    right = [Row(instruction=r.instruction, input=r.input, output=text) for r, text in zip(asked, said, strict=True)]
    clients.registry.datasets.add("t", "own", right)
    return manifest.ref


def test_a_composition_that_is_worse_than_its_better_part_is_not_published_and_the_job_says_so(
    clients, compose, add, sure
):
    add("law.noise", 7, size=3.0)
    job = compose("law.noise", sure, dataset="own")
    assert job.state is JobState.SUCCEEDED, job.error
    result = job.result
    assert (result["published"], result["ref"], result["adapter"]) == (False, "", "")
    assert f"its better part {sure} has " in result["why"]
    assert result["why"].endswith("worse by more than a point, so keep using that part")
    assert [one.ref for one in clients.registry.adapters.list_all("t", TASK)] == [sure]


def test_a_task_that_is_worse_over_its_domain_than_the_domain_alone_is_not_published(clients, train_on, sure):
    wrong = [Row(instruction="Say it.", input=f"word {at}", output="zz") for at in range(16)]
    clients.registry.datasets.add("t", "wrong", wrong)
    job = train_on(on=sure, label="law.other", dataset="wrong", validation="own")
    assert job.state is JobState.SUCCEEDED, job.error
    assert (job.result["published"], job.result["ref"], job.result["adapter"]) == (False, "", "")
    assert f"its better part {sure}" in job.result["why"]
    assert clients.registry.adapters.list_all("t", "law.other") == []


@pytest.mark.parametrize("method", ["svd", "ties", "dare_ties"])
def test_a_merged_composition_takes_the_rank_that_is_asked_and_is_measured_beside_the_stack(
    clients, compose, domain, add, method
):
    add(TASK, 4, r=6)
    density = {} if method == "svd" else {"density": 0.7}
    job = compose(LAW, TASK, method=method, rank=5, **density)
    assert job.state is JobState.SUCCEEDED, job.error
    assert [arm["role"] for arm in job.result["arms"]] == ["base", "part", "part", "stack", "composition"]
    assert job.result["rank"] == 5
    assert 0 < job.result["lost"] < 2
    if job.result["published"]:
        assert clients.registry.adapters.get("t", job.result["ref"]).info["rank"] == 5


def test_without_rows_it_is_published_unmeasured_and_its_manifest_says_that(clients, compose, domain, add):
    add("law.task", 5)
    job = compose(LAW, "law.task", dataset=None, label="law.both")
    assert job.result["published"]
    assert (job.result["arms"], job.result["validation_rows"]) == ([], 0)
    manifest = clients.registry.adapters.get("t", "law.both")
    assert "nobody has measured it" in manifest.notes[0]


def test_it_answers_as_the_part_of_its_own_label_does_or_as_the_last_one(clients, compose, add):
    add(TASK, 6, template="alpaca"), add(LAW, 1), add("law.more", 8, template="plain")
    own = compose(TASK, LAW, dataset=None).result["ref"]
    assert clients.registry.adapters.get("t", own).template == "alpaca"
    last = compose(LAW, "law.more", dataset=None, label="law.both").result["ref"]
    assert clients.registry.adapters.get("t", last).template == "plain"


def test_a_killed_composition_measures_no_arm_twice(clients, jobs, rows, domain, add, run):
    add(TASK, 4)
    body = {"label": TASK, "dataset": "held-back", "parts": [{"adapter": LAW}, {"adapter": TASK}]}
    job_id = jobs.new_training(kind="adapter.compose", **body)

    class Killed(BaseException):
        pass

    def until_two_arms(job):
        context = context_of(job, clients)
        with pytest.MonkeyPatch.context() as patch:

            def report(self, stage, **more):
                if more.get("arm") == f"{TASK}@1":
                    raise Killed

            patch.setattr(type(context), "report", report)
            with pytest.raises(Killed):
                run_kind(context)
        return [key.rpartition("/")[2] for key in clients.store.keys(f"checkpoints/{job.id}/")]

    kept = jobs.lose_after(job_id, until_two_arms)
    assert {"arm-0.json", "arm-1.json", "parts.json"} <= set(kept)
    assert "arm-2.json" not in kept
    marked = {"exact_match": [0.25] * 12, "rouge_l": [0.25] * 12}
    clients.store.put(f"checkpoints/{job_id}/arm-1.json", json.dumps(marked).encode())
    add(LAW, 9)  # a newer version, which the job does not begin to use
    job = run(job_id)
    assert job.state is JobState.SUCCEEDED, job.error
    arms = {arm["arm"]: arm["exact_match"]["value"] for arm in job.result["arms"]}
    assert arms[f"{LAW}@1"] == 0.25
    assert clients.store.keys(f"checkpoints/{job_id}/") == []


@pytest.mark.parametrize(
    ("parts", "more", "code", "said"),
    [
        ([LAW, "law.gone"], {}, "adapter_not_found", "law.gone"),
        ([LAW, "law.theirs"], {}, "adapter_not_found", "law.theirs"),
        ([LAW, "law.foreign"], {}, "adapter_base_mismatch", "train it anew"),
        ([LAW, "law.dora"], {}, "adapter_not_composable", "train it with lora or rslora"),
        ([LAW, f"{LAW}@1"], {}, "compose_part_twice", "name it once, with `weight` 2"),
        ([LAW, "law.wide"], {}, "compose_rank_too_large", "(`--method svd --rank 20`)"),
        ([LAW, "law.task"], {"method": "svd", "rank": 21}, "compose_rank_too_large", "merge to a smaller one"),
        ([LAW, "law.task"], {"dataset": "asked"}, "output_missing", "add the answers"),
    ],
)  # fmt: skip
def test_what_cannot_be_composed_is_refused_with_what_to_do(
    clients, jobs, attempts, rows, domain, add, parts, more, code, said
):
    add("law.foreign", base_model="other"), add("law.theirs", tenant_id="other"), add("law.dora", use_dora=True)
    add("law.wide", 3, r=17), add("law.task", 4)
    clients.registry.datasets.add("t", "asked", [Row(input="a"), Row(input="b")])
    body = {"label": TASK, "dataset": "held-back", "parts": [{"adapter": part} for part in parts], **more}
    job_id = jobs.new_training(kind="adapter.compose", **body)
    limited = replace(clients, adapter_limits=AdapterLimits(max_rank=20))
    attempts.run("train", lambda attempt: train(attempt, limited))
    job = jobs.get(job_id)
    assert (job.state, job.error["code"]) == (JobState.FAILED, code), job.error
    assert said in job.error["detail"]
    assert clients.registry.adapters.list_all("t", TASK) == []


def test_the_parts_of_a_composition_are_no_garbage_while_its_record_is_there(clients, train_on, domain):
    result = train_on().result
    registry = clients.registry
    own = result["parts"][1]["digest"]
    registry.removal.adapter("t", domain.ref)
    later = datetime.now(UTC) + timedelta(seconds=2)
    list(collect(clients.store, garbage(registry, later)))
    assert registry.weights.has(own)
    assert registry.weights.has(domain.digest)  # composed again, it is asked for
    assert registry.adapters.part("t", own)[0] == AdapterPart(digest=own)
    registry.removal.adapter("t", result["ref"])
    gone = {one.key.split("/")[1] for one in garbage(registry, later) if one.key.startswith("adapters/")}
    assert {own, domain.digest, result["adapter"]} <= gone


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "adapter.train", "dataset": "known", "on": LAW},
        {"kind": "adapter.compose", "unjudged": True, "parts": [{"adapter": f"{LAW}@1"}, {"adapter": "law.x"}]},
    ],
    ids=["on", "parts"],
)
def test_an_adapter_that_a_job_builds_on_is_not_deleted_before_it(clients, jobs, rows, domain, body):
    job_id = jobs.new_training(label=TASK, **body)
    with pytest.raises(Conflict, match=f"training {job_id} has not ended and needs {LAW}@1"):
        clients.registry.removal.adapter("t", domain.ref)
    jobs.cancel(job_id)
    clients.registry.removal.adapter("t", domain.ref)
