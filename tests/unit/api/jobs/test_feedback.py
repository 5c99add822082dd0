"""What was said of a job, put together, and what of it may train."""

from services.api.jobs.feedback import conflict_of, merged, source_of, taken
from shared.contracts.jobs import Job
from shared.contracts.rows import RowSource


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


def job_of(**body):
    fields = {"tenant_id": "t", "kind": "generate", "state": "succeeded", "stage": "generate", "queue": "q"}
    return Job(id="job_1", body={"input": "x", **body}, key_line="key_1", timestamps={"queued": 1.0}, **fields)


def test_a_rows_source_names_who_said_or_accepted_what_stands_in_it():
    history = [
        said("a", label="fin.sa", at="1"),
        said("b", label="fin.ha", at="2"),
        said("c", rating=1, at="3"),
        said("r", accept=True, at="4", reviewed=True),
        said("d", output="later", at="5"),
    ]
    found = source_of(job_of(user="usr_1"), history, taken(history, 0))
    assert (found.said_by, found.at) == (("b", "c", "r"), "4")
    assert (found.line, found.user, found.conversation) == ("key_1", "usr_1", "")


def test_what_trains_nothing_was_said_by_nobody():
    assert source_of(job_of(), [said("a", label="fin.sa")], {}).said_by == ()


def test_sources_are_read_as_earlier_versions_kept_them():
    assert RowSource.read("job_1", "usr_1|key_1") == RowSource(job="job_1", user="usr_1", line="key_1")
    assert RowSource.read("job_1", "") == RowSource(job="job_1")
    kept = RowSource(said_by=("a",), at="1", line="l").model_dump_json()
    assert RowSource.read("job_1", kept) == RowSource(job="job_1", said_by=("a",), at="1", line="l")


def labels_at_odds(*history):
    return [(one["key"], one["label"]) for one in conflict_of(history)]


def by_reviewer(key, **fields):
    return said(key, reviewed=True, **fields)


def test_the_newest_labels_of_two_keys_are_at_odds_until_they_agree():
    one, other = said("a", label="fin.sa"), said("b", label="fin.ha")
    assert labels_at_odds(one, other) == [("a", "fin.sa"), ("b", "fin.ha")]
    assert labels_at_odds(one, other, said("a", label="fin.ha")) == []
    assert labels_at_odds(one, said("a", label="fin.ha")) == []
    assert labels_at_odds(one, said("b", rating=-1)) == []


def test_a_reviewer_settles_what_others_said_and_two_reviewers_are_at_odds():
    one, other = said("a", label="fin.sa"), said("b", label="fin.ha")
    first, second = by_reviewer("r", label="fin.sa"), by_reviewer("s", label="fin.ha")
    assert labels_at_odds(one, other, first) == []
    assert labels_at_odds(one, second) == []
    assert labels_at_odds(first, second) == [("r", "fin.sa"), ("s", "fin.ha")]
    for settling in (by_reviewer("t", label="fin.ha"), by_reviewer("r", label="fin.sa"), by_reviewer("t", accept=True)):
        assert labels_at_odds(first, second, settling) == []
    assert labels_at_odds(one, other, by_reviewer("r", accept=False)) == []


def test_no_key_that_may_not_review_puts_a_reviewers_label_in_doubt():
    assert labels_at_odds(by_reviewer("r", label="fin.sa"), said("a", label="fin.ha"), said("b", label="x.y")) == []
    assert labels_at_odds(by_reviewer("r", accept=True), said("a", label="fin.ha"), said("b", label="x.y")) == []


def test_a_source_says_whether_a_reviewer_spoke_and_how_many_keys_agree_on_every_field():
    agreed = [said("a", label="fin.ha"), said("b", label="fin.ha"), said("c", rating=1)]
    fields = {"label": "fin.ha", "rating": 1}
    assert source_of(job_of(), agreed, fields).agreed == 1  # the rating is one key's word
    found = source_of(job_of(), agreed[:2], {"label": "fin.ha"})
    assert (found.reviewed, found.agreed) == (False, 2)
    accepted = [*agreed, by_reviewer("r", accept=True)]
    assert source_of(job_of(), accepted, taken(accepted, 0)).reviewed
    changed = [*agreed[:2], said("b", label="fin.sa")]
    assert source_of(job_of(), changed, {"label": "fin.ha"}).agreed == 1
