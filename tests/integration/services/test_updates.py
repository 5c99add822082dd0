"""Labels deleted, balanced and added again: the second fine-tuning of section 3.4, on a tiny random model."""

import json

import pytest

from services.trainer.handlers import train
from services.trainer.selector.inputs import inputs_of
from services.trainer.selector.plan import plan_of
from services.trainer.selector.updates import select_data
from shared.contracts.jobs import JobState
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release, ReleaseLabel
from shared.contracts.rows import Row
from shared.ledger.keys import LedgerKey
from shared.model.head import HEAD_WEIGHT, has_head
from shared.model.light import LightSelector
from tests.support.samples import rows
from tests.support.training import LABELS, SELECTOR, context_of

GONE, *KEPT = LABELS
EASY_GOING = {"min_accuracy": 0, "max_false_reject": 0, "max_loss": 0.2}
DELETE = {"kind": "selector.delete", "labels": [GONE], **EASY_GOING}
BALANCE = {"kind": "selector.balance", **EASY_GOING}


@pytest.fixture
def parent(run, jobs, adapters, clients):
    """Make the release to update, of three labels; `settings` are those of the job."""

    def make(**settings) -> Release:
        job = run(
            jobs.train(**{**SELECTOR, "labels": {label: label for label in LABELS}, "promote": False, **settings})
        )
        assert job.state is JobState.SUCCEEDED, job.error
        return clients.registry.releases.get("t", job.result["release"])

    return make


@pytest.fixture
def update(run, jobs, clients):
    """Run an update to its end; answers the job and its release."""

    def to_end(parent, **body):
        job = run(jobs.train(**body, parent=parent.id))
        assert job.state is JobState.SUCCEEDED, job.error
        return job, clients.registry.releases.get("t", job.result["release"])

    return to_end


def plan(clients, jobs, parent, **body):
    job = jobs.take(jobs.train(**body, parent=parent.id))
    context = context_of(job, clients)
    inputs = inputs_of(context)
    return plan_of(context, inputs, select_data(context, inputs))


def stored(clients, keys, label):
    return clients.registry.datasets.get_rows(keys[label])


def told(ledger, job_id):
    events = ledger.redis.xrange(LedgerKey.EVENTS.of(job_id))
    return [json.loads(event["data"]) for _, event in events if event["type"] == "progress"]


def trained(ledger, job_id):
    return any(progress["stage"] == "training" for progress in told(ledger, job_id))


def head_rows(folder):
    from safetensors.torch import load_file

    return len(load_file(folder / "adapter_model.safetensors")[HEAD_WEIGHT])


def test_a_label_for_named_requests_alone_stays_and_can_be_taught(parent, update, clients, adapters):
    before = parent(labels={label: label for label in KEPT}, selector="light")
    own = adapters[GONE]
    entry = ReleaseLabel(adapter=own.digest, ref=own.ref, group="odd", template="plain", instruction="As edited.")
    edited = before.model_copy(update={"labels": {**before.labels, GONE: entry}, "parent": before.id})
    clients.registry.releases.add(edited)
    _, balanced = update(edited, **BALANCE, hard=[KEPT[0]])
    assert (balanced.labels[GONE], balanced.named_labels) == (entry, {GONE})
    assert balanced.verdict.passed, balanced.verdict.reasons
    _, taught = update(edited, kind="selector.add", labels={GONE: GONE}, **EASY_GOING)
    assert (taught.labels[GONE], taught.named_labels) == (entry, set())
    told = {"labels": {GONE: GONE}, "templates": {GONE: "alpaca"}, "groups": {GONE: "fin"}}
    _, named = update(edited, kind="selector.add", **told, **EASY_GOING)
    assert named.labels[GONE] == entry.model_copy(update={"template": "alpaca", "group": "fin"})


