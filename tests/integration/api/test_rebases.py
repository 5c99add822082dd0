"""Rebases: a release's adapters and selector are trained anew on another base model, as a chain of ordinary jobs."""

import asyncio
import json

import pytest
from signalbox import AsyncSignalbox, Signalbox

from services.api.training.service import AdapterTrainRequest
from shared.contracts.jobs import JobState
from shared.contracts.manifests import AdapterManifest, Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.rows import Row
from shared.contracts.training_cost import Speed
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from tests.support.adapter_samples import BASE
from tests.support.api import Worker, code
from tests.support.console import as_part, words
from tests.support.samples import rows

LABELS = ("bank.accounts", "bank.cards", "travel.trips")
WIDER = {name: (out * 2, into * 2) for name, (out, into) in BASE.to_dict().items()}
SETTINGS = {"rank": 4, "alpha": 8, "epochs": 2, "template": "plain", "seed": 7}


def publish(store, pin, shapes, name="", **more):
    known = {"id": pin, "name": name, "shapes": shapes, "vocabulary_size": 300, "usual_template": "plain", **more}
    store.put(f"base/{pin}.json", json.dumps(known).encode())


@pytest.fixture
def bases(registry, store, ledger):
    """Two base models: workers and a trainer of the old one, a trainer of the new one."""
    store.ensure_bucket()
    publish(store, "oldbase", BASE.to_dict(), "models/old")
    publish(store, "newbase", WIDER, "models/new-one", control_tokens=["<|im_start|>", "<s>"])
    for pin in ("oldbase", "newbase"):
        registry.speeds.add(pin, Speed(pace="float32", step_flops=1e9, flops_per_second=1e9))
        ledger.do(calls.heartbeat(f"trainer-{pin}", ["train", f"train@{pin}"], [], {}, 600))
    ledger.do(calls.heartbeat("w", ["generate.bank", "generate.bank@oldbase"], [], {}, 600))
    yield
    for key in store.keys("base/"):
        store.delete(key)


def put_adapter(registry, folder, label, base="oldbase", made_by="", **report):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "adapter_model.safetensors").write_bytes(str(folder).encode())
    manifest = AdapterManifest(
        tenant_id="default",
        label=label,
        version=0,
        digest="",
        base_model=base,
        template="plain",
        report=report,
        made_by=made_by,
    )
    return registry.adapters.add(folder, manifest)


@pytest.fixture
def release(registry, bases, tmp_path):
    """A current release on the old base model; every adapter has a data set and the settings of its training."""
    entries, datasets = {}, {}
    for label in LABELS:
        datasets[label] = registry.datasets.add("default", label, [Row(**row) for row in rows(label, 12)]).id
        made = put_adapter(
            registry,
            tmp_path / label,
            label,
            dataset=datasets[label],
            training={"settings": SETTINGS, "evaluate_rows": 5},
            adapter_exact_match=0.8,
            base_exact_match=0.1,
            validation_rows=2,
        )
        entries[label] = ReleaseLabel(
            adapter=made.digest, ref=made.ref, group=label.split(".")[0], template="plain", instruction="Answer."
        )
    (tmp_path / "light").write_bytes(b"words")
    light = registry.weights.put_light(tmp_path / "light")
    made = Release(
        tenant_id="default",
        base_model="oldbase",
        labels=entries,
        selector=ReleaseSelector(light=light, labels=LABELS),
        datasets=datasets,
        report={"per_label": dict.fromkeys(LABELS, 0.9)},
        verdict=Verdict(passed=True, reasons=()),
    )
    registry.releases.add(made)
    registry.releases.promote("default", made.id, force=True, by="test")
    return made


