"""Selectors from few rows or none: made, served, updated, grown, on a tiny random model."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from services.selector.handlers import Reader, select
from services.selector.scoring.prototypes import PrototypeScorers
from services.trainer.handlers import train
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.rows import Row
from shared.errors import Invalid
from shared.model.base import base_model_id
from shared.model.prototypes import Prototypes, Reading
from tests.support.samples import WORDS, rows
from tests.support.tiny_encoder import save_tiny_encoder
from tests.support.training import LABELS, SELECTOR

ASKS = {label: f"questions about {' '.join(words)}" for label, words in WORDS.items()}
FEW = {**SELECTOR, "selector": "prototypes", "promote": False}
ONLY = {**FEW, "labels": dict.fromkeys(LABELS), "descriptions": ASKS}
EASY_GOING = {"min_accuracy": 0, "max_false_reject": 0, "max_loss": 0.2}


@pytest.fixture
def made(clients, run, jobs, adapters):
    """Run a job to its release."""

    def to_release(**body):
        job = run(jobs.new(JobKind.TRAIN, "train", body))
        assert job.state is JobState.SUCCEEDED, job.error
        return clients.registry.releases.get("t", job.result["release"])

    return to_release


@pytest.fixture
def few(clients):
    """A data set of so many rows for each label."""

    def of(count):
        for label in LABELS:
            own = [Row(**{**row, "label": label}) for row in rows(label, count, seed=7)]
            clients.registry.datasets.add("t", f"few.{label}", own)
        return {label: f"few.{label}" for label in LABELS}

    return of


def stored(clients, release):
    return Prototypes.load(clients.registry.weights.fetch_prototypes(release.selector.prototypes))


def test_descriptions_alone_make_a_selector_that_says_that_nobody_has_measured_it(clients, made):
    release = made(**ONLY)
    assert release.selector.kind == "prototypes"
    assert {label: entry.description for label, entry in release.labels.items()} == ASKS
    assert stored(clients, release).centroids.owners.tolist() == [0, 1, 2]
    assert release.verdict.passed
    assert "3 labels have no rows to be measured on." in release.verdict.reasons
    assert f"{LABELS[0]}: no row was left to validate it on; give it more rows" in release.report["warnings"]


@pytest.mark.parametrize(("count", "judged"), [(1, 3), (2, 6), (5, 3)])
def test_rows_are_judged_each_without_itself_and_none_is_lost_to_validation(clients, made, few, count, judged):
    release = made(**{**FEW, "labels": few(count), "descriptions": ASKS})
    assert release.report["n"] == judged  # of five rows one is for validation, of fewer none
    assert set(release.report["intervals"]["per_label"]) == set(LABELS)
    assert any("stands for anything from" in warning for warning in release.report["warnings"])
    kept = [
        clients.registry.datasets.get_rows(key)
        for key in (*release.representation.values(), *release.validation.values())
    ]
    assert sum(map(len, kept)) == len(LABELS) * (count + 1)
    centroids = stored(clients, release).centroids
    assert len(centroids.vectors) == len(LABELS)


def test_few_rows_are_refused_where_the_kind_needs_more(run, jobs, adapters, few):
    job = run(jobs.train(**{**FEW, "selector": "light", "labels": few(3)}))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "dataset_too_small")


def test_a_label_that_few_rows_cannot_refute_passes_the_gate_and_one_that_they_refute_does_not(made, few, clients):
    labels = few(3)
    assert made(**{**FEW, "labels": labels, "min_accuracy": 0.99, "max_false_reject": 0.5}).report["n"] == 9
    same = [Row(input=f"{letter} {number}") for number, letter in enumerate("abcdefghijklmnopqrst")]
    for label in LABELS:
        clients.registry.datasets.add("t", labels[label], same)
    refused = made(**{**FEW, "labels": labels, "min_accuracy": 0.99})
    assert not refused.verdict.passed


def test_an_encoder_stands_in_the_release_and_the_service_reads_with_the_same_one_alone(
    clients, jobs, adapters, attempts, few, tmp_path
):
    encoder = save_tiny_encoder(tmp_path)
    job_id = jobs.train(**{**FEW, "labels": few(5)})
    attempts.run("train", lambda attempt: train(attempt, replace(clients, encoder_folder=encoder)))
    release = clients.registry.releases.get("t", jobs.get(job_id).result["release"])
    chosen, fetch = release.selector, clients.registry.weights.fetch_prototypes
    assert (chosen.encoder, chosen.needs_base) == (base_model_id(encoder), False)

    loads = []
    service = PrototypeScorers(fetch, Reading(lambda: clients.base_folder, encoder), on_load=lambda: loads.append(1))
    service.prefetch(chosen)
    texts = ["card limit", "flight to a hotel"]
    assert np.array(service.score_many(chosen, texts)).shape == (2, 3)
    service.score_many(chosen, texts)
    assert loads == [1]
    without = PrototypeScorers(fetch, Reading(lambda: clients.base_folder), on_load=list)
    with pytest.raises(Invalid, match="SIGNALBOX_ENCODER names here is not there"):
        without.prefetch(chosen)
    other = PrototypeScorers(fetch, Reading(lambda: clients.base_folder, clients.base_folder), on_load=list)
    with pytest.raises(Invalid, match="is another one"):
        other.prefetch(chosen)


def test_without_an_encoder_the_base_model_reads_and_the_service_scores_as_the_trainer_does(clients, made, few):
    release = made(**{**FEW, "labels": few(5)})
    assert (release.selector.encoder, release.selector.needs_base) == ("", True)
    service = PrototypeScorers(
        clients.registry.weights.fetch_prototypes, Reading(lambda: clients.base_folder), on_load=lambda: None
    )
    texts = [row["input"] for row in rows(LABELS[0], 3)]
    prototypes = stored(clients, release).in_order(release.selector.labels)
    embed = Reading(lambda: clients.base_folder).states(prototypes.layer)
    np.testing.assert_allclose(service.score_many(release.selector, texts), prototypes.score(embed(texts)), atol=1e-5)


def test_auto_takes_prototypes_where_words_have_too_few_rows_and_grows_into_words_with_rows(clients, made, few):
    labels = few(3)
    first = made(**{**FEW, "selector": "auto", "labels": {label: labels[label] for label in LABELS[:2]}})
    assert first.selector.kind == "prototypes"
    assert "has 3 rows, and words alone need 4" in first.report["kind_chosen"]
    more = {label: label for label in LABELS[:2]}
    update = {"parent": first.id, **EASY_GOING}
    grown = made(kind="selector.balance", labels=more, **update)
    assert grown.selector.kind == "light", grown.report["kind_chosen"]
    assert all(clients.registry.datasets.get_rows(key) for key in grown.validation.values())
    stays = made(kind="selector.balance", labels=more, selector="prototypes", **update)
    assert stays.selector.kind == "prototypes"


def test_labels_join_and_leave_a_release_of_prototypes(clients, made, few):
    labels = few(2)
    first = made(**{**FEW, "labels": {label: labels[label] for label in LABELS[:2]}, "descriptions": {}})
    added = {"labels": {LABELS[2]: None}, "descriptions": {LABELS[2]: ASKS[LABELS[2]]}}
    wider = made(kind="selector.add", **added, parent=first.id, **EASY_GOING)
    assert (wider.selector.kind, set(wider.selector.labels)) == ("prototypes", set(LABELS))
    assert wider.labels[LABELS[2]].description == ASKS[LABELS[2]]
    left = made(kind="selector.delete", labels=[LABELS[0]], parent=wider.id, **EASY_GOING)
    assert set(left.selector.labels) == {*LABELS[1:], BACKGROUND}
    assert left.labels[LABELS[2]].description == ASKS[LABELS[2]]
    assert stored(clients, left).labels == sorted(left.selector.labels)


def test_hundreds_of_labels_are_taken_and_what_is_told_of_them_stays_short(clients, run, jobs):
    labels = [f"d{number % 25}.l{number}" for number in range(300)]
    own = [Row(input=f"{label} {word}", label=label) for label in labels for word in ("card", "flight")]
    clients.registry.datasets.add("t", "many", own)
    body = {**FEW, "labels": dict.fromkeys(labels, "many"), "missing_adapters": "allow"}
    job = run(jobs.train(**{**body, "descriptions": dict.fromkeys(labels[:9], "something")}))
    assert job.state is JobState.SUCCEEDED, job.error
    warnings = job.result["warnings"]
    assert any(warning.startswith("300 labels have fewer than 20 validation rows") for warning in warnings)
    assert len(warnings) < 250
    assert len(stored(clients, clients.registry.releases.get("t", job.result["release"])).labels) == 300


def test_a_label_without_rows_does_not_join_a_release_of_words(clients, made, run, jobs):
    words = made(**{**FEW, "selector": "light"})
    added = {"labels": {LABELS[2]: None}, "descriptions": {LABELS[2]: ASKS[LABELS[2]]}}
    job = run(jobs.new(JobKind.TRAIN, "train", {"kind": "selector.add", **added, "parent": words.id}))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "dataset_missing")
    wider = made(kind="selector.add", **added, parent=words.id, selector="prototypes", **EASY_GOING)
    assert wider.selector.kind == "prototypes"


def release_that(ambiguous, reject_policy="base"):
    entry = partial(ReleaseLabel, adapter="a", group="bank", template="chatml", instruction="")
    return Release(
        tenant_id="t",
        base_model="tiny",
        labels={label: entry(ref=f"{label}@1") for label in LABELS},
        selector=ReleaseSelector(prototypes="p", encoder="e", labels=tuple(LABELS), threshold=0.3),
        verdict=Verdict(passed=True, reasons=()),
        ambiguous=ambiguous,
        reject_policy=reject_policy,
    )


BETWEEN, SURE = [-0.8, -0.7, -3.0], [-5.0, 0.0, -5.0]


@pytest.mark.parametrize(
    ("ambiguous", "scores", "state", "queue"),
    [
        (None, BETWEEN, JobState.ROUTED, "generate.bank"),
        ("base", BETWEEN, JobState.ROUTED, "generate.base"),
        ("reject", BETWEEN, JobState.REJECTED, None),
        ("choices", BETWEEN, JobState.REJECTED, None),
        ("choices", SURE, JobState.ROUTED, "generate.bank"),
    ],
)
def test_a_text_between_two_labels_gets_what_the_release_says(jobs, attempts, ambiguous, scores, state, queue):
    work = partial(
        select,
        release=release_that(ambiguous),
        reader=Reader(
            prefetch=lambda _: None,
            light=lambda *_: scores,
            llm=lambda *_: pytest.fail("it has no language model"),
            near=lambda *_: [],
            base_model=lambda: pytest.fail("an encoder reads for it"),
            store_patience_seconds=0,
        ),
    )
    job_id = jobs.new(JobKind.GENERATE, "select", {"input": "card", "params": {}})
    attempts.run("select", work)
    job = jobs.get(job_id)
    assert (job.state, job.selection["ambiguous"], job.selection["by"]) == (state, scores is BETWEEN, "prototypes")
    if queue:
        assert job.queue == queue
    two = [choice["label"] for choice in job.selection["choices"]]
    assert two == ([LABELS[1], LABELS[0]] if ambiguous == "choices" and scores is BETWEEN else [])
    if two:
        assert job.error["code"] == "ambiguous"
        assert all(label in job.error["detail"] for label in two)