@pytest.mark.parametrize(
    "asked", [{"selector": "light"}, {"selector": "llm", "readout": "names"}, {"readout": "head"}], ids=str
)
def test_a_deleted_label_leaves_every_part_and_its_texts_are_background_with_a_fate(clients, parent, update, asked):
    old = parent(**asked)
    job, new = update(old, **DELETE)

    assert set(new.labels) == set(KEPT) == set(new.datasets)
    assert set(new.selector.labels) == set(new.representation) == set(new.validation) == {*KEPT, BACKGROUND}
    assert new.selector.kind == old.selector.kind
    if new.selector.light:
        light = LightSelector.load(clients.registry.weights.fetch_light(new.selector.light))
        assert GONE not in light.labels
    if new.selector.llm:
        folder = clients.registry.weights.fetch(new.selector.llm)
        assert has_head(folder) is (asked.get("readout") == "head")
        assert not has_head(folder) or head_rows(folder) == 3
    assert {row.label for row in stored(clients, new.representation, BACKGROUND)} == {GONE}
    fate = job.result["deleted"][GONE]
    assert fate["n"] == len(stored(clients, old.validation, GONE))
    assert fate["rejected"] + sum(fate["taken"].values()) == pytest.approx(1)
    assert set(fate["taken"]) <= set(KEPT)
    assert clients.registry.releases.get("t", old.id) == old


def test_forgotten_texts_are_no_background_but_their_fate_is_told(clients, parent, update):
    job, new = update(parent(selector="light"), **DELETE, deleted_texts="forget")
    assert set(new.selector.labels) == set(new.representation) == set(KEPT)
    assert job.result["deleted"][GONE]["n"] > 0


def test_texts_that_a_kept_label_has_are_no_background_and_without_any_there_is_none(
    clients, jobs, run, parent, update
):
    old = parent(selector="light")
    texts = [row.input for row in stored(clients, old.representation, GONE)]
    shared = clients.registry.datasets.put_rows("t", [Row(input=text, label=KEPT[0]) for text in texts])
    overlapping = old.model_copy(update={"representation": {**old.representation, KEPT[0]: shared}})
    clients.registry.releases.add(overlapping)

    _, new = update(overlapping, **DELETE)
    assert set(new.selector.labels) == set(new.validation) == set(KEPT)
    alike = overlapping.model_copy(
        update={"representation": dict.fromkeys(LABELS, shared)}  # nothing is left that could be background
    )
    clients.registry.releases.add(alike)
    job = run(jobs.train(**{**DELETE, "labels": [GONE, KEPT[1]], "parent": alike.id}))
    assert job.error["code"] == "labels_too_few"


def test_a_label_that_is_added_again_is_no_background_any_more(clients, parent, update):
    _, cut = update(parent(selector="light"), **DELETE)
    _, whole = update(cut, kind="selector.add", labels={GONE: GONE}, **EASY_GOING)
    assert set(whole.selector.labels) == set(whole.representation) == set(whole.labels) == set(LABELS)


@pytest.mark.slow
def test_a_language_model_that_is_shown_nothing_again_is_carried_over(clients, parent, update, ledger):
    old = parent(selector="llm", readout="names")
    job, new = update(old, **DELETE, retention=0, deleted_texts="forget")
    assert new.selector.llm == old.selector.llm
    assert not trained(ledger, job.id)


@pytest.mark.parametrize(("retention", "kept"), [(0, 0), (0.1, 1), (0.5, 5), (1, 10)])
def test_balance_shows_a_share_of_the_easy_labels_all_of_the_others_and_more_of_the_hard(
    clients, jobs, parent, retention, kept
):
    hard, easy, between = LABELS
    old = parent(selector="light", selection={"rows_per_label": 10})
    more = {"easy": [easy], "hard": [hard], "selection": {"rows_per_label": 4}, "retention": retention}
    planned = plan(clients, jobs, old, **BALANCE, **more)

    shown = {label: len(own) for label, own in planned.data.llm_rows(retention, 0).items()}
    assert shown == {label: count for label, count in {hard: 14, easy: kept, between: 10}.items() if count}
    assert {label: len(own) for label, own in planned.data.sets.representation.items()} == {
        hard: 14,
        easy: 10,
        between: 10,
    }
    assert planned.data.notes == {"easy": [easy], "hard": {hard: 4}}
    texts = [row.input for row in planned.data.sets.representation[hard]]
    assert len(set(texts)) == 14
    assert not set(texts) & {row.input for row in stored(clients, old.validation, hard)}


