"""What was said of a job, put together, and what of it may train."""

from services.api.jobs.feedback import merged, source_of, taken
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
