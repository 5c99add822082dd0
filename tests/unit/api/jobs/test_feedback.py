"""What was said of a job, put together, and what of it may train."""

from services.api.jobs.feedback import merged, taken


def said(key, *, reviewed=False, **fields):
    return {"key": key, "reviewed": reviewed, **fields}


def test_fields_are_merged_and_the_last_key_is_named():
    history = [said("a", label="fin.sa", rating=-1), said("b", output="yes"), said("c", rating=1)]
    assert merged(history) == {"label": "fin.sa", "output": "yes", "rating": 1, "key": "c"}


def test_what_nobody_reviewed_trains_nothing():
    assert taken([said("a", label="fin.sa"), said("b", label="fin.sa")], 0) == {}


def test_a_reviewers_own_words_train_and_carry_nobody_elses_along():
    history = [said("a", output="poison"), said("r", label="fin.ha", reviewed=True)]
    assert taken(history, 0) == {"label": "fin.ha", "key": "r"}


def test_a_reviewer_may_accept_what_was_said_before_and_take_it_back():
    history = [said("a", label="fin.ha"), said("r", accept=True, reviewed=True)]
    assert taken(history, 0)["label"] == "fin.ha"
    assert taken([*history, said("a", label="evil.x")], 0)["label"] == "fin.ha"  # said after the review
    assert taken([*history, said("r", accept=False, reviewed=True)], 0) == {}


def test_by_policy_so_many_keys_that_agree_train_without_a_review():
    once = [said("a", label="fin.ha"), said("a", label="fin.ha"), said("b", label="fin.sa")]
    assert taken(once, 2) == {}
    assert taken([*once, said("b", label="fin.ha")], 2) == {"label": "fin.ha"}
    assert taken([*once, said("b", label="fin.ha"), said("r", accept=False, reviewed=True)], 2) == {}
