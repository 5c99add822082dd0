"""Rows of feedback teach and do not judge, and a release says how many of its rows they are; with light selectors."""

import pytest

from services.trainer.data.split import same_text
from shared.contracts.jobs import JobState
from shared.contracts.rows import Row, RowSource
from tests.support.samples import rows
from tests.support.training import LABELS, SELECTOR

SAID, OTHER, NEW = LABELS
LENIENT = {"selector": "light", "min_accuracy": 0, "max_false_reject": 0, "max_loss": 0.2, "promote": True}


@pytest.fixture
def release(clients, run, jobs, adapters):
    """Train a current release; `body` is that of its job."""

    def make(**body):
        job = run(jobs.train(**{**SELECTOR, **LENIENT, **body}))
        assert job.state is JobState.SUCCEEDED, job.error
        return clients.registry.releases.get("t", job.result["release"]), job.result.get("warnings", [])

    return make


@pytest.fixture
def said(clients):
    """Store rows of labels as a version of `feedback`; returns its id."""

    def store(*labels, count=40):
        made = [Row(**row, label=label) for label in labels for row in rows(label, count, seed="said")]
        found = [(RowSource(job=f"job_{at}", said_by=("r",), reviewed=True), row) for at, row in enumerate(made)]
        return clients.registry.datasets.add_sourced("t", "feedback", found).id

    return store


def texts(clients, keys, label):
    return {same_text(row.input) for row in clients.registry.datasets.get_rows(keys[label])} if label in keys else set()


def said_texts(clients, dataset, label):
    return {same_text(row.input) for row in clients.registry.datasets.rows("t", dataset) if row.label == label}


def test_a_label_with_validation_rows_keeps_them_and_all_of_its_feedback_teaches(clients, release, said):
    first, _ = release()
    assert first.report["feedback_rows"][SAID]["from_feedback"] == 0
    dataset = said(SAID)
    held_out = texts(clients, first.validation, SAID)
    assert held_out
    # one of the rows that judge comes back as feedback: it goes on judging
    leaked = clients.registry.datasets.get_rows(first.validation[SAID])[0]
    source = RowSource(job="job_leak", said_by=("r",), reviewed=True)
    pairs = zip(clients.registry.datasets.sources(clients.registry.datasets.stored("t", dataset)),
                clients.registry.datasets.rows("t", dataset), strict=True)  # fmt: skip
    dataset = clients.registry.datasets.add_sourced("t", "feedback", [*pairs, (source, leaked)]).id
    second, warnings = release(labels={SAID: dataset, OTHER: OTHER})
    assert texts(clients, second.validation, SAID) == held_out
    assert not texts(clients, second.representation, SAID) & held_out
    assert texts(clients, second.representation, SAID) <= said_texts(clients, dataset, SAID)
    counts = second.report["feedback_rows"]
    assert (
        counts[SAID]["from_feedback"]
        == counts[SAID]["rows"]
        == len(clients.registry.datasets.get_rows(second.representation[SAID]))
    )
    assert counts[OTHER]["from_feedback"] == 0
    assert second.report["confusion"][SAID]
    assert not any("judged by rows of feedback" in warning for warning in warnings)


def test_a_new_label_of_feedback_alone_is_split_and_the_report_says_who_judges_it(clients, release, said):
    first, _ = release()
    dataset = said(NEW)
    second, warnings = release(kind="selector.add", labels={NEW: dataset}, parent=first.id, missing_adapters="allow")
    assert texts(clients, second.validation, NEW) <= said_texts(clients, dataset, NEW)
    assert texts(clients, second.validation, NEW)
    assert any(warning.startswith(f"{NEW}: it is judged by rows of feedback") for warning in warnings)
    assert second.report["feedback_rows"][NEW]["from_feedback"] == second.report["feedback_rows"][NEW]["rows"]


def test_balancing_with_feedback_adds_rows_to_learn_and_none_to_judge_and_counts_go_on(clients, release, said):
    first, _ = release()
    dataset = said(SAID)
    second, _ = release(kind="selector.balance", labels={SAID: dataset}, easy=[OTHER], parent=first.id)
    assert second.validation == first.validation
    added = texts(clients, second.representation, SAID) - texts(clients, first.representation, SAID)
    assert added
    assert added <= said_texts(clients, dataset, SAID)
    assert second.report["feedback_rows"][SAID]["from_feedback"] == len(added)
    third, _ = release(kind="selector.add", labels={NEW: NEW}, parent=second.id)
    assert third.report["feedback_rows"][SAID]["from_feedback"] == len(added)
    assert third.report["feedback_rows"][NEW]["from_feedback"] == 0
    fourth, _ = release(kind="selector.delete", labels=[SAID], parent=third.id)
    assert sum(counts["from_feedback"] for counts in fourth.report["feedback_rows"].values()) == len(added)


def test_equal_rows_uploaded_under_another_name_are_of_feedback_all_the_same(clients, said):
    dataset = said(SAID)
    uploaded = clients.registry.datasets.add("t", "mine", clients.registry.datasets.rows("t", dataset))
    assert (uploaded.id, uploaded.sources) == (dataset, "")
    assert clients.registry.datasets.is_of_feedback("t", "mine")
    assert not clients.registry.datasets.is_of_feedback("t", OTHER)
