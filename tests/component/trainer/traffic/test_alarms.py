"""How often a stream of windows in which nothing changes raises an alarm; too long for the unit tests."""

import numpy as np

from services.trainer.traffic.drift import ALARMS_A_MONTH, WINDOWS_A_MONTH, findings
from services.trainer.traffic.window import Request, reference_of, window_of

WINDOWS = 180


def traffic(count, rng):
    labels = rng.choice([f"d{n // 5}.t{n}" for n in range(20)], count)
    rows = zip(labels, rng.beta(8, 2, count), rng.random(count) < 0.05, rng.random(count) < 0.1, strict=True)
    requests = [
        Request(str(at), str(label), p, p**2, bool(no), bool(odd)) for at, (label, p, no, odd) in enumerate(rows)
    ]
    return window_of(requests, rng.normal(size=(count, 16)))


def test_where_nothing_changes_a_month_has_as_few_alarms_as_promised():
    rng = np.random.default_rng(0)
    reference = reference_of(traffic(300, rng), [traffic(1000, rng)])
    alarms = sum(bool(findings(reference, traffic(100, rng), "w")) for _ in range(WINDOWS))
    expected = ALARMS_A_MONTH * WINDOWS / WINDOWS_A_MONTH
    assert alarms <= expected + 3 * np.sqrt(expected)
