"""What is deleted is gone at once, and what somebody uses stays: adapters, data sets, releases, feedback, quotas."""

import pytest

from shared.contracts.manifests import AdapterManifest
from shared.errors import NotFound
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.registry import restore
from tests.support.adapter_samples import lora_tensors, safetensors
from tests.support.api import client_of, code, make_release, serving

ROWS = b'{"input": "a"}\n{"input": "b"}\n{"input": "c"}\n{"input": "d"}\n'


def in_use(response, expected, saying):
    assert code(response, 409) == expected
    assert saying in response.json()["detail"]


@pytest.fixture
def adapter(registry, tmp_path):
    """Stores one more version of a label's adapter, with other weights each time."""

    def add(label="fin.sa", tenant_id="default"):
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        number = len(registry.adapters.list_all(tenant_id))
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_bytes(safetensors(lora_tensors(), fill=number + 1))
        manifest = AdapterManifest(tenant_id=tenant_id, label=label, version=0, digest="", base_model="tiny")
        return registry.adapters.add(folder, manifest.model_copy(update={"info": {"size_bytes": 400_000}}))

    return add


async def made(train, **fields):
    body = {"kind": "selector.train", "labels": {"fin.sa": "demo", "fin.ha": "demo"}, **fields}
    await train.post("/v1/datasets?name=demo", content=ROWS)
    return (await train.post("/v1/training/jobs", json=body)).json()["id"]


async def test_a_deleted_adapter_is_gone_comes_not_back_and_its_number_is_not_given_again(
    api, registry, adapter, ledger
):
    first, second = adapter(), adapter()
    assert (await api["train"].delete("/v1/adapters/fin.sa@2")).status_code == 204
    assert [one["ref"] for one in (await api["train"].get("/v1/adapters")).json()["items"]] == ["fin.sa@1"]
    assert registry.adapters.get("default", "fin.sa") == first
    assert code(await api["train"].delete("/v1/adapters/fin.sa@2"), 404) == "adapter_not_found"
    restore(ledger.redis, registry.store)
    with pytest.raises(NotFound):
        registry.adapters.get("default", "fin.sa@2")
    assert registry.weights.has(second.digest)  # until it is collected
    assert adapter().ref == "fin.sa@3"
    assert code(await api["train"].delete("/v1/adapters/fin.sa"), 422) == "adapter_version_missing"
    assert code(await api["other"].delete("/v1/adapters/fin.sa@1"), 404) == "adapter_not_found"


async def test_an_adapter_of_a_release_stays_until_that_is_gone(api, registry, adapter, release):
    adapter("fin.sa"), adapter("fin.ha")
    in_use(
        await api["train"].delete("/v1/adapters/fin.sa@1"), "adapter_in_use", "the live release answers with fin.sa@1"
    )
    other = make_release(labels=("fin.ha", "med.qa"), parent=release.id)
    registry.releases.add(other)
    registry.releases.promote("default", other.id, force=True)
    in_use(await api["train"].delete("/v1/adapters/fin.sa@1"), "adapter_in_use", f"belongs to release {release.id}")
    assert (await api["admin"].delete(f"/v1/releases/{release.id}")).status_code == 204
    assert (await api["train"].delete("/v1/adapters/fin.sa@1")).status_code == 204
    in_use(
        await api["train"].delete("/v1/adapters/fin.ha@1"), "adapter_in_use", "the live release answers with fin.ha@1"
    )


async def test_what_a_training_that_has_not_ended_needs_stays(api, adapter):
    adapter("fin.sa"), adapter("fin.nu")
    job_id = await made(api["train"])
    for what, expected in (("adapters/fin.sa@1", "adapter_in_use"), ("datasets/demo", "dataset_in_use")):
        in_use(await api["train"].delete(f"/v1/{what}"), expected, f"training {job_id} has not ended")
    assert (await api["train"].delete("/v1/adapters/fin.nu@1")).status_code == 204
    await api["train"].delete(f"/v1/training/jobs/{job_id}")
    for what in ("adapters/fin.sa@1", "datasets/demo"):
        assert (await api["train"].delete(f"/v1/{what}")).status_code == 204
    assert code(await api["train"].get("/v1/datasets/demo"), 404) == "dataset_not_found"


