"""Releases made by hand: an adapter is servable by its name as soon as it is uploaded."""

import pytest

from shared.contracts.judged import JudgedRow
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import AdapterManifest
from shared.ledger import calls
from tests.support.api import ADAPTERS, code, make_release


@pytest.fixture
def train(api):
    return api["train"]


@pytest.fixture
def uploaded(registry, store, tmp_path):
    """Adapters without a release: `fin.sa@1` and `new.task@1`, of base model `tiny`, and one of another base."""
    store.ensure_bucket()

    def add(label, base_model="tiny", **fields):
        folder = tmp_path / label
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        (folder / "adapter_model.safetensors").write_bytes(label.encode())
        made = AdapterManifest(tenant_id="default", label=label, version=0, digest="", base_model=base_model, **fields)
        return registry.adapters.add(folder, made)

    return {
        "fin.sa": add("fin.sa", template="plain", instruction="Judge."),
        "new.task": add("new.task"),
        "far.away": add("far.away", base_model="other"),
    }


async def test_the_first_release_needs_no_training(api, train, admin, uploaded, ledger):
    assert code(await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"}), 409) == "no_release"
    made = await train.post("/v1/releases/edit", json={"add": {"fin.sa": "fin.sa@1"}})
    assert made.status_code == 201, made.text
    release = made.json()
    assert made.headers["location"] == f"/v1/releases/{release['id']}"
    assert release["labels"]["fin.sa"] == {
        "adapter": uploaded["fin.sa"].digest,
        "ref": "fin.sa@1",
        "group": "fin",
        "template": "plain",
        "instruction": "Judge.",
        "description": "",
        "constraint": None,
        "base_model": "",
        "prefix": "",
    }
    assert (release["selector"], release["base_model"], release["current"]) == (None, "tiny", False)
    ledger.do(calls.heartbeat("worker", ["generate.fin", "generate.base", "generate.fin@tiny"], [], {}, 60))
    assert (await admin.post(f"/v1/releases/{release['id']}/promote")).status_code == 200
    named = await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})
    assert (named.status_code, named.json()["state"]) == (202, "routed")
    assert code(await api["submit"].post("/v1/jobs", json={"input": "x"}), 409) == "no_selector"
    models = (await api["submit"].get("/v1/models")).json()["data"]
    assert "fin.sa" in [model["id"] for model in models]


async def test_a_label_that_the_selector_does_not_know_is_served_by_name(api, train, admin, release, uploaded, ledger):
    asked = {"add": {"new.task": "new.task"}, "groups": {"new.task": "fin"}, "templates": {"fin.sa": "plain"}}
    made = (await train.post("/v1/releases/edit", json=asked)).json()
    assert set(made["labels"]) == {*ADAPTERS, "new.task"}
    assert set(made["selector"]["labels"]) == set(ADAPTERS)
    assert (made["labels"]["fin.sa"]["template"], made["parent"]) == ("plain", release.id)
    assert made["verdict"]["reasons"] == ["Edited by hand: adds new.task; changes fin.sa."]
    ledger.do(calls.heartbeat("worker", [*release.queues, *(f"{q}@tiny" for q in release.queues)], [], {}, 60))
    assert (await admin.post(f"/v1/releases/{made['id']}/promote")).status_code == 200
    for request, state in (({"label": "new.task"}, "routed"), ({}, "queued"), ({"adapter": "new.task@1"}, "routed")):
        job = await api["submit"].post("/v1/jobs", json={"input": "x", **request})
        assert (job.status_code, job.json()["state"]) == (202, state)


async def test_a_label_of_one_word_is_meant_by_both_its_forms(api, train, admin, release, registry, ledger, tmp_path):
    folder = tmp_path / "one_word"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(b"one word")
    made = AdapterManifest(tenant_id="default", label="support", version=0, digest="", base_model="tiny")
    registry.adapters.add(folder, made)
    made = (await train.post("/v1/releases/edit", json={"add": {"default.support": "default.support"}})).json()
    assert made["verdict"]["reasons"] == ["Edited by hand: adds support."]
    assert (made["labels"]["support"]["ref"], made["labels"]["support"]["group"]) == ("support@1", "default")
    queues = [*release.queues, "generate.default"]
    ledger.do(calls.heartbeat("worker", [*queues, *(f"{queue}@tiny" for queue in queues)], [], {}, 60))
    assert (await admin.post(f"/v1/releases/{made['id']}/promote")).status_code == 200
    for named in ({"label": "support"}, {"label": "default.support"}, {"adapter": "default.support@1"}):
        job = (await api["submit"].post("/v1/jobs", json={"input": "x", **named})).json()
        assert (job["state"], job["label"]) == ("routed", "support")
    for form in ("support", "default.support"):
        assert len((await api["submit"].get("/v1/jobs", params={"label": form})).json()["items"]) == 3
    assert code(await api["submit"].post("/v1/jobs", json={"input": "x", "label": "none"}), 422) == "label_unknown"


