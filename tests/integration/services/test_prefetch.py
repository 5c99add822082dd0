"""Adapters that have no slot, from a store that takes its time."""

import json
import threading

import pytest

from services.adapter_worker.adapters.disk_cache import DiskCache
from services.adapter_worker.adapters.prefetch import Prefetcher
from services.adapter_worker.handlers import runners_up
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.contracts.jobs import Job, JobKind, JobState, Stage
from shared.contracts.manifests import Release, ReleaseLabel, Verdict
from shared.errors import Unavailable
from shared.registry import Registry
from tests.support.eventually import eventually
from tests.support.old_jobs import OLD_SELECTION


class SlowStore:
    """The real store behind a gate: what is asked for waits until it is let through."""

    def __init__(self, store):
        self._store = store
        self.asked = []
        self.gate = threading.Event()

    def get_file(self, key, path):
        if key.endswith(CONFIG_NAME):  # the first of an adapter's two files
            self.asked.append(key.split("/")[1])
        if not self.gate.wait(10):
            raise Unavailable("store_unavailable", "the gate stayed shut")
        self._store.get_file(key, path)


@pytest.fixture
def digests(registry, tmp_path):
    """Three adapters in the real store."""
    registry.store.ensure_bucket()
    found = []
    for name in ("a", "b", "c"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / CONFIG_NAME).write_text(f'{{"name": "{name}"}}')
        (folder / WEIGHTS_NAME).write_bytes(name.encode() * 100)
        found.append(registry.weights.put(folder))
    return found


@pytest.fixture
def slow(store):
    return SlowStore(store)


@pytest.fixture
def cache(slow, ledger, tmp_path):
    fetch = Registry(ledger, slow, tmp_path / "cache").weights.fetch
    return DiskCache(fetch, tmp_path / "cache" / "adapters", max_bytes=1 << 20)


def prefetcher(cache, busy=lambda: False, full=lambda: False):
    return Prefetcher(cache.fetch, is_busy=busy, is_full=full)


def on_disk(tmp_path):
    return {entry.name for entry in (tmp_path / "cache" / "adapters").iterdir() if not entry.name.startswith(".")}


def test_what_a_selector_named_is_fetched_first_and_before_any_job_asks(cache, slow, digests, tmp_path):
    ahead = prefetcher(cache)
    ahead.want(digests)
    eventually(lambda: slow.asked == digests[:1], "the first is on its way")
    ahead.hasten([digests[2], "f" * 64])
    slow.gate.set()
    eventually(lambda: len(slow.asked) == 3 and on_disk(tmp_path) == set(digests), "all are on the disk")
    assert slow.asked == [digests[0], digests[2], digests[1]]
    cache.fetch(digests[1])
    assert len(slow.asked) == 3


def test_a_worker_that_generates_fetches_nothing_ahead(cache, slow, digests):
    slow.gate.set()
    is_busy = threading.Event()
    is_busy.set()
    looks = []
    ahead = prefetcher(cache, busy=lambda: looks.append(1) or is_busy.is_set())
    ahead.want(digests)
    eventually(lambda: len(looks) > 2, "it has looked whether it may")
    assert slow.asked == []
    is_busy.clear()
    eventually(lambda: len(slow.asked) == 3, "it goes on")


def test_a_full_disk_ends_it_and_a_store_that_is_away_does_not(cache, slow, digests):
    slow.gate.set()
    ahead = prefetcher(cache, full=lambda: len(slow.asked) >= 2)
    ahead.want(["0" * 64, *digests])  # the store has lost the first
    eventually(lambda: len(slow.asked) == 2, "the lost one, and one more")
    ahead.want([])
    assert slow.asked == ["0" * 64, digests[0]]


def test_the_disk_cache_says_when_another_would_drive_one_out(slow, ledger, digests, tmp_path):
    slow.gate.set()
    fetch = Registry(ledger, slow, tmp_path / "cache").weights.fetch
    small = DiskCache(fetch, tmp_path / "cache" / "adapters", max_bytes=150)
    assert not small.is_full
    small.fetch(digests[0])
    assert not small.is_full
    small.fetch(digests[1])
    assert small.is_full


SELECTION = json.loads(OLD_SELECTION)


def candidate(label):
    return {"label": label, "probability": 0.1}


def test_the_runners_up_of_a_job_are_those_its_release_has():
    entry = ReleaseLabel(adapter="a" * 64, ref="bank.cards@1", group="bank", template="chatml", instruction="")
    verdict = Verdict(passed=True, reasons=())
    release = Release(tenant_id="t", base_model="tiny", labels={"bank.cards": entry}, verdict=verdict)
    job = Job(
        id="j",
        tenant_id="t",
        kind=JobKind.GENERATE,
        stage=Stage.GENERATE,
        state=JobState.RUNNING,
        queue="generate.bank",
        body={},
        timestamps={},
        selection={**SELECTION, "runners_up": [candidate("none.none"), candidate("bank.cards")]},
    )
    assert runners_up(job, release) == ["a" * 64]
    assert runners_up(job.model_copy(update={"selection": None}), release) == []
