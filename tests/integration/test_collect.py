"""Garbage: what nothing names any more goes, whatever names it still, and when it was written."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from services.trainer.checkpoints import Checkpoints
from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.contracts.manifests import AdapterManifest, Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.rows import Row
from shared.ledger import calls
from shared.registry import Registry
from shared.registry.collect import collect, garbage
from shared.registry.store import FolderStore, S3Store
from tests.support.adapter_samples import lora_tensors, safetensors
from tests.support.corpora import add_corpus


def later():
    return datetime.now(UTC) + timedelta(seconds=2)  # a store rounds times


@pytest.fixture(params=["folder", "s3"])
def own(request, ledger, alone, tmp_path):
    """A registry over a store that no other test writes to."""
    store = FolderStore(tmp_path / "store") if request.param == "folder" else S3Store(alone)
    return Registry(ledger, store, tmp_path / "cache")


def adapter(registry, tmp_path, seed, label="fin.sa"):
    folder = tmp_path / "adapter"
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(safetensors(lora_tensors(), fill=seed))
    manifest = AdapterManifest(tenant_id="t", label=label, version=0, digest="", base_model="b")
    return registry.adapters.add(folder, manifest)


def release(registry, adapter, tmp_path, **fields):
    (tmp_path / "light").write_bytes(json.dumps(fields).encode())
    light = registry.weights.put_light(tmp_path / "light")
    entry = ReleaseLabel(adapter=adapter.digest, ref=adapter.ref, group="fin", template="chatml", instruction="")
    made = Release(
        tenant_id="t",
        base_model="b",
        labels={adapter.label: entry},
        selector=ReleaseSelector(light=light, labels=(adapter.label,)),
        representation={adapter.label: registry.datasets.put_rows("t", [Row(input=f"set {fields}")])},
        verdict=Verdict(passed=True, reasons=()),
        **fields,
    )
    registry.releases.add(made)
    return made


def training(ledger, **body):
    job = NewJob(
        id=new_job_id("t"),
        tenant_id="t",
        kind=JobKind.TRAIN,
        stage=Stage.TRAIN,
        queue="train",
        body={"kind": "k"} | body,
    )
    ledger.do(calls.create(job, 60))
    return job.id


def keys(found):
    return {one.key for one in found}


def contents(registry, *prefixes):
    return {key for prefix in prefixes for key in registry.store.keys(prefix)}


@pytest.fixture
def filled(own, ledger, tmp_path):
    """A release of one adapter, another adapter and data set with records, and what is garbage beside them."""
    live = release(own, adapter(own, tmp_path, 1), tmp_path)
    adapter(own, tmp_path, 2), own.datasets.add("t", "rows", [Row(input="a")])
    before = set(own.store.keys(""))
    gone = adapter(own, tmp_path, 3, "fin.old")
    old = release(own, gone, tmp_path, reject_policy="error")
    rows = own.datasets.add("t", "old", [Row(input="b")])
    own.removal.release("t", old.id)
    own.removal.adapter("t", gone.ref)
    own.removal.dataset("t", rows.id)
    Checkpoints(own.store, "job_ended").once("inputs", dict)
    unnamed = set(own.store.keys("")) - before
    assert len(unnamed) == 6  # weights and config, light selector, its rows, the data set's, a checkpoint
    return live, unnamed


def test_what_nothing_names_is_garbage_and_nothing_else(own, ledger, filled):
    live, unnamed = filled
    before = set(own.store.keys(""))
    found = garbage(own, later())
    assert keys(found) == unnamed
    assert set(own.store.keys("")) == before  # listing deletes nothing
    assert keys(collect(own.store, found)) == unnamed
    assert set(own.store.keys("")) == before - unnamed
    assert garbage(own, later()) == []
    assert own.datasets.get_rows(next(iter(live.representation.values())))
    assert own.weights.fetch(live.labels["fin.sa"].adapter).is_dir()


def test_the_files_of_a_corpus_stay_until_it_is_deleted(own, ledger, tmp_path):
    kept = add_corpus(own, "t", "laws", {"a.txt": b"one", "b.txt": b"two"}, tmp_path)
    gone = add_corpus(own, "t", "notes", {"a.txt": b"one", "b.txt": b"three"}, tmp_path)
    add_corpus(own, "t", "laws", {"b.txt": b"another two"}, tmp_path)  # what it replaces is garbage
    replaced = f"tenants/t/corpus_files/{kept.files[1].sha256}"
    assert keys(garbage(own, later())) == {replaced}
    own.removal.corpus("t", "notes")
    assert keys(garbage(own, later())) == {replaced, f"tenants/t/corpus_files/{gone.files[1].sha256}"}
    ledger.redis.flushall()
    assert keys(garbage(own, later())) == {replaced, f"tenants/t/corpus_files/{gone.files[1].sha256}"}


def test_what_was_written_within_the_grace_stays(own, ledger, filled):
    assert garbage(own, datetime.now(UTC) - timedelta(minutes=1)) == []


def test_an_upload_that_comes_again_between_list_and_deletion_is_not_hit(own, ledger, filled, tmp_path):
    found = [one for one in garbage(own, later()) if one.key.startswith("adapters/")]
    stale = [one._replace(modified_at=one.modified_at - timedelta(hours=1)) for one in found]  # written since then
    again = adapter(own, tmp_path, 3, "fin.old")
    assert list(collect(own.store, stale)) == []
    assert own.weights.fetch(again.digest).is_dir()


def test_after_the_loss_of_a_ledger_nothing_is_garbage_that_can_be_restored(own, ledger, filled):
    _, unnamed = filled
    ledger.redis.flushall()
    assert keys(garbage(own, later())) == unnamed


def test_what_a_training_or_its_checkpoints_name_stays_until_it_has_ended(own, ledger, tmp_path):
    rows = own.datasets.put_rows("t", [Row(input="x")]), own.datasets.put_rows("t", [Row(input="y")])
    (tmp_path / "light").write_bytes(b"light")
    light = own.weights.put_light(tmp_path / "light")
    job_id = training(ledger, datasets={"fin.sa": rows[0].rpartition("/")[2].removesuffix(".jsonl")})
    checkpoints = Checkpoints(own.store, job_id)
    checkpoints.once("light", lambda: {"digest": light})
    stays = {rows[0], f"light/{light}.safetensors", f"checkpoints/{job_id}/light.json"}
    assert keys(garbage(own, later())) == {rows[1]}
    ledger.do(calls.cancel(job_id, "t"))
    assert keys(garbage(own, later())) == stays | {rows[1]}


def test_what_another_program_keeps_in_the_bucket_stays(own, ledger):
    for key in ("ready", "notes/a.txt", "base/pin.json", "adapters/readme.txt", "tenants/t/datasets/notes.txt"):
        own.store.put(key, b"{}")
    assert garbage(own, later()) == []


def test_the_same_weights_stay_for_the_other_tenant_that_has_them(own, ledger, tmp_path):
    mine = adapter(own, tmp_path, 1)
    theirs = mine.model_copy(update={"tenant_id": "other"})
    own.adapters.add(tmp_path / "adapter", theirs)
    own.removal.adapter("t", mine.ref)
    assert garbage(own, later()) == []
    own.removal.adapter("other", "fin.sa@1")
    assert len(garbage(own, later())) == 2
