"""Registry and stores: content addressing, immutable versions, a pointer that moves by compare-and-set."""

import contextlib
import json
import resource
import shutil
import threading

import numpy as np
import pytest
from safetensors.numpy import save_file

from shared.contracts.jobs import JobKind, NewJob, Stage
from shared.contracts.manifests import (
    AdapterManifest,
    BaseModelManifest,
    Release,
    ReleaseLabel,
    ReleaseSelector,
    Verdict,
)
from shared.contracts.rows import Row
from shared.contracts.templates import PromptTemplate
from shared.errors import Conflict, NotFound, StaleAttempt, Unavailable
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.registry import Registry, restore
from shared.registry.store import FolderStore, S3Store
from tests.support.corpora import add_corpus


@pytest.fixture(params=["folder", "s3"])
def any_store(request, settings, tmp_path):
    return FolderStore(tmp_path / "store") if request.param == "folder" else S3Store(settings)


def make_folder(path, seed=0):
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1}))
    weights = np.random.default_rng(seed).normal(size=(1, 4)).astype(np.float32)
    save_file({"a": weights}, path / "adapter_model.safetensors")
    return path


def manifest(label="fin.sa", **changes):
    return AdapterManifest(tenant_id="t", label=label, version=0, digest="", base_model="base", **changes)


def release(registry, *, parent="", digest=None, passed=True, note="", tmp_path=None):
    label = ReleaseLabel(adapter=digest, ref="fin.sa@1", group="fin", template="chatml", instruction=note)
    return Release(
        tenant_id="t",
        parent=parent,
        base_model="base",
        labels={"fin.sa": label},
        verdict=Verdict(passed=passed, reasons=("because",)),
    )


@pytest.fixture
def digest(registry, tmp_path):
    return registry.weights.put(make_folder(tmp_path / "adapter"))


@pytest.fixture
def consumers(ledger):
    ledger.do(calls.heartbeat("w", ["generate.fin", "generate.base"], [], {}, 60))


def test_an_object_is_read_as_it_was_written(any_store, tmp_path):
    any_store.put("a/b.txt", b"hello")
    any_store.get_file("a/b.txt", tmp_path / "copy")
    assert any_store.get("a/b.txt") == (tmp_path / "copy").read_bytes() == b"hello"
    assert any_store.exists("a/b.txt")
    assert "a/b.txt" in any_store.keys("a/")
    any_store.delete("a/b.txt")
    any_store.delete("a/b.txt")
    assert not any_store.exists("a/b.txt")
    with pytest.raises(NotFound):
        any_store.get("a/b.txt")


def test_a_folder_store_never_leaves_its_folder(tmp_path):
    with pytest.raises(NotFound):
        FolderStore(tmp_path / "store").get("../secret")


def test_a_store_that_is_gone_is_unavailable(settings):
    gone = S3Store(settings.model_copy(update={"s3_url": "http://127.0.0.1:1"}))
    with pytest.raises(Unavailable):
        gone.get("x")


def test_the_same_weights_are_one_version_and_other_weights_the_next(registry, tmp_path):
    first = registry.adapters.add(make_folder(tmp_path / "a"), manifest())
    again = registry.adapters.add(make_folder(tmp_path / "b"), manifest())
    other = registry.adapters.add(make_folder(tmp_path / "c", seed=1), manifest())
    assert (first.ref, again.ref, other.ref) == ("fin.sa@1", "fin.sa@1", "fin.sa@2")
    assert registry.adapters.get("t", "fin.sa") == other
    assert registry.adapters.get("t", first.digest).ref == "fin.sa@1"
    with pytest.raises(NotFound):
        registry.adapters.get("another", "fin.sa")


@contextlib.contextmanager
def reading_one_record(ledger):
    """What runs inside reads no list of all manifests."""

    def full_reads():
        stats = ledger.redis.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("hvals", "hgetall"))

    before = full_reads()
    yield
    assert full_reads() == before