async def plan_of(admin, **more):
    answer = await admin.post("/v1/rebases", json={"base_model": "new-one", "dry_run": True, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def begin(admin, **more):
    answer = await admin.post("/v1/rebases", json={"base_model": "new-one", **more})
    assert answer.status_code == 202, answer.text
    return answer.json()


def by_label(shown):
    return {one["label"]: one for one in shown["labels"]}


def job_ids(shown):
    return {label: one["job"] for label, one in by_label(shown).items()}


def train(registry, worker, tmp_path, job_id, label, match=0.7):
    """What the new base model's trainer does with an adapter's job."""
    job = worker.take(job_id, "train")
    report = {"adapter_exact_match": match, "base_exact_match": 0.2, "validation_rows": 2}
    put_adapter(registry, tmp_path / job_id, label, base="newbase", made_by=job_id, **report)
    worker.end(job, JobState.SUCCEEDED, result=report)


def fail(worker, job_id):
    error = {"code": "out_of_memory", "detail": "too large", "retryable": False}
    worker.end(worker.take(job_id, "train"), JobState.FAILED, error=error)


async def test_the_plan_names_labels_rows_hours_and_memory_and_queues_nothing(admin, release):
    shown = await plan_of(admin)
    assert (shown["base_model"], shown["release"], shown["selector"]) == ("newbase", release.id, "light")
    assert {label: (one["fate"], one["rows"]) for label, one in by_label(shown).items()} == dict.fromkeys(
        LABELS, ("train", 12)
    )
    assert {one["settings_from"] for one in shown["labels"]} == {"adapter"}
    assert shown["seconds"] == pytest.approx(sum(one["seconds"] for one in shown["labels"]))
    assert shown["memory_bytes"] > 0
    assert shown["problems"] == []
    assert any("signalbox worker" in warning for warning in shown["warnings"])
    assert (await admin.get("/v1/training/jobs")).json()["items"] == []


async def test_a_rebase_is_one_training_of_each_adapter_with_its_own_settings_and_one_of_the_selector(
    admin, release, ledger
):
    shown = await begin(admin)
    assert shown["state"] == "training"
    for label, job_id in job_ids(shown).items():
        body = ledger.do(calls.get(job_id)).body
        training = AdapterTrainRequest.model_validate(body)
        assert (training.base_model, training.dataset) == ("newbase", release.datasets[label])
        assert {name: getattr(training.settings, name) for name in SETTINGS} == SETTINGS
        assert (training.evaluate_rows, training.instruction) == (5, "Answer.")
    last = ledger.do(calls.get(shown["id"])).body
    assert (last["kind"], last["selector"], last["base_model"], last["parent"]) == (
        "selector.train",
        "light",
        "newbase",
        release.id,
    )
    assert last["rebase"]["jobs"] == job_ids(shown)
    assert [one["id"] for one in (await admin.get("/v1/rebases")).json()["items"]] == [shown["id"]]


async def test_the_same_request_again_goes_on_where_the_rebase_was(admin, release):
    first = await begin(admin)
    assert await begin(admin) == first
    assert len((await admin.get("/v1/training/jobs")).json()["items"]) == len(LABELS) + 1


async def test_a_rebase_that_was_cut_off_between_its_jobs_makes_none_twice(admin, release, ledger):
    whole = await begin(admin)
    await admin.post(f"/v1/rebases/{whole['id']}/cancel", json={})
    again = await begin(admin)
    assert set(job_ids(again).values()).isdisjoint(job_ids(whole).values())
    jobs = (await admin.get("/v1/training/jobs")).json()["items"]
    ledger.redis.delete(LedgerKey.JOB.of(again["id"]))  # as if the API had died before it wrote the last job
    assert job_ids(await begin(admin)) == job_ids(again)
    assert len((await admin.get("/v1/training/jobs")).json()["items"]) == len(jobs)


async def test_states_and_comparisons_are_read_off_the_jobs(admin, release, registry, ledger, tmp_path):
    worker, shown = Worker(ledger), await begin(admin)
    jobs = job_ids(shown)
    train(registry, worker, tmp_path, jobs["bank.cards"], "bank.cards", match=0.95)
    fail(worker, jobs["travel.trips"])
    shown = (await admin.get(f"/v1/rebases/{shown['id']}")).json()
    found = by_label(shown)
    assert {label: one["state"] for label, one in found.items()} == {
        "bank.accounts": "queued",
        "bank.cards": "succeeded",
        "travel.trips": "failed",
    }
    assert (found["bank.cards"]["old"]["exact_match"], found["bank.cards"]["new"]["exact_match"]) == (0.8, 0.95)
    assert found["bank.cards"]["old"]["routed"] == 0.9
    assert found["travel.trips"]["error"] == "too large"
    assert shown["state"] == "training"


async def test_after_a_failure_only_the_failed_label_is_trained_again(admin, release, registry, ledger, tmp_path):
    worker, first = Worker(ledger), await begin(admin)
    jobs = job_ids(first)
    for label in LABELS[:2]:
        train(registry, worker, tmp_path, jobs[label], label)
    fail(worker, jobs[LABELS[2]])
    worker.end(worker.take(first["id"], "train"), JobState.SUCCEEDED, result={"release": "rel_x"})
    again = await begin(admin)
    assert again["id"] != first["id"]
    assert {label for label, job in job_ids(again).items() if job != jobs[label]} == {LABELS[2]}


async def test_what_the_ledger_has_forgotten_is_not_trained_anew(admin, release, registry, ledger, tmp_path):
    shown = await begin(admin)
    job_id = job_ids(shown)["bank.cards"]
    train(registry, Worker(ledger), tmp_path, job_id, "bank.cards")
    ledger.redis.delete(LedgerKey.JOB.of(job_id), LedgerKey.JOB.of(shown["id"]))
    again = await begin(admin)
    assert job_ids(again)["bank.cards"] == job_id
    assert by_label(again)["bank.cards"]["state"] == "succeeded"


@pytest.fixture
def gone(release, registry):
    """The data set of one label is deleted."""
    registry.datasets.remove("default", release.datasets["travel.trips"])
    key = registry.datasets.put_rows("default", [Row(input=f"trip {n}", label="travel.trips") for n in range(8)])
    made = release.model_copy(update={"parent": release.id, "representation": {"travel.trips": key}})
    registry.releases.add(made)
    registry.releases.promote("default", made.id, force=True, by="test")
    return made


async def test_a_label_whose_data_is_gone_is_named_and_stops_the_rebase_until_its_fate_is_chosen(
    api, admin, gone, ledger
):
    await api["app"].state.clients.releases.refresh("default")
    shown = await plan_of(admin)
    label = by_label(shown)["travel.trips"]
    assert label["fate"] == "refuse"
    assert "is gone: name another one, --dataset travel.trips=NAME" in label["problem"]
    refused = await admin.post("/v1/rebases", json={"base_model": "new-one"})
    assert code(refused, 409) == "rebase_blocked"
    assert "travel.trips" in refused.json()["detail"]

    left = await plan_of(admin, missing="leave_out")
    assert (by_label(left)["travel.trips"]["fate"], left["problems"]) == ("leave_out", [])

    kept = await begin(admin, missing="keep")
    body = ledger.do(calls.get(kept["id"])).body
    assert body["rebase"]["kept"] == ["travel.trips"]
    assert body["rebase"]["failed"] == "keep"
    assert by_label(kept)["travel.trips"]["state"] == "kept"
    rows_of = ledger.do(calls.get(kept["id"])).body["labels"]["travel.trips"]
    assert (await admin.get(f"/v1/datasets/{rows_of}")).json()["rows"] == 8


async def test_another_data_set_takes_the_place_of_one_that_is_gone(api, admin, gone, registry):
    await api["app"].state.clients.releases.refresh("default")
    registry.datasets.add("default", "trips2", [Row(**row) for row in rows("travel.trips", 9)])
    shown = await plan_of(admin, datasets={"travel.trips": "trips2"})
    assert (by_label(shown)["travel.trips"]["fate"], by_label(shown)["travel.trips"]["rows"]) == ("train", 9)


async def test_a_template_that_does_not_fit_is_named_before_anything_is_queued(admin, release, registry, tmp_path):
    made = put_adapter(
        registry,
        tmp_path / "m",
        "bank.cards",
        dataset=release.datasets["bank.cards"],
        training={"settings": {**SETTINGS, "template": "llama3"}},
    )
    made = registry.adapters.add(tmp_path / "m", made.model_copy(update={"template": "llama3"}))
    entry = release.labels["bank.cards"].model_copy(update={"ref": made.ref, "template": "llama3"})
    moved = release.model_copy(update={"labels": {**release.labels, "bank.cards": entry}, "parent": release.id})
    registry.releases.add(moved)
    shown = by_label(await plan_of(admin, release=moved.id))["bank.cards"]
    assert shown["fate"] == "refuse"
    assert "--template bank.cards=plain" in shown["problem"]
    for choice in ({"template": "plain"}, {"templates": {"bank.cards": "plain"}}):
        fits = by_label(await plan_of(admin, release=moved.id, **choice))["bank.cards"]
        assert (fits["fate"], fits["template"]) == ("train", "plain")


@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        ({"base_model": "models/old"}, 409, "rebase_same_base"),
        ({"base_model": "nobody-has-it"}, 404, "base_model_not_found"),
        ({"base_model": "new-one", "release": "rel_0"}, 404, "release_not_found"),
        ({"base_model": "new-one", "more": 1}, 422, "request_invalid"),
    ],
)
async def test_what_makes_no_sense_is_refused(admin, release, body, status, name):
    answer = await admin.post("/v1/rebases", json=body)
    assert code(answer, status) == name


