"""A review finds what changed in a log of a real selector's choices, names rows by their entries, and reads little."""

import json
import random

import pytest

from services.trainer.evaluation.selector import SelectorScorer, selections
from services.trainer.handlers import train
from services.trainer.traffic.cut import cut
from services.trainer.traffic.window import LEAST_FIRST
from shared.contracts.jobs import JobState
from shared.contracts.reviews import ReviewResult
from shared.contracts.rows import Row
from shared.contracts.traffic import position_of
from tests.support.samples import WORDS, rows
from tests.support.traffic import Log
from tests.support.training import LABELS, SELECTOR

REVIEW = {"kind": "traffic.review", "window": 100, "windows": 4}
CARS = ["engine", "tyres", "brakes", "oil", "gearbox", "clutch", "mileage"]
SHARES = {"bank.accounts": 0.5, "bank.cards": 0.3, "travel.trips": 0.2}


@pytest.fixture
def release(clients, run, jobs, adapters):
    """A current release with a light selector, trained for real."""
    for label in LABELS:
        clients.registry.datasets.add("t", label, [Row(**row) for row in rows(label, 240)])
    body = {**SELECTOR, "selector": "light", "labels": {label: label for label in LABELS}, "max_false_reject": 0.02}
    job = run(jobs.train(**body))
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result["promoted"], job.result
    return clients.registry.releases.get("t", job.result["release"])


@pytest.fixture
def log(clients, release):
    """The log since the release."""
    return Log(clients.registry, "t")


@pytest.fixture
def select(clients, release):
    """What the release's selector makes of texts, as rows of the log."""
    scorer = SelectorScorer(clients.registry, clients.base_folder, clients.tokenizer, 64)

    def rows_of(texts, **more):
        found = selections(release.selector, scorer.score(release.selector, texts))
        for text, selection in zip(texts, found, strict=True):
            result = selection.as_result(release.selector, release=release.id, score_ms=0)
            yield {
                "text": text,
                "label": result.label or "",
                "best_label": result.best_label,
                "probability": result.probability,
                "confidence": result.confidence,
                "rejected": result.rejected,
                "by": result.by,
                "release": release.id,
                **more,
            }

    return rows_of


@pytest.fixture
def review(run, jobs):
    def to_end(**body):
        job = run(jobs.train(**{**REVIEW, **body}))
        assert job.state is JobState.SUCCEEDED, job.error
        return ReviewResult.model_validate(job.result)

    return to_end


def texts(count, seed=0, shares=SHARES, words=WORDS):
    chance = random.Random(f"traffic {seed}")
    labels = chance.choices(list(shares), list(shares.values()), k=count)
    return [" ".join(chance.choices(words[label], k=6)) for label in labels]


def promote(clients, release):
    """Make a release current in place of its parent."""
    clients.registry.releases.add(release)
    clients.registry.releases.promote("t", release.id, force=True)


def about_cars(count, seed=0):
    return texts(count, seed, {"car": 1}, {"car": CARS})


def mixed(*parts):
    found = [text for part in parts for text in part]
    random.Random(0).shuffle(found)
    return found


