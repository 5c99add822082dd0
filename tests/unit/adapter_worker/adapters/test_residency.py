"""More adapters than slots, and more than the disk may hold."""

import os
import time

from services.adapter_worker.adapters.disk_cache import DiskCache
from services.adapter_worker.adapters.residency import changes
from shared.contracts.manifests import Release, ReleaseLabel


def release(*digests):
    labels = {
        f"d.{digest}": ReleaseLabel.model_construct(adapter=digest, group="d", ref=f"d.{digest}@1")
        for digest in digests
    }
    return Release.model_construct(labels=labels, base_model="base")


def test_a_release_that_fits_is_resident_and_nothing_else():
    assert changes([release("b", "a")], "base", ["d"], {"old", "a"}, room=8) == (["b"], ["old"])


def test_what_has_no_room_comes_when_it_is_asked_for():
    todo = changes([release("c", "d"), release("a", "b")], "base", ["d"], {"a"}, room=3)
    assert todo == (["c", "d"], [])


def test_a_thousand_adapters_load_no_more_than_there_is_room_for():
    todo = changes([release(*(f"{n:04}" for n in range(1000)))], "base", ["d"], set(), room=32)
    assert (len(todo.load), todo.unload) == (32, [])


def test_the_current_releases_of_all_tenants_come_before_any_parent():
    tenant_a, tenant_b, parent_of_a = release("a1"), release("b1", "b2"), release("a0")
    assert changes([tenant_a, tenant_b, parent_of_a], "base", ["d"], set(), room=3) == (["a1", "b1", "b2"], [])


def test_what_another_tenant_uses_stays():
    assert changes([release("new"), release("b1"), release("old")], "base", ["d"], {"old", "b1", "gone"}, room=8) == (
        ["new"],
        ["gone"],
    )


def test_a_label_that_keeps_another_base_model_is_none_of_this_worker():
    mixed = release("a", "b")
    mixed.labels["d.b"] = mixed.labels["d.b"].model_copy(update={"base_model": "old"})
    assert changes([mixed], "base", ["d"], set(), room=8) == (["a"], [])
    assert changes([mixed], "old", ["d"], set(), room=8) == (["b"], [])


class Store:
    """Writes an adapter of 100 bytes, as the registry's download does."""

    def __init__(self, folder):
        self.folder = folder
        self.fetched = []

    def fetch(self, digest):
        found = self.folder / digest
        if not found.is_dir():
            self.fetched.append(digest)
            found.mkdir()
            (found / "weights").write_bytes(bytes(100))
        return found


def test_the_longest_unused_leave_the_disk_but_not_what_was_just_asked_for(tmp_path):
    store = Store(tmp_path)
    cache = DiskCache(store.fetch, tmp_path, max_bytes=250)
    for age, digest in enumerate(("new", "old", "oldest")):
        cache.fetch(digest)
        os.utime(tmp_path / digest, (time.time() - 10_000 * age - 5000,) * 2)
    cache.fetch("another")
    assert {entry.name for entry in tmp_path.iterdir()} == {"new", "another"}
    cache.fetch("yet another")
    cache.fetch("new")
    assert store.fetched == ["new", "old", "oldest", "another", "yet another", "new"]
    assert {entry.name for entry in tmp_path.iterdir()} == {"another", "yet another", "new"}