async def test_a_training_that_waits_for_another_keeps_its_data_set_however_many_jobs_came_after(api, ledger, release):
    first = await made(api["train"])
    await api["train"].post("/v1/datasets?name=late", content=ROWS + b'{"input": "e"}\n')
    body = {"kind": "adapter.train", "label": "fin.sa", "dataset": "late", "after": [first]}
    late = (await api["train"].post("/v1/training/jobs", json=body)).json()["id"]
    with ledger.redis.pipeline(transaction=False) as pipe:  # more than one call of the ledger looks at
        for number in range(2100):
            pipe.hset(LedgerKey.JOB.of(f"job_{number}"), mapping={"state": "succeeded", "kind": "generate"})
            pipe.zadd(LedgerKey.JOBS.of("default"), {f"job_{number}": 4e12 + number})
        pipe.execute()
    in_use(await api["train"].delete("/v1/datasets/late"), "dataset_in_use", f"training {late} has not ended")


async def test_a_data_set_that_the_live_release_is_updated_from_stays(api, registry, weights):
    await api["train"].post("/v1/datasets?name=demo", content=ROWS)
    dataset = (await api["train"].get("/v1/datasets/demo")).json()["id"]
    live = make_release(datasets={"fin.sa": dataset})
    registry.releases.add(live)
    registry.releases.promote("default", live.id, force=True)
    in_use(await api["train"].delete(f"/v1/datasets/{dataset}"), "dataset_in_use", f"release {live.id} is updated from")


async def test_a_data_set_goes_under_all_its_names(api):
    for name in ("one", "two"):
        dataset = (await api["train"].post(f"/v1/datasets?name={name}", content=ROWS)).json()["id"]
    assert (await api["train"].delete("/v1/datasets/one")).status_code == 204
    for ref in ("one", "two", dataset):
        assert code(await api["train"].get(f"/v1/datasets/{ref}"), 404) == "dataset_not_found"


async def test_a_release_stays_while_it_is_live_or_a_job_runs_under_it(api, registry, release, worker):
    url = f"/v1/releases/{release.id}"
    in_use(await api["admin"].delete(url), "release_in_use", "is live: promote another")
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    other = make_release(parent=release.id)
    other = other.model_copy(update={"reject_policy": "error"})
    registry.releases.add(other)
    registry.releases.promote("default", other.id, force=True)
    in_use(await api["admin"].delete(url), "release_in_use", f"job {job_id} runs under release {release.id}")
    worker.run(job_id, "generate.fin")
    assert (await api["admin"].delete(url)).status_code == 204
    assert code(await api["admin"].get(url), 404) == "release_not_found"
    assert code(await api["admin"].post(f"{url}/promote"), 404) == "release_not_found"
    assert code(await api["admin"].post("/v1/releases/rollback", json={"to": release.id}), 404) == "release_not_found"
    assert registry.store.keys(f"tenants/default/releases/{release.id}") == []


async def test_a_dead_letter_that_may_run_again_keeps_its_release(api, registry, release, worker):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.lose(job_id, "generate.fin", 3)
    other = make_release(parent=release.id).model_copy(update={"reject_policy": "error"})
    registry.releases.add(other)
    registry.releases.promote("default", other.id, force=True)
    in_use(await api["admin"].delete(f"/v1/releases/{release.id}"), "release_in_use", job_id)
    await api["admin"].delete(f"/v1/jobs/dead/{job_id}")
    assert (await api["admin"].delete(f"/v1/releases/{release.id}")).status_code == 204


async def test_the_parent_of_an_update_that_has_not_ended_stays(api, registry, release, adapter):
    adapter("law.ie")
    body = {"kind": "selector.add", "labels": {"law.ie": "demo"}, "parent": release.id}
    await api["train"].post("/v1/datasets?name=demo", content=ROWS)
    job_id = (await api["train"].post("/v1/training/jobs", json=body)).json()["id"]
    other = make_release(parent=release.id).model_copy(update={"reject_policy": "error"})
    registry.releases.add(other)
    registry.releases.promote("default", other.id, force=True)
    in_use(await api["admin"].delete(f"/v1/releases/{release.id}"), "release_in_use", job_id)