def index(ledger, kind, tenant_id="t"):
    return ledger.redis.zrange(LedgerKey.INDEX.of(kind, tenant_id), 0, -1)


@pytest.fixture
def two_versions(registry, tmp_path):
    """Two versions of one label, the first of them under a second label as well."""
    first = registry.adapters.add(make_folder(tmp_path / "1"), manifest())
    second = registry.adapters.add(make_folder(tmp_path / "2", seed=1), manifest())
    shared = registry.adapters.add(make_folder(tmp_path / "1"), manifest("fin.ha"))
    return first, second, shared


def test_looking_one_manifest_up_reads_no_other(registry, ledger, two_versions):
    first, second, _ = two_versions
    rows = registry.datasets.add("t", "news", [Row(input="x")])
    with reading_one_record(ledger):
        assert registry.adapters.get("t", "fin.sa@1") == first
        assert registry.adapters.get("t", "fin.sa") == second
        assert registry.adapters.get("t", second.digest) == second
        assert registry.adapters.list_all("t", "fin.sa") == [first, second]
        assert registry.datasets.get("t", rows.id) == registry.datasets.get("t", "news") == rows


def test_a_digest_under_two_labels_means_the_last_label_and_both_keep_their_versions(registry, two_versions, tmp_path):
    first, _, shared = two_versions
    assert registry.adapters.get("t", first.digest) == registry.adapters.list_all("t")[1] == first
    assert registry.adapters.add(make_folder(tmp_path / "1"), manifest("fin.ha")) == shared
    assert registry.adapters.add(make_folder(tmp_path / "1"), manifest("fin.ha", template="plain")).ref == "fin.ha@2"


def test_a_label_of_one_word_is_kept_with_its_domain_and_found_in_both_forms(registry_alone, ledger, tmp_path):
    registry, store = registry_alone, registry_alone.store
    first = registry.adapters.add(make_folder(tmp_path / "a"), manifest("default.support"))
    second = registry.adapters.add(make_folder(tmp_path / "b", seed=1), manifest("support"))
    assert (first.ref, second.ref) == ("support@1", "support@2")
    assert ledger.redis.hkeys(LedgerKey.ADAPTERS.of("t")) == ["default.support@1", "default.support@2"]
    assert json.loads(store.get("tenants/t/adapters/default.support@1.json"))["label"] == "default.support"
    for ref in ("support", "default.support", "support@2", "default.support@2", second.digest):
        assert registry.adapters.get("t", ref) == second
    assert registry.adapters.list_all("t", "support") == [first, second]
    registry.adapters.remove(second)
    assert registry.adapters.get("t", "support") == first
    ledger.redis.flushdb()
    assert restore(ledger.redis, store)[0].adapters == 1
    assert registry.adapters.add(make_folder(tmp_path / "b", seed=1), manifest("support")).ref == "support@2"


def test_the_tenth_version_is_newer_than_the_ninth(registry, tmp_path):
    folder = make_folder(tmp_path / "a")
    for number in range(10):
        registry.adapters.add(folder, manifest(instruction=str(number)))
    assert registry.adapters.get("t", "fin.sa").version == 10


@pytest.mark.parametrize("ref", ["fin.s", "fin", "fin.sa@", "fin.sa@01", "fin.sa fin.sa", "", "fin.sa 000000001", "*"])
def test_what_only_begins_like_a_name_finds_nothing(registry, two_versions, ref):
    registry.datasets.add("t", "news.old", [Row(input="x")])
    with pytest.raises(NotFound):
        registry.adapters.get("t", ref)
    for name in (ref, "news"):
        with pytest.raises(NotFound):
            registry.datasets.get("t", name)


def lose_index(ledger):
    ledger.redis.delete(LedgerKey.INDEX.of("adapters", "t"), LedgerKey.INDEX.of("datasets", "t"))


