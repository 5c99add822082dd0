"""Base models in the registry: versions of a manifest, none of which is ever overwritten."""

import json
import threading

import pytest

from shared.contracts.manifests import BaseModelManifest
from shared.errors import NotFound, Unavailable
from shared.ledger.keys import LedgerKey
from shared.registry import Registry
from shared.registry.store import FolderStore
from shared.worker.base_model import note_base_model, publish_base_model
from shared.worker.service import Service


@pytest.fixture
def folder_store(tmp_path):
    return FolderStore(tmp_path / "store")


@pytest.fixture
def base_models(registry, folder_store):
    return registry.with_store(folder_store).base_models


def manifest(model_id="a", **fields):
    known = {"shapes": {"layers.0.q_proj": (2, 4)}, "name": "tiny", "created_at": "2026-01-01"}
    return BaseModelManifest(id=model_id, **{**known, **fields})


def test_a_manifest_is_read_as_it_was_published(base_models):
    published = manifest(end_tokens=(2, 5), context_length=1024)
    base_models.publish(published)
    assert base_models.get("a") == base_models.get("a", published.digest) == published


def test_other_contents_of_the_same_pin_are_another_version(base_models):
    first, second = manifest(), manifest(chat_template="f" * 64, created_at="2026-01-02")
    for published in (first, second, first):
        base_models.publish(published)
    assert base_models.versions("a") == [first, second]
    assert base_models.get("a", second.digest) == second
    assert base_models.get("a") == first


def test_what_is_usual_is_that_of_the_model_which_was_served_last(base_models):
    before, now = manifest(), manifest(chat_template="f" * 64, usual_template="model")
    for published in (before, now):
        base_models.publish(published)
    assert base_models.get("a") == now
    base_models.publish(manifest(usual_template="plain"))  # the same content, where no chat template may be rendered
    assert base_models.get("a", before.digest).usual_template == base_models.get("a").usual_template == "plain"


def test_the_same_contents_under_another_name_are_the_same_version(base_models):
    base_models.publish(manifest())
    base_models.publish(manifest(name="elsewhere", created_at="2026-02-02"))
    assert base_models.versions("a") == [manifest()]


def test_there_may_be_many_base_models(base_models):
    for model_id in ("b", "a"):
        base_models.publish(manifest(model_id))
    assert base_models.ids() == ["a", "b"]
    assert base_models.get("b").id == "b"


def test_one_that_nobody_published_is_not_found(base_models):
    base_models.publish(manifest())
    for model_id, digest in (("b", ""), ("a", "0" * 64)):
        with pytest.raises(NotFound) as error:
            base_models.get(model_id, digest)
        assert error.value.code == "base_model_not_found"


def test_what_was_stored_before_manifests_is_read_and_kept(base_models, folder_store):
    old = json.dumps({"id": "a", "shapes": {"layers.0.q_proj": [2, 4]}}).encode()
    folder_store.put("base/a.json", old)
    assert base_models.get("a") == BaseModelManifest(id="a", shapes={"layers.0.q_proj": (2, 4)})
    assert base_models.versions("a") == []
    base_models.publish(manifest())
    assert base_models.versions("a") == [manifest()]
    assert base_models.ids() == ["a"]
    assert folder_store.get("base/a.json") == old


class Returning(FolderStore):
    """A store that is away for its first two calls."""

    calls_refused = 0

    def _path(self, key):
        if self.calls_refused < 2:
            self.calls_refused += 1
            raise Unavailable("store_unavailable", "the object store is away")
        return super()._path(key)


@pytest.fixture
def service(settings):
    return Service(settings.model_copy(update={"pointer_poll_seconds": 0.01}), "test", ["generate.g"], concurrency=1)


def test_a_base_model_is_published_once_the_store_comes(service, ledger, tiny_folder, tmp_path):
    service.registry = Registry(ledger, Returning(tmp_path / "store"), tmp_path / "cache")
    published = publish_base_model(service, tiny_folder)
    for thread in threading.enumerate():
        if thread.name == "publish-base-model":
            thread.join(10)
    assert service.registry.base_models.versions(published.id) == [published]


def test_a_process_says_which_base_model_it_serves(service, ledger, tiny_folder):
    served = note_base_model(service, tiny_folder)
    service.leases.start()
    try:
        presence = json.loads(ledger.redis.get(LedgerKey.PROCESS.of(service.owner)))
    finally:
        service.leases.close()
    assert (presence["base_model"], presence["base_manifest"]) == (served.id, served.digest)


def test_a_manifest_from_before_sizes_were_noted_gets_them_from_the_next_process(base_models):
    base_models.publish(manifest())
    base_models.publish(manifest(weight_bytes=4096, vocabulary_size=64))
    assert (base_models.get("a").weight_bytes, base_models.get("a").vocabulary_size) == (4096, 64)
    base_models.publish(manifest())  # a process of the version before
    assert base_models.get("a").weight_bytes == 4096