def test_the_pointer_never_moves_to_a_release_that_is_deleted_meanwhile(registry, ledger, weights):
    release = make_release()
    registry.releases.add(release)
    registry.removal.release("default", release.id)  # after somebody who promotes it has read it
    with pytest.raises(NotFound):
        ledger.do(calls.move_release("default", release.id, expected="", queues=[], force=True, by="k"))
    assert registry.releases.current_id("default") == ""


async def test_forgotten_feedback_trains_nothing_also_where_its_job_has_expired(api, ledger, registry, release, worker):
    ids = []
    for _ in range(3):
        ids.append((await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"])
        worker.run(ids[-1], "generate.fin")
        await api["submit"].post(f"/v1/jobs/{ids[-1]}/feedback", json={"rating": 1})
    ledger.redis.delete(LedgerKey.JOB.of(ids[1]))  # as its time to live does
    assert len(registry.datasets.rows("default", "feedback")) == 3
    for job_id in ids[:2]:
        assert (await api["submit"].delete(f"/v1/jobs/{job_id}/feedback")).status_code == 204
        assert code(await api["submit"].delete(f"/v1/jobs/{job_id}/feedback"), 404) == "feedback_not_found"
    assert len(registry.datasets.rows("default", "feedback")) == 1
    assert (await api["submit"].get(f"/v1/jobs/{ids[0]}")).json()["feedback"] is None
    assert [job["id"] for job in (await api["submit"].get("/v1/jobs?feedback=true")).json()["items"]] == [ids[2]]
    assert code(await api["other"].delete(f"/v1/jobs/{ids[2]}/feedback"), 404) == "feedback_not_found"
    again = await api["submit"].post(f"/v1/jobs/{ids[0]}/feedback", json={"rating": -1})
    assert len(again.json()["feedback"]["history"]) == 1


async def test_all_feedback_is_forgotten_by_who_may_train_and_review(api, ledger, registry, release, worker):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job_id, "generate.fin")
    await api["submit"].post(f"/v1/jobs/{job_id}/feedback", json={"rating": 1})
    registry.datasets.get("default", "feedback")
    assert code(await api["train"].delete("/v1/datasets/feedback"), 403) == "scope_missing"
    assert (await api["admin"].delete("/v1/datasets/feedback")).status_code == 204
    with pytest.raises(NotFound):
        registry.datasets.get("default", "feedback")
    assert registry.datasets.list_all("default") == []


def rows(letter):
    """Some 800,000 bytes."""
    return b"".join(b'{"input": "%b%d"}\n' % (letter * 50_000, n) for n in range(16))


async def test_a_tenant_keeps_as_much_as_the_operator_says_counted_anew_after_each_deletion(
    settings, tokens, registry, adapter
):
    small = settings.model_copy(update={"max_stored_mib": 2})
    adapter(), adapter()  # of 400,000 bytes each, made by trainings
    async with (
        serving(small) as (_, url),
        client_of(url, tokens["train"]) as train,
        client_of(url, tokens["other"]) as other,
    ):

        async def upload(letter, client=train):
            return await client.post(f"/v1/datasets?name={letter.decode()}", content=rows(letter))

        assert (await upload(b"a")).status_code == 201
        refused = await upload(b"b")
        assert code(refused, 413) == "storage_full"
        assert "SIGNALBOX_MAX_STORED_MIB" in refused.json()["detail"]
        assert refused.json()["retryable"] is False
        assert code(await train.get("/v1/datasets/b"), 404) == "dataset_not_found"
        assert (await upload(b"a")).status_code == 201  # what is there already takes nothing
        assert (await upload(b"b", other)).status_code == 201  # nor does it of another tenant's room
        assert (await train.delete("/v1/adapters/fin.sa@1")).status_code == 204
        assert (await upload(b"b")).status_code == 201
        assert code(await upload(b"c"), 413) == "storage_full"
        assert (await train.delete("/v1/datasets/a")).status_code == 204
        assert (await upload(b"c")).status_code == 201