def write_without_index(ledger, two_versions):
    """A process of the version before adds a record; the index knows of the others."""
    newer = two_versions[1].model_copy(update={"version": 3})
    ledger.redis.hset(LedgerKey.ADAPTERS.of("t"), newer.ref, newer.model_dump_json())
    return newer


def test_a_ledger_from_before_the_index_gets_it_at_the_first_look_and_once(registry, ledger, two_versions, tmp_path):
    rows = registry.datasets.add("t", "news", [Row(input="x")])
    known = index(ledger, "adapters"), index(ledger, "datasets")
    lose_index(ledger)
    assert registry.adapters.get("t", "fin.sa") == two_versions[1]
    assert registry.datasets.get("t", "news") == rows
    assert (index(ledger, "adapters"), index(ledger, "datasets")) == known
    with reading_one_record(ledger):
        assert registry.adapters.get("t", "fin.sa") == two_versions[1]
    lose_index(ledger)
    assert registry.adapters.add(make_folder(tmp_path / "1"), manifest()) == two_versions[0]


def test_a_record_that_was_written_without_the_index_is_found(registry, ledger, two_versions):
    newer = write_without_index(ledger, two_versions)
    assert registry.adapters.get("t", "fin.sa") == newer
    with reading_one_record(ledger):
        assert registry.adapters.get("t", newer.digest) == newer


def test_many_who_add_at_once_leave_a_whole_index(registry, ledger, tmp_path):
    lose_index(ledger)

    def add(number):
        registry.adapters.add(make_folder(tmp_path / str(number), seed=number), manifest(f"fin.l{number % 3}"))
        registry.adapters.get("t", f"fin.l{number % 3}")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {registry.adapters.get("t", f"fin.l{n}").version for n in range(3)} == {4}
    assert len(index(ledger, "adapters")) == 2 * len(registry.adapters.list_all("t")) == 24


def test_weights_are_verified_on_every_download(registry, digest, ledger, tmp_path):
    registry.weights.fetch(digest)
    key = f"adapters/{digest}/adapter_model.safetensors"
    data = bytearray(registry.store.get(key))
    data[-1] ^= 1
    registry.store.put(key, bytes(data))
    assert registry.weights.fetch(digest)  # the verified local copy
    another = Registry(ledger, registry.store, tmp_path / "another")
    with pytest.raises(Unavailable, match="does not match"):
        another.weights.fetch(digest)
    assert not (tmp_path / "another" / "adapters" / digest).exists()


def test_others_may_read_fetched_adapters_where_they_may_enter_the_cache(registry, digest, ledger, tmp_path):
    rights = {}
    for mode in (0o700, 0o755):
        cache = tmp_path / f"{mode:o}"
        cache.mkdir(mode)
        cache.chmod(mode)
        folder = Registry(ledger, registry.store, cache).weights.fetch(digest)
        rights[mode] = [path.stat().st_mode & 0o777 for path in (folder.parent, folder, *folder.iterdir())]
    assert rights == {0o700: [0o700, 0o700, 0o600, 0o600], 0o755: [0o755, 0o755, 0o644, 0o644]}


