"""A rebase of real processes whose trainer is killed twice, between two tiny base models."""

import pytest

from tests.support.rebase import KILLED_AT, rebased
from tests.support.samples import WORDS, rows
from tests.support.tiny_model import save_tiny_model

TRAINING = {"epochs": 100, "rank": 2, "max_length": 400, "batch_size": 4, "checkpoint_steps": 20}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rebase_whose_trainer_is_killed_twice_moves_every_label(tmp_path):
    old = save_tiny_model(tmp_path / "old")
    new = save_tiny_model(tmp_path / "new", seed=1, hidden_size=64, more_tokens=["card", "flight"])
    done = rebased(tmp_path, old, new, {label: list(rows(label, 24)) for label in WORDS}, TRAINING)
    assert done.on_new_base == len(WORDS)
    assert done.rebase.state == "succeeded"
    assert done.rebase.candidate
    assert done.lost_leases == len(KILLED_AT)  # nothing else was begun anew