async def test_a_base_model_that_no_trainer_has_is_refused_with_the_command_that_starts_one(admin, release, store):
    publish(store, "thirdbase", WIDER, "third")
    refused = await admin.post("/v1/rebases", json={"base_model": "/srv/models/third"})
    assert code(refused, 409) == "base_model_untrained"
    assert "SIGNALBOX_BASE_MODEL=third signalbox trainer" in refused.json()["detail"]


async def test_only_one_rebase_is_open_at_a_time(admin, release, store, ledger):
    first = await begin(admin)
    other = {"base_model": "new-one", "missing": "keep"}
    assert code(await admin.post("/v1/rebases", json=other), 409) == "rebase_open"
    cancelled = (await admin.post(f"/v1/rebases/{first['id']}/cancel", json={})).json()
    assert cancelled["state"] == "cancelled"
    assert {one["state"] for one in cancelled["labels"]} == {"cancelled"}
    assert (await admin.post("/v1/rebases", json=other)).status_code == 202


async def test_a_job_that_is_no_rebase_is_not_shown_as_one(admin, release):
    job = await admin.post(
        "/v1/training/jobs", json={"kind": "adapter.train", "label": "bank.cards", "dataset": "bank.cards"}
    )
    assert code(await admin.get(f"/v1/rebases/{job.json()['id']}"), 404) == "rebase_not_found"