@pytest.mark.parametrize("what", ["dataset", "rows of a release", "release", "base model"])
def test_what_was_altered_under_its_digest_is_never_used(registry, ledger, digest, what):
    rows = [Row(input="a", output="b")]
    if what == "dataset":
        added = registry.datasets.add("t", "news", rows)
        registry.store.put(f"tenants/t/datasets/{added.id}.jsonl", b'{"input": "a", "output": "poison"}\n')
        used, mend = lambda: registry.datasets.rows("t", "news"), lambda: registry.datasets.add("t", "again", rows)
    elif what == "rows of a release":
        key = registry.datasets.put_rows("t", rows)
        registry.store.put(key, b'{"input": "a", "output": "poison"}\n')
        used, mend = lambda: registry.datasets.get_rows(key), lambda: registry.datasets.put_rows("t", rows)
    elif what == "release":
        made = release(registry, digest=digest)
        registry.releases.add(made)
        altered = made.model_copy(update={"reject_policy": "error"}).model_dump_json()
        ledger.redis.hset(LedgerKey.RELEASES.of("t"), made.id, altered)
        used, mend = lambda: registry.releases.get("t", made.id), lambda: registry.releases.add(made)
    else:
        base = BaseModelManifest(id="pin", shapes={"a": (1, 2)}, context_length=7)
        key = f"base/pin/{base.digest}.json"
        registry.store.put(key, base.model_copy(update={"context_length": 8}).model_dump_json().encode())
        used = lambda: registry.base_models.get("pin", base.digest)  # noqa: E731
        mend = lambda: registry.store.put(key, base.model_dump_json().encode())  # noqa: E731
    with pytest.raises(Unavailable, match="does not match its digest and is not used") as refusal:
        used()
    assert refusal.value.code.endswith("_corrupt")
    mend()
    assert used()