async def test_a_release_without_its_selector_may_lose_what_it_chose(train, release):
    kept = {"remove": ["med.qa"]}
    assert code(await train.post("/v1/releases/edit", json=kept), 409) == "label_selected"
    made = (await train.post("/v1/releases/edit", json=kept | {"selector": "none"})).json()
    assert (set(made["labels"]), made["selector"]) == (set(ADAPTERS) - {"med.qa"}, None)


async def test_an_edit_may_start_from_another_candidate(train, release, uploaded):
    first = (await train.post("/v1/releases/edit", json={"add": {"new.task": "new.task"}})).json()
    second = {"start_from": first["id"], "remove": ["new.task"], "instructions": {"fin.ha": "Say."}}
    made = (await train.post("/v1/releases/edit", json=second)).json()
    assert (set(made["labels"]), made["parent"]) == (set(ADAPTERS), release.id)
    assert (made["labels"]["fin.ha"]["instruction"], made["verdict"]["passed"]) == ("Say.", True)


async def test_an_edit_says_what_the_selector_reads_of_a_conversation(train, release):
    asked = {"reading": "dialogue", "harness_tags": ["memo"]}
    made = (await train.post("/v1/releases/edit", json=asked)).json()
    assert (made["reading"]["mode"], made["reading"]["harness_tags"]) == ("dialogue", ["memo"])
    assert made["verdict"]["reasons"] == ["Edited by hand: reads dialogue, without memo."]
    fewer = {"start_from": made["id"], "harness_tags": []}
    again = (await train.post("/v1/releases/edit", json=fewer)).json()
    assert (again["reading"]["mode"], again["reading"]["harness_tags"]) == ("dialogue", [])
    without = {"start_from": made["id"], "selector": "none", "reading": "dialogue"}
    assert (await train.post("/v1/releases/edit", json=without)).json()["reading"] is None


def judged(confidence, label="fin.sa", best_label="fin.sa"):
    return JudgedRow(
        text="x",
        text_hash=f"{confidence}",
        label=label,
        best_label=best_label,
        probability=confidence,
        confidence=confidence,
    )


@pytest.fixture
def with_rows(registry, weights):
    """The current release, which keeps the rows that it was judged on."""
    rows = [*(judged(n / 10) for n in range(6, 10)), judged(0.55, BACKGROUND, "fin.ha")]
    kept = {"judged": registry.datasets.put_judged("default", rows), "per_label": {"fin.sa": 1.0}, "asked": {}}
    release = make_release(report=kept)
    registry.releases.add(release)
    registry.releases.promote("default", release.id, force=True)
    return release


async def test_a_selector_at_another_threshold_is_judged_anew(train, with_rows):
    made = (await train.post("/v1/releases/edit", json={"threshold": 0.58})).json()
    assert made["verdict"] == {"passed": True, "reasons": ["Edited by hand: threshold 0.58 instead of 0.5."]}
    assert made["selector"]["threshold"] == 0.58
    assert made["selector"]["digest"] == with_rows.selector.digest
    report = made["report"]
    assert (report["accuracy"], report["per_label"]) == (1.0, {"fin.sa": 1.0, "none.none": 1.0})
    assert report["threshold"] == {"value": 0.58, "false_reject": 0.0, "background_reject": 1.0}
    assert (report["before"], report["asked"]) == ({"fin.sa": 1.0, "none.none": 0.0}, {})
    assert report["judged"] == with_rows.report["judged"]


async def test_the_gate_refuses_a_threshold_at_which_a_label_is_lost(train, with_rows):
    made = (await train.post("/v1/releases/edit", json={"threshold": 0.75})).json()
    assert not made["verdict"]["passed"]
    assert made["verdict"]["reasons"][0].startswith("The kept label fin.sa falls from 1.000 to 0.500 on validation")
    assert made["report"]["threshold"]["false_reject"] == 0.5