async def test_a_training_is_one_of_the_base_model_of_its_release_while_trainers_have_several(admin, release, ledger):
    for body, pin in (
        ({"kind": "adapter.train", "label": "bank.cards", "dataset": "bank.cards"}, "oldbase"),
        ({"kind": "adapter.train", "label": "bank.cards", "dataset": "bank.cards", "base_model": "newbase"}, "newbase"),
    ):
        answer = await admin.post("/v1/training/jobs", json=body)
        assert answer.status_code == 202, answer.text
        assert ledger.do(calls.get(answer.json()["id"])).body["base_model"] == pin
    unknown = {"kind": "adapter.train", "label": "bank.cards", "dataset": "bank.cards", "base_model": "nobody"}
    assert code(await admin.post("/v1/training/jobs", json=unknown), 404) == "base_model_not_found"


async def said(process, given=None):
    return await asyncio.to_thread(process.communicate, given)


async def test_the_command_shows_the_plan_then_begins_and_goes_on(command, admin, release):
    plan, _ = await said(command("rebase", "--base", "new-one", "--plan"))
    assert plan.splitlines()[0].split("\t") == ["label", "does", "rows", "template", "time", "memory"]
    assert len(plan.splitlines()) == len(LABELS) + 1
    assert (await admin.get("/v1/rebases")).json()["items"] == []
    first = json.loads((await said(command("rebase", "--base", "new-one", "--yes", "--json")))[0])
    again = json.loads((await said(command("rebase", "--base", "new-one", "--yes", "--json")))[0])
    assert first == again
    shown, _ = await said(command("rebases", "show", first["id"]))
    assert "0.80 → -" in shown
    await said(command("rebases", "cancel", first["id"]))
    listed, _ = await said(command("rebases", "list"))
    assert f"{first['id']}\tcancelled" in listed