@contextlib.contextmanager
def no_room():
    """No file of this process may grow: what a full disk says, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_called_so_and_leaves_nothing_behind(registry, digest, settings):
    shutil.rmtree(settings.cache_dir, ignore_errors=True)
    with pytest.raises(Unavailable) as refusal, no_room():
        registry.weights.fetch(digest)
    assert (refusal.value.code, refusal.value.retryable) == ("disk_full", True)
    assert list((settings.cache_dir / "adapters").iterdir()) == []
    assert registry.weights.fetch(digest).is_dir()


def test_the_same_rows_are_one_data_set(registry):
    rows = [Row(input="x", label="a.b"), Row(input="y", label="a.b")]
    first, second = registry.datasets.add("t", "one", rows), registry.datasets.add("t", "two", rows)
    assert first.id == second.id
    assert registry.datasets.rows("t", first.id) == rows
    assert first.labels == {"a.b": 2}


def test_the_same_rows_under_two_names_keep_both(registry):
    rows = [Row(input="x"), Row(input="y")]
    first, second = registry.datasets.add("t", "one", rows), registry.datasets.add("t", "two", rows)
    assert (registry.datasets.get("t", "one"), registry.datasets.get("t", "two")) == (first, second)
    assert [m.name for m in registry.datasets.list_all("t")] == ["one", "two"]


def test_a_name_means_the_rows_that_came_last_and_no_manifest_changes(registry):
    good, bad = [Row(input="x"), Row(input="y")], [Row(input="z")]
    first = registry.datasets.add("t", "one", good)
    assert registry.datasets.add("t", "one", good) == first
    registry.datasets.add("t", "one", bad)
    again = registry.datasets.add("t", "one", good)
    assert registry.datasets.get("t", "one") == again
    assert first in registry.datasets.list_all("t")
    assert [m.rows for m in registry.datasets.list_all("t")] == [2, 1, 2]


def test_a_data_set_is_found_by_its_id_whatever_another_one_is_called(registry):
    meant = registry.datasets.add("t", "one", [Row(input="x")])
    registry.datasets.add("t", meant.id, [Row(input="y")])
    assert registry.datasets.get("t", meant.id) == meant


def test_a_rating_alone_teaches_nothing_and_reading_feedback_twice_lists_it_once(registry, ledger):
    ledger.redis.hset(LedgerKey.FEEDBACK.of("t"), "job_1", json.dumps({"input": "x"}))
    with pytest.raises(NotFound):
        registry.datasets.rows("t", "feedback")
    ledger.redis.hset(LedgerKey.FEEDBACK.of("t"), "job_2", json.dumps({"input": "y", "output": "z"}))
    assert (
        registry.datasets.rows("t", "feedback")
        == registry.datasets.rows("t", "feedback")
        == [Row(input="y", output="z")]
    )
    assert len(registry.datasets.list_all("t")) == 1


def test_feedback_becomes_a_data_set(registry, ledger):
    with pytest.raises(NotFound):
        registry.datasets.rows("t", "feedback")
    ledger.redis.hset(LedgerKey.FEEDBACK.of("t"), "job_1", json.dumps({"input": "x", "label": "a.b"}))
    assert registry.datasets.rows("t", "feedback") == [Row(input="x", label="a.b")]


def test_a_release_that_names_a_missing_adapter_is_refused(registry):
    with pytest.raises(Conflict) as refusal:
        registry.releases.add(release(registry, digest="0" * 64))
    assert refusal.value.code == "adapter_missing"


def test_the_pointer_moves_and_goes_back_in_one_step(registry, digest, consumers):
    first = registry.releases.add(release(registry, digest=digest))
    registry.releases.promote("t", first)
    second = registry.releases.add(release(registry, digest=digest, parent=first))
    registry.releases.promote("t", second)
    assert registry.releases.current_id("t") == second
    assert registry.releases.rollback("t").id == first
    assert registry.releases.current_id("t") == first
    assert [move["release"] for move in registry.releases.promotions("t")] == [first, second, first]
    assert len(registry.store.keys("tenants/t/promotions/")) >= 3


def test_a_release_that_was_never_current_is_promoted_and_not_rolled_back_to(registry, digest, consumers):
    first = registry.releases.add(release(registry, digest=digest))
    registry.releases.promote("t", first)
    failed = registry.releases.add(release(registry, digest=digest, parent=first, passed=False))
    with pytest.raises(Conflict) as refusal:
        registry.releases.rollback("t", to=failed)
    assert refusal.value.code == "never_current"
    assert registry.releases.current_id("t") == first


def test_an_attempt_that_lost_its_job_promotes_nothing(registry, ledger, digest, consumers):
    candidate = registry.releases.add(release(registry, digest=digest))
    new = NewJob(id="job_1", tenant_id="t", kind=JobKind.TRAIN, stage=Stage.TRAIN, queue="train", body={})
    ledger.do(calls.create(new, 60))
    old = ledger.do(calls.acquire("job_1", "train", "w1", 0))
    ledger.do(calls.expire("train"))
    living = ledger.do(calls.acquire("job_1", "train", "w2", 60))
    with pytest.raises(StaleAttempt):
        registry.releases.promote("t", candidate, by="job_1", attempt=old)
    assert registry.releases.current_id("t") == ""
    registry.releases.promote("t", candidate, by="job_1", attempt=living)
    assert registry.releases.current_id("t") == candidate


def test_promotion_over_another_parent_is_stale(registry, digest, consumers):
    first = registry.releases.add(release(registry, digest=digest))
    rival = registry.releases.add(release(registry, digest=digest, note="rival"))
    registry.releases.promote("t", first)
    with pytest.raises(Conflict) as refusal:
        registry.releases.promote("t", rival)
    assert refusal.value.code == "stale_parent"


def test_of_many_rivals_exactly_one_is_promoted(registry, digest, consumers):
    rivals = [registry.releases.add(release(registry, digest=digest, note=str(n))) for n in range(12)]
    outcomes = []

    def promote(rival):
        try:
            registry.releases.promote("t", rival)
            outcomes.append(rival)
        except Conflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=promote, args=(rival,)) for rival in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("stale_parent") == 11
    assert registry.releases.current_id("t") in outcomes


def test_promotion_needs_a_live_worker_of_every_group_unless_forced(registry, digest):
    candidate = registry.releases.add(release(registry, digest=digest))
    with pytest.raises(Conflict) as refusal:
        registry.releases.promote("t", candidate)
    assert refusal.value.code == "group_without_worker"
    registry.releases.promote("t", candidate, force=True)
    assert registry.releases.current_id("t") == candidate


def test_the_gate_holds_back_what_did_not_pass_unless_forced(registry, digest, consumers):
    candidate = registry.releases.add(release(registry, digest=digest, passed=False))
    with pytest.raises(Conflict) as refusal:
        registry.releases.promote("t", candidate)
    assert refusal.value.code == "gate_failed"
    registry.releases.promote("t", candidate, force=True)


@pytest.fixture
def light(registry, tmp_path):
    (tmp_path / "light.safetensors").write_bytes(b"not read here")
    return registry.weights.put_light(tmp_path / "light.safetensors")


def test_a_light_selector_is_read_as_it_was_written_and_kept(registry, light):
    assert registry.weights.fetch_light(light).read_bytes() == b"not read here"
    registry.store.delete(f"light/{light}.safetensors")
    assert registry.weights.fetch_light(light).is_file()


def test_a_damaged_light_selector_is_refused(registry, light):
    registry.store.put(f"light/{light}.safetensors", b"not read here!")
    with pytest.raises(Unavailable, match="does not match its digest"):
        registry.weights.fetch_light(light)


def test_a_release_with_a_light_selector_that_is_not_stored_is_refused(registry, digest, consumers):
    whole = release(registry, digest=digest)
    selector = ReleaseSelector(light="0" * 64, labels=("fin.sa",))
    with pytest.raises(Conflict, match="light selector"):
        registry.releases.add(whole.model_copy(update={"selector": selector}))


def test_a_field_that_a_later_version_adds_does_not_rename_stored_releases(registry, digest):
    class Later(Release):
        note: str = ""
        tags: tuple[str, ...] = ()

    now = release(registry, digest=digest).model_copy(update={"selector": ReleaseSelector(llm="d", labels=("fin.sa",))})
    stored = now.model_dump_json()
    assert Later.model_validate_json(stored).id == Release.model_validate_json(stored).id == now.id
    assert Later.model_validate_json(stored).model_copy(update={"note": "new"}).id != now.id


def held(registry, tenant_id="t"):
    return (
        registry.adapters.list_all(tenant_id),
        registry.datasets.list_all(tenant_id),
        registry.releases.list_all(tenant_id),
        registry.releases.current_id(tenant_id),
        [(move["release"], move["from"], move["by"], move["key"]) for move in registry.releases.promotions(tenant_id)],
    )


@pytest.fixture
def registry_alone(registry, tmp_path):
    """Over a store that no other test writes to."""
    return registry.with_store(FolderStore(tmp_path / "own"))


@pytest.fixture
def history(registry_alone, tmp_path, consumers):
    """Two adapters of one label, data sets, three releases, of which the second is current again; and all of it."""
    adapter = registry_alone.adapters.add(make_folder(tmp_path / "a"), manifest())
    registry_alone.adapters.add(make_folder(tmp_path / "b", seed=1), manifest())
    registry_alone.datasets.add("t", "news", [Row(input="x", output="y")])
    registry_alone.datasets.add("t", "news", [Row(input="x", output="z")])
    add_corpus(registry_alone, "t", "laws", {"a.txt": b"A law."}, tmp_path / "corpus")
    registry_alone.templates.add("t", PromptTemplate(name="house", jinja="{{ messages[0].content }}"))
    parent = ""
    for note in "123":
        parent = registry_alone.releases.add(release(registry_alone, digest=adapter.digest, parent=parent, note=note))
        registry_alone.releases.promote("t", parent, by="key_1")
    registry_alone.releases.rollback("t", by="key_2")
    return held(registry_alone)


def test_a_lost_ledger_is_made_anew_from_the_store(registry_alone, ledger, history, tmp_path):
    ledger.redis.flushall()
    assert held(registry_alone) == ([], [], [], "", [])
    (restored,) = restore(ledger.redis, registry_alone.store)
    assert restored == ("t", 2, 2, 3, history[3], [], 1, 0, 0, 0, 1)
    assert [template.name for template in registry_alone.templates.list_added("t")] == ["house"]
    assert registry_alone.corpora.get("t", "laws").files[0].name == "a.txt"
    assert held(registry_alone) == history
    assert ledger.redis.smembers(LedgerKey.QUEUES) == {"generate.fin", "generate.base"}
    assert registry_alone.releases.tenants() == {"t"}
    with reading_one_record(ledger):
        assert registry_alone.adapters.get("t", "fin.sa") == history[0][-1]
        assert registry_alone.datasets.get("t", "news") == history[1][-1]
    assert registry_alone.adapters.add(make_folder(tmp_path / "c", seed=2), manifest()).ref == "fin.sa@3"


def test_restoring_again_changes_nothing(registry_alone, ledger, history, consumers):
    registry_alone.releases.rollback("t")
    before = held(registry_alone)
    (restored,) = restore(ledger.redis, registry_alone.store)
    assert (restored.adapters, restored.datasets, restored.releases) == (0, 0, 0)
    assert held(registry_alone) == before


def test_restoring_leaves_what_was_promoted_since(registry_alone, ledger, history, tmp_path):
    ledger.redis.flushall()
    ledger.do(calls.heartbeat("w", ["generate.fin", "generate.base"], [], {}, 60))
    digest = registry_alone.weights.put(make_folder(tmp_path / "anew"))
    anew = registry_alone.releases.add(release(registry_alone, digest=digest, note="anew"))
    registry_alone.releases.promote("t", anew)
    restore(ledger.redis, registry_alone.store)
    assert registry_alone.releases.current_id("t") == anew
    assert len(registry_alone.releases.list_all("t")) == 4


def test_a_damaged_move_is_named_and_the_one_before_it_counts(registry_alone, ledger, history):
    keys = registry_alone.store.keys("tenants/t/promotions/")
    registry_alone.store.put(keys[-1], b"{}")
    ledger.redis.flushall()
    (restored,) = restore(ledger.redis, registry_alone.store)
    assert restored.unreadable == [keys[-1]]
    assert registry_alone.releases.current_id("t") == history[4][-2][0]


@pytest.mark.parametrize("later", [{"note": "new"}, {"selector": {"depth": 3}}, {"note": "new", "tags": []}])
def test_a_release_of_a_later_version_is_read_by_this_one(registry, ledger, digest, later):
    class LaterSelector(ReleaseSelector):
        depth: int = 0

    class Later(Release):
        selector: LaterSelector | None = None
        note: str = ""
        tags: tuple[str, ...] = ()

    fields = json.loads(release(registry, digest=digest).model_dump_json())
    fields["selector"] = {"llm": digest, "labels": ["fin.sa"], **later.pop("selector", {})}
    newer = Later.model_validate(fields | later)
    ledger.redis.hset(LedgerKey.RELEASES.of("t"), newer.id, newer.model_dump_json())
    assert registry.releases.get("t", newer.id).labels == newer.labels


def test_an_altered_release_is_named_and_does_not_come_back(registry_alone, ledger, history):
    key = f"tenants/t/releases/{history[3]}.json"
    other = json.loads(registry_alone.store.get(key)) | {"reject_policy": "error"}
    registry_alone.store.put(key, json.dumps(other).encode())
    ledger.redis.flushall()
    (restored,) = restore(ledger.redis, registry_alone.store)
    assert (restored.releases, restored.current, restored.unreadable) == (2, "", [key])


def test_a_damaged_manifest_is_named_and_the_others_come_back(registry_alone, ledger, history):
    key = f"tenants/t/releases/{history[3]}.json"
    whole = registry_alone.store.get(key)
    registry_alone.store.put(key, b"{")
    ledger.redis.flushall()
    (restored,) = restore(ledger.redis, registry_alone.store)
    assert (restored.releases, restored.current, restored.unreadable) == (2, "", [key])
    registry_alone.store.put(key, whole)
    restore(ledger.redis, registry_alone.store)
    assert registry_alone.releases.current_id("t") == history[3]
