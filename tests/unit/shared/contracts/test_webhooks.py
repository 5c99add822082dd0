"""Which events there are, and when a delivery is tried again."""

from shared.contracts.webhooks import EVENTS, MAX_AGE_SECONDS, PAUSES_SECONDS, WANTED, pause_seconds


def test_pauses_grow_for_three_days_and_then_it_is_over():
    pauses = [pause_seconds(attempts, 0) for attempts in range(1, len(PAUSES_SECONDS) + 1)]
    assert pauses == sorted(pauses) == list(PAUSES_SECONDS)
    assert 3 * 86_400 < MAX_AGE_SECONDS < 4 * 86_400
    assert pause_seconds(len(PAUSES_SECONDS) + 1, 0) is None


def test_a_pause_is_spread_by_a_fifth():
    assert (pause_seconds(2, -1), pause_seconds(2, 1)) == (240, 360)


def test_an_endpoint_may_want_each_event_a_family_or_all():
    assert {
        *EVENTS,
        "*",
        "job.*",
        "fine_tuning.*",
        "batch.*",
        "release.*",
        "rollout.*",
        "proposal.*",
        "endpoint.*",
    } == WANTED
