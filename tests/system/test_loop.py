"""The loop over a month in short form (`make loop` lives the whole): real traffic, feedback, reviews, decisions."""

import pytest

from benchmarks.loop import live
from benchmarks.month import month
from benchmarks.selector_data import DATA
from shared.contracts.labels import BACKGROUND

WINDOWS, SIZE = 2, 100


@pytest.mark.timeout(400)
@pytest.mark.skipif(not DATA.is_dir(), reason="the public data of CLINC150 is not beside the repository")
def test_each_window_is_answered_and_reviewed_and_each_step_is_noted(tmp_path):
    planted = month(DATA, windows=WINDOWS, size=SIZE, domains=("banking",))
    lived = live(tmp_path, planted)
    assert [len(answers) for answers in lived.answers] == [SIZE] * WINDOWS
    assert lived.answers[0] == lived.first[0]  # so few requests teach nothing that a policy may act on
    differ = {now for now, before in zip(lived.answers[1], lived.first[1], strict=True) if now != before}
    assert differ <= {BACKGROUND}  # by the candidate that rejects three in four, planted before this window
    assert [entry.what for entry in lived.audit].count("review") == WINDOWS
    assert not [entry for entry in lived.audit if entry.by.startswith("policy:")]