def test_a_planted_task_and_what_it_changes_are_found_and_forgotten_texts_are_gone(
    log, select, review, clients, release, ledger
):
    log.add(select(texts(LEAST_FIRST)))
    quiet = log.add(select(texts(200, 1)))
    told = log.add(select(mixed(texts(140, 2), about_cars(60))))
    found = review()
    assert (found.release, found.windows, found.rows, found.notes) == (release.id, 4, 400, ())
    assert (found.reference, found.reference_rows) == ("traffic", LEAST_FIRST)
    assert (found.first, found.last) == (quiet[0], told[-1])
    assert {"classifier", "discrepancy", "confidence"} <= {one.kind for one in found.changes}
    began = clients.registry.traffic.texts("t", [told[0]])[told[0]].at
    since = {one.kind: one.since for one in found.changes}
    assert since["rejection"] == since["confidence"] == began
    assert min(since.values()) == began
    rejection = next(one for one in found.changes if one.kind == "rejection")
    assert rejection.remedy == "add"
    shown = clients.registry.traffic.texts("t", rejection.examples)
    assert len(shown) == 10
    assert all(set(row.text.split()) <= set(CARS) for row in shown.values())
    (task,) = found.tasks
    own = clients.registry.traffic.texts("t", task.entries)
    cars = [row for row in own.values() if set(row.text.split()) <= set(CARS)]
    assert len(cars) >= 0.9 * len(own)
    assert len(cars) >= 0.8 * 60
    assert set(task.terms) <= {*CARS, *(f"{one} {other}" for one in CARS for other in CARS)}
    assert sum(found.labels.values()) + round(found.rejected * found.rows) == found.rows

    assert log.forget(lambda row: row.entry in task.entries[:5]) == 5
    left = clients.registry.traffic.texts("t", task.entries)
    assert set(left) == set(task.entries[5:])
    kept = json.dumps(found.model_dump(mode="json"))
    assert not any(row.text in kept for row in own.values())


def test_a_new_task_is_found_among_the_first_requests_of_a_release_too(log, select, review):
    """A release that was promoted a moment ago has no window yet, and its traffic is what it will be compared with."""
    told = log.add(select(mixed(texts(LEAST_FIRST - 60), about_cars(60))))
    found = review(windows=12)
    assert (found.windows, found.rows, found.changes) == (0, LEAST_FIRST, ())
    assert (found.first, found.last, found.reference) == (told[0], told[-1], "traffic")
    assert "only new tasks before" in found.notes[0]
    (task,) = (one for one in found.tasks if set(one.terms) <= set(CARS))
    assert len(task.entries) >= 50
    assert review(windows=4).rows == 400  # no more than windows would have


def test_where_nothing_changes_nothing_is_found(log, select, review):
    log.add(select(texts(LEAST_FIRST + 450)))
    found = review(windows_a_month=1000)
    assert (found.windows, found.changes, found.tasks) == (4, (), ())


def test_a_label_that_grows_is_found_against_traffic_and_not_against_validation_rows(log, select, review):
    grown = {"bank.accounts": 0.1, "bank.cards": 0.1, "travel.trips": 0.8}
    log.add(select(texts(300, 1, grown)))
    early = review()
    assert (early.reference, early.windows) == ("validation", 3)
    assert "label_mix" not in {one.kind for one in early.changes}
    assert "validation rows" in early.notes[0]
    log.add(select(texts(LEAST_FIRST - 300)))
    log.add(select(texts(100, 3, grown)))
    change = next(one for one in review().changes if one.kind == "label_mix")
    assert change.remedy == "balance"
    assert change.labels[0].label == "travel.trips"
    assert change.labels[0].after == pytest.approx(0.8, abs=0.1)


def test_a_log_of_49_rows_and_none_say_what_to_do(log, select, review, release):
    assert "signalbox traffic policy --on" in review().notes[0]
    log.add(select(texts(49)))
    found = review()
    assert (found.release, found.windows, found.changes, found.reference) == (release.id, 0, (), "none")
    assert found.notes == ("only 49 requests are logged since the release: review again when there are 100 requests",)
    log.add(select(texts(LEAST_FIRST - 48)))
    assert "100 requests after the first 1000" in review().notes[0]


def test_rows_of_other_releases_and_of_named_labels_are_left_out(log, select, review, clients, release):
    log.add(select(mixed(about_cars(300)), release="rel_0000000000000000"))
    log.add(select(about_cars(50), by="named"))
    own = texts(LEAST_FIRST + 290)
    for start in range(0, len(own), 60):
        log.add(select(own[start : start + 60]))
        log.add(select(about_cars(20), release="rel_0000000000000000"))
    found = review()
    assert (found.windows, found.tasks) == (2, ())  # they end where the log, with all its rows, has full hundreds
    until = clients.registry.traffic.parts("t")[-1].last
    rows_read = cut(clients.registry.traffic, "t", release, until, window=100, most=4)
    assert [row.text for row in rows_read.first] == own[:LEAST_FIRST]
    compared = [row.text for one in rows_read.windows for row in one]
    end = own.index(compared[-1]) + 1
    assert compared == own[end - 200 : end]