def test_hard_and_easy_labels_come_from_the_report_and_extra_rows_from_a_named_data_set(clients, jobs, parent, update):
    old = parent(selector="light", selection={"rows_per_label": 10})
    accuracy = dict(zip(LABELS, (0.4, 0.92, 1.0), strict=True))
    judged = old.model_copy(update={"report": {"per_label": accuracy}})
    clients.registry.releases.add(judged)
    hard, between, easy = LABELS
    planned = plan(clients, jobs, judged, **BALANCE)
    assert (planned.data.notes["easy"], list(planned.data.notes["hard"])) == ([easy], [hard])
    clients.registry.datasets.add("t", "more", [Row(**row) for row in rows(between, 30, seed=1)])
    job, new = update(judged, **BALANCE, labels={between: "more"})
    assert (job.result["easy"], job.result["hard"]) == ([easy], {between: 30})
    assert new.datasets == {**old.datasets, between: "more"}
    assert set(new.labels) == set(LABELS)


@pytest.mark.slow
def test_every_ratio_is_tried_from_the_same_start_and_a_killed_attempt_goes_on_where_it_was(
    clients, jobs, parent, run, ledger, attempts
):
    old = parent(selector="llm", readout="head")
    beyond = old.model_copy(update={"report": {"per_label": dict.fromkeys(LABELS, 2.0)}})  # no ratio can hold
    clients.registry.releases.add(beyond)
    body = {**DELETE, "retention": "auto", "parent": beyond.id}
    job_id = jobs.train(**body)

    ratios = []

    def stopped(attempt):
        """End the attempt once its third ratio has a checkpoint."""
        emit = attempt.emit

        def note(kind, data):
            emit(kind, data)
            if data.get("stage") == "trying_retention":
                ratios.append(data["retention"])
            if data.get("stage") == "checkpoint" and ratios[-1] == 0.3:
                attempt.lease.stop("drain")

        attempt.emit = note
        train(attempt, clients)

    attempts.run("train", stopped)
    assert jobs.get(job_id).state is JobState.QUEUED
    before = len(told(ledger, job_id))
    job = run(job_id)
    assert job.state is JobState.SUCCEEDED, job.error
    after = told(ledger, job_id)[before:]
    assert [seen["retention"] for seen in after if seen["stage"] == "trying_retention"] == [0.3, 0.5, 1.0]
    assert [seen["stage"] for seen in after].count("resuming") == 1
    curve = job.result["curve"]
    assert [point["retention"] for point in curve] == [0.0, 0.1, 0.3, 0.5, 1.0]
    least = min(curve, key=lambda point: (point["loss"], point["retention"]))
    assert job.result["retention"] == least["retention"]
    assert not job.result["verdict"]["passed"]
    whole = run(jobs.train(**body))
    assert clients.registry.releases.get("t", whole.result["release"]).selector == (
        clients.registry.releases.get("t", job.result["release"]).selector
    )
    assert clients.store.keys(f"checkpoints/{job_id}/") == []


def test_auto_stops_at_the_first_ratio_that_holds(clients, parent, update):
    old = parent(selector="llm", readout="head")
    low = old.model_copy(update={"report": {"per_label": dict.fromkeys(LABELS, 0.0)}})
    clients.registry.releases.add(low)
    job, _ = update(low, **DELETE, retention="auto")
    assert (job.result["retention"], len(job.result["curve"])) == (0.0, 1)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"labels": LABELS}, "labels_too_few"),
        ({"labels": ["law.ie"]}, "label_unknown"),
        ({"kind": "selector.balance", "labels": {}, "hard_below": 0}, "nothing_to_balance"),
        ({"kind": "selector.add", "labels": {GONE: GONE}}, "label_exists"),
    ],
    ids=str,
)
def test_an_update_that_cannot_be_publishes_nothing(clients, jobs, run, parent, body, code):
    old = parent(selector="light")
    job = run(jobs.train(**{**DELETE, **body, "parent": old.id}))
    assert (job.state, job.error["code"]) == (JobState.FAILED, code)
    assert clients.registry.releases.list_all("t") == [old]


def test_an_update_needs_rows_to_start_from(clients, jobs, run, parent):
    old = parent(selector="light")
    bare = old.model_copy(update={"representation": {}, "datasets": {}})
    unnamed = old.model_copy(update={"datasets": {}})
    for release, body, code in ((bare, DELETE, "representation_missing"), (unnamed, BALANCE, "dataset_missing")):
        clients.registry.releases.add(release)
        job = run(jobs.train(**{**body, "parent": release.id, **({} if body is DELETE else {"hard": [GONE]})}))
        assert job.error["code"] == code