async def test_the_command_says_why_a_rebase_cannot_begin(command, gone):
    _, why = await said(command("rebase", "--base", "new-one", "--yes"))
    assert "--missing leave-out or --missing keep" in " ".join(why.split())
    _, why = await said(command("rebase", "--plan"))
    assert "--base" in why


async def test_both_clients_begin_and_show_a_rebase(api, tokens, release):
    async with AsyncSignalbox(api["url"], tokens["admin"]) as client:
        assert (await client.plan_rebase("new-one", missing="keep")).problems == []
        begun = await client.begin_rebase("new-one", missing="keep")
        assert [one.id for one in await client.rebases()] == [begun.id]

        def plain():
            with Signalbox(api["url"], tokens["admin"]) as client:
                assert client.rebase(begun.id) == begun
                return client.cancel_rebase(begun.id)

        assert (await asyncio.to_thread(plain)).is_final


async def test_the_console_shows_the_plan_and_begins_nothing_before_it_is_told(operator, release):
    page = await operator.get("/console/rebases")
    assert "There was no rebase yet" in words(page)
    assert 'value="models/new-one"' in page.text
    plan = await as_part(operator).post("/console/rebases/plan", data={"base_model": "new-one"})
    shown = words(plan)
    assert shown.count("is trained anew") == len(LABELS)
    assert "signalbox worker" in shown
    assert "There was no rebase yet" in words(await operator.get("/console/rebases"))
    wrong = await as_part(operator).post("/console/rebases/plan", data={"base_model": "models/old"})
    assert wrong.status_code == 409


async def test_the_console_names_what_stands_in_the_way_of_a_rebase(api, operator, gone):
    await api["app"].state.clients.releases.refresh("default")
    plan = await as_part(operator).post("/console/rebases/plan", data={"base_model": "new-one"})
    assert "stops the rebase: " in words(plan)
    assert "disabled" in plan.text
    kept = await as_part(operator).post("/console/rebases/plan", data={"base_model": "new-one", "missing": "keep"})
    assert "keeps its base model" in words(kept)
    assert "--missing keep" in words(kept)


async def test_the_console_follows_a_rebase_and_cancels_it(
    admin, operator, submitter, stranger, release, registry, ledger, tmp_path
):
    form = {"base_model": "newbase"}
    assert (await as_part(submitter).post("/console/rebases", data=form)).status_code == 403
    begun = await as_part(operator).post("/console/rebases", data=form)
    where = begun.headers["hx-redirect"]
    shown = await admin.get(f"/v1{where.removeprefix('/console')}")
    worker, jobs = Worker(ledger), job_ids(shown.json())
    train(registry, worker, tmp_path, jobs["bank.cards"], "bank.cards", match=0.95)
    fail(worker, jobs["travel.trips"])
    page = words(await operator.get(where))
    assert "bank.cards succeeded bank.cards@1 0.800 0.900 bank.cards@2 0.950" in page
    assert "too large" in page
    assert (await stranger.get(where)).status_code == 404
    ended = words(await as_part(operator).post(f"{where}/cancel"))
    assert "cancelled" in ended
    assert where.rpartition("/")[2] in words(await operator.get("/console/rebases"))