def test_a_release_without_a_selector_or_without_judged_rows_says_so(clients, log, select, review, release):
    log.add(select(texts(LEAST_FIRST + 100)))
    bare = release.model_copy(update={"report": {}, "parent": release.id})
    promote(clients, bare)
    log.add(select(texts(LEAST_FIRST + 100), release=bare.id))
    found = review()
    assert (found.reference, found.windows) == ("traffic", 1)
    assert "no rows that it was judged on" in found.notes[0]
    unselecting = release.model_copy(update={"selector": None, "parent": bare.id})
    promote(clients, unselecting)
    assert "has no selector" in review().notes[0]


def test_without_a_release_the_job_says_to_promote_one(run, jobs, clients):
    job = run(jobs.train(**REVIEW))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "no_release")


def test_a_later_attempt_reviews_what_the_first_one_did(log, select, clients, jobs, run, attempts, release):
    log.add(select(texts(LEAST_FIRST + 100)))
    job_id = jobs.train(**REVIEW)

    def stopped(attempt):
        emit = attempt.emit

        def note(kind, data):
            emit(kind, data)
            if data.get("stage") == "comparing_traffic":
                attempt.lease.stop("drain")

        attempt.emit = note
        train(attempt, clients)

    attempts.run("train", stopped)
    assert jobs.get(job_id).state is JobState.QUEUED
    log.add(select(texts(300)))
    other = release.model_copy(update={"selector": None, "parent": release.id})
    promote(clients, other)
    found = ReviewResult.model_validate(run(job_id).result)
    assert (found.release, found.windows) == (release.id, 1)


def test_a_review_reads_the_parts_it_needs_alone(log, select, clients, release, monkeypatch):
    log.add(select(texts(LEAST_FIRST)), part_rows=500)
    between = log.add(select(texts(2000)), part_rows=100)
    newest = log.add(select(texts(230)), part_rows=230)
    traffic = clients.registry.traffic
    read, part_rows = [], traffic.part_rows
    monkeypatch.setattr(traffic, "part_rows", lambda tenant, part: read.append(part.rows) or part_rows(tenant, part))
    found = cut(traffic, "t", release, position_of(newest[-1]), window=100, most=2)
    assert [one[0].entry for one in found.windows] == [newest[0], newest[100]]
    assert read == [500, 500, 230]
    read.clear()
    wanted = [between[0], between[150], newest[3], "1-0"]
    assert list(traffic.texts("t", wanted)) == wanted[:3]
    assert read == [100, 100, 230]


def test_windows_stay_the_same_until_there_are_so_many_more_requests(log, select, clients, release):
    log.add(select(texts(LEAST_FIRST + 100)))

    def windows():
        traffic = clients.registry.traffic
        found = cut(traffic, "t", release, traffic.parts("t")[-1].last, window=100, most=4)
        return [(one[0].entry, one[-1].entry) for one in found.windows]

    first = windows()
    log.add(select(texts(99)))
    assert windows() == first
    log.add(select(texts(1)))
    assert windows()[:1] == first
    assert len(windows()) == 2


def test_entries_are_found_while_parts_are_joined_and_lost_ones_are_missing(log, select, clients, store):
    entries = log.add(select(texts(300)), part_rows=100)
    traffic = clients.registry.traffic
    stale = traffic.parts("t")
    log.join(stale[:2])
    listed = [stale]
    fresh = traffic.parts
    traffic.parts = lambda tenant: listed.pop() if listed else fresh(tenant)
    try:
        assert list(traffic.texts("t", entries[::50])) == entries[::50]
    finally:
        del traffic.parts
    assert traffic.texts("t", []) == {}
    assert traffic.texts("t", ["7-0"]) == {}
