"""Checkpoints in the store, with an older attempt that does not know yet that it is one."""

import pytest

from services.trainer.checkpoints import Checkpoints
from shared.registry.store import FolderStore


class LateListing(FolderStore):
    """Lists one object more than there is: another attempt has removed it since."""

    def keys(self, prefix):
        return [*super().keys(prefix), f"{prefix}000000099.tar"]


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "weights").write_text("here")
    return folder


def test_the_newest_checkpoint_alone_is_kept_and_comes_back(tmp_path, checkpoint):
    store = FolderStore(tmp_path / "store")
    checkpoints = Checkpoints(store, "j")
    checkpoints.save(checkpoint, 5)
    checkpoints.save(checkpoint, 10)
    assert store.keys("checkpoints/") == ["checkpoints/j/000000010.tar"]
    restored = checkpoints.restore(tmp_path / "out")
    assert (restored.name, (restored / "weights").read_text()) == ("checkpoint-10", "here")


def test_an_older_attempt_removes_no_newer_checkpoint(tmp_path, checkpoint):
    checkpoints = Checkpoints(FolderStore(tmp_path / "store"), "j")
    checkpoints.save(checkpoint, 10)
    checkpoints.save(checkpoint, 5)
    assert checkpoints.restore(tmp_path / "out").name == "checkpoint-10"


def test_a_checkpoint_that_vanished_after_the_listing_is_passed_over(tmp_path, checkpoint):
    checkpoints = Checkpoints(LateListing(tmp_path / "store"), "j")
    assert checkpoints.restore(tmp_path / "out") is None
    checkpoints.save(checkpoint, 5)
    assert checkpoints.restore(tmp_path / "out").name == "checkpoint-5"


def test_what_the_first_attempt_began_with_stays_until_the_job_ends(tmp_path, checkpoint):
    checkpoints = Checkpoints(FolderStore(tmp_path / "store"), "j")
    assert checkpoints.once("inputs", lambda: {"parent": "one"}) == {"parent": "one"}
    checkpoints.save(checkpoint, 5)
    assert checkpoints.once("inputs", lambda: {"parent": "two"}) == {"parent": "one"}
    checkpoints.drop()
    assert checkpoints.once("inputs", lambda: {"parent": "two"}) == {"parent": "two"}


def test_the_runs_of_a_job_share_no_checkpoint_and_go_together(tmp_path, checkpoint):
    store = FolderStore(tmp_path / "store")
    whole, first, second = (Checkpoints(store, "j", run) for run in ("", "0", "0.1"))
    first.save(checkpoint, 5)
    assert whole.restore(tmp_path / "out") is second.restore(tmp_path / "out") is None
    second.save(checkpoint, 2)
    assert first.restore(tmp_path / "out").name == "checkpoint-5"
    second.once("settled", lambda: {"loss": 0.5})
    assert first.once("settled", dict) == {"loss": 0.5}
    whole.drop()
    assert store.keys("checkpoints/") == []