async def test_a_threshold_reached_in_steps_is_judged_against_the_current_release(train, registry, weights):
    rows = [judged(0.5 + n / 1000) for n in range(500)]
    first = make_release(report={"judged": registry.datasets.put_judged("default", rows)})
    registry.releases.add(first)
    registry.releases.promote("default", first.id, force=True)
    step = (await train.post("/v1/releases/edit", json={"threshold": 0.504})).json()
    assert step["verdict"]["passed"]  # 0.8 points lost
    asked = {"start_from": step["id"], "threshold": 0.508}
    made = (await train.post("/v1/releases/edit", json=asked)).json()
    assert "falls from 1.000 to 0.984" in made["verdict"]["reasons"][0]


async def test_the_threshold_of_an_older_release_cannot_be_judged(train, release):
    made = (await train.post("/v1/releases/edit", json={"threshold": 0.6})).json()
    assert not made["verdict"]["passed"]
    assert "keeps no rows to judge its threshold on" in made["verdict"]["reasons"][0]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"passed": False}, "fin.sa lost 3 points"),
        ({"labels": ("fin.sa", "fin.ha")}, "The label med.qa of the current release is gone"),
        ({"parent": "rel_before"}, "was not judged against the current release"),
    ],
    ids=str,
)
async def test_an_edit_is_no_way_around_the_gate(api, train, release, registry, ledger, fields, why):
    failed = make_release(**{"parent": release.id, "made_by": "x"} | fields)
    registry.releases.add(failed)
    ledger.do(calls.heartbeat("worker", [*release.queues, *(f"{q}@tiny" for q in release.queues)], [], {}, 60))
    asked = {"start_from": failed.id, "instructions": {"fin.sa": "Say."}}
    made = (await train.post("/v1/releases/edit", json=asked)).json()
    assert why in made["verdict"]["reasons"][0]
    assert code(await api["admin"].post(f"/v1/releases/{made['id']}/promote"), 409) == "gate_failed"


@pytest.mark.parametrize(
    ("edit", "status", "expected"),
    [
        ({}, 422, "edit_empty"),
        ({"templates": {"fin.sa": "chatml"}}, 422, "edit_empty"),
        ({"add": {"new.task": "no.such"}}, 404, "adapter_not_found"),
        ({"add": {"far.away": "far.away"}}, 422, "adapter_base_mismatch"),
        ({"add": {"none.none": "new.task"}}, 422, "label_reserved"),
        ({"add": {"Nope": "new.task"}}, 422, "label_malformed"),
        ({"remove": ["no.such"]}, 422, "label_unknown"),
        ({"remove": ["new.task"], "add": {"new.task": "new.task"}}, 422, "label_unknown"),
        ({"remove": ["fin.sa"], "add": {"fin.sa": "fin.sa@1"}, "selector": "none"}, 422, "edit_unclear"),
        ({"remove": list(ADAPTERS), "selector": "none"}, 409, "release_empty"),
        ({"templates": {"no.such": "plain"}}, 422, "label_unknown"),
        ({"templates": {"fin.sa": "nope"}}, 422, "template_unknown"),
        ({"groups": {"fin.sa": "A B"}}, 422, "name_malformed"),
        ({"start_from": "rel_none", "remove": ["fin.sa"]}, 404, "release_not_found"),
        ({"labels": {}}, 422, "request_invalid"),
        ({"reading": "instruction+input"}, 422, "reading_misfit"),
        ({"reading": "all"}, 422, "request_invalid"),
        ({"harness_tags": ["no tag"]}, 422, "request_invalid"),
        ({"threshold": 0.5}, 422, "edit_empty"),
        ({"threshold": 1.5}, 422, "request_invalid"),
        ({"threshold": 0.6, "selector": "none"}, 422, "selector_missing"),
    ],
    ids=str,
)
async def test_a_wrong_edit_is_refused_and_stores_nothing(train, release, uploaded, registry, edit, status, expected):
    assert code(await train.post("/v1/releases/edit", json=edit), status) == expected
    assert [one.id for one in registry.releases.list_all("default")] == [release.id]


async def test_there_is_nothing_to_edit_before_the_first_adapter(train, weights):
    assert code(await train.post("/v1/releases/edit", json={"remove": ["fin.sa"]}), 409) == "release_empty"


async def test_an_edit_needs_the_scope(api, release):
    assert code(await api["submit"].post("/v1/releases/edit", json={"remove": ["fin.sa"]}), 403) == "scope_missing"
