"""Waiting for a store that is away: as long as allowed, and no longer than the job stands."""

import pytest

from shared.contracts.jobs import Job
from shared.errors import Cancelled, NotFound, Unavailable
from shared.registry.store import FolderStore
from shared.worker.leases import HeldJob
from shared.worker.retry import RetryingStore, retry_unavailable


class AwayStore(FolderStore):
    """Does not answer the first `times` calls."""

    def __init__(self, root, times):
        super().__init__(root)
        self.times = times

    def _path(self, key):
        self.times -= 1
        if self.times >= 0:
            raise Unavailable("store_unavailable", "away")
        return super()._path(key)


def held():
    return HeldJob(
        Job(id="j", tenant_id="t", kind="train", stage="train", state="running", queue="train", body={}, timestamps={})
    )


def test_a_store_that_comes_back_in_time_is_read_and_written(tmp_path):
    store = AwayStore(tmp_path, times=1)
    patient = RetryingStore(store, held(), 0.05)
    patient.put("a/b", b"x")
    store.times = 1
    assert patient.get("a/b") == b"x"


def test_patience_ends():
    calls = []

    def call():
        calls.append(1)
        raise Unavailable("store_unavailable", "away")

    with pytest.raises(Unavailable):
        retry_unavailable(call, held(), 0.05)
    assert len(calls) == 2


def test_nobody_waits_for_a_job_that_was_stopped(tmp_path):
    stopped = held()
    stopped.stop("cancel")
    with pytest.raises(Cancelled):
        RetryingStore(AwayStore(tmp_path, times=10**6), stopped, 3600).get("a")


def test_what_is_not_there_is_told_at_once(tmp_path):
    with pytest.raises(NotFound):
        RetryingStore(FolderStore(tmp_path), held(), 3600).get("a")
