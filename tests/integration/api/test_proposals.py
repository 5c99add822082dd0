"""Proposals: what a review finds becomes things to do, each confirmed once, by a person or by policy, and noted."""

import asyncio
import json

import pytest

from services.api.proposals.findings import own_data
from services.api.proposals.loop import follow_logs
from services.api.proposals.rules import OwnData
from shared.contracts.jobs import JobState
from shared.contracts.judged import JudgedRow
from shared.contracts.labels import BACKGROUND
from shared.contracts.proposals import ProposalState
from shared.contracts.rollouts import RolloutState
from shared.contracts.rows import Row, RowSource
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.registry.traffic import folder_of
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.api import code, make_release
from tests.support.eventually import eventually_async
from tests.support.reviews import ROWS, Followed, changed, unknown


@pytest.fixture(autouse=True)
def _empty(store):
    """No log is left of another test: the bucket is the session's."""
    store.ensure_bucket()
    for tenant in ("default", "other"):
        for key in store.keys(folder_of(tenant)):
            store.delete(key)


@pytest.fixture
def gated(registry, weights):
    """A current release with rows that candidates are judged by."""
    rows = {label: registry.datasets.put_rows("default", [Row(input=label)]) for label in ("fin.sa", "fin.ha")}
    made = make_release(validation=rows, representation=rows)
    registry.releases.add(made)
    registry.releases.promote("default", made.id, force=True)
    return made


@pytest.fixture
async def followed(api, admin, ledger, gated):
    """A log that is kept and followed with the administrator's key."""
    await admin.get("/healthz")
    return await following(api, admin, ledger, gated)


async def following(api, admin, ledger, release, tenant="default", **policy):
    answer = await admin.put("/v1/traffic/policy", json={"on": True})
    assert answer.status_code == 200, answer.text
    await let(admin, **policy)
    return Followed(api["app"].state.clients, ledger, release, tenant)


async def let(admin, mode="propose", **more):
    body = {"mode": mode, "review_every_rows": ROWS, **more}
    answer = await admin.put("/v1/proposals/policy", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def listed(client, **params):
    answer = await client.get("/v1/proposals", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def only(client):
    [one] = await listed(client)
    return one


async def audited(client):
    return (await client.get("/v1/audit")).json()["items"]


async def confirm(client, proposal, **body):
    answer = await client.post(f"/v1/proposals/{proposal['id']}/confirm", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


@pytest.fixture
async def added(followed, admin):
    """A proposal of a new label."""
    rows = await followed.log()
    await followed.review(tasks=(unknown(rows[:20]),))
    return await only(admin)


@pytest.fixture
def feedback(followed):
    """Twelve rows of `fin.sa` by a key that reviews, and enough rows of the release that one key may give as many."""

    def give(key, count=12, label="fin.sa"):
        rows = followed.rows()[:count]
        for row in rows:
            source = RowSource(job=row.job, said_by=(key,), at="2026-11-01", line=row.line, reviewed=True)
            stored = Row(input=row.text, label=label).model_dump_json(exclude_defaults=True)
            followed.ledger.redis.hset(LedgerKey.FEEDBACK.of("default"), row.job, stored)
            followed.ledger.redis.hset(LedgerKey.FEEDBACK_SOURCES.of("default"), row.job, source.model_dump_json())
        return rows

    return give


@pytest.fixture
async def balanced(followed, admin, feedback, registry, monkeypatch):
    """A proposal to balance `fin.sa`."""
    reviewer, _ = api_keys.create(followed.ledger.redis, frozenset({Scope.REVIEW}))
    monkeypatch.setattr("services.api.feedback.safe.MOST_OF_A_KEY", 1.0)
    await followed.log()
    feedback(reviewer.id)
    await followed.review(changes=(changed("fin.sa", examples=(followed.rows()[0].entry,)),))
    return await only(admin)


# Reviews.


async def test_turning_the_log_on_is_enough_to_be_followed(api, admin, ledger, gated):
    assert (await admin.get("/v1/proposals/policy")).json()["mode"] == "propose"
    await admin.put("/v1/traffic/policy", json={"on": True})
    policy = (await admin.get("/v1/proposals/policy")).json()
    assert (policy["mode"], policy["key"][:4]) == ("propose", "key_")


async def test_a_review_is_queued_when_enough_rows_are_new_and_only_once(followed):
    await followed.log(ROWS - 1)
    await followed.look()
    assert followed.trainings() == []
    await followed.log(1)
    await followed.look(3)
    [body] = followed.trainings()
    assert (body["kind"], body["window"]) == ("traffic.review", ROWS)
    job_id = (await followed.learner()).learning.job
    followed.end(job_id, result=followed.found())
    await followed.log(ROWS - 1)
    await followed.look(3)
    assert len(followed.trainings()) == 1
    await followed.log(1)
    await followed.look()
    assert len(followed.trainings()) == 2


async def test_a_review_that_fails_is_noted_and_the_next_rows_are_reviewed(followed, admin):
    await followed.log()
    await followed.look()
    error = {"code": "x", "detail": "the log is broken", "retryable": False}
    followed.end((await followed.learner()).learning.job, JobState.FAILED, error=error)
    await followed.look()
    assert "the log is broken" in (await audited(admin))[0]["detail"]
    await followed.log()
    await followed.look()
    assert len(followed.trainings()) == 2


async def test_a_review_of_a_release_that_is_no_longer_current_proposes_nothing(followed, admin):
    rows = await followed.log()
    await followed.review(release="rel_before", tasks=(unknown(rows[:20]),))
    assert await listed(admin) == []
    assert "review_outdated" in [entry["what"] for entry in await audited(admin)]


async def test_without_a_usable_key_it_says_what_to_do(followed, admin):
    keys = api_keys.list_all(followed.ledger.redis)
    policy = (await admin.get("/v1/proposals/policy")).json()
    await followed.log()
    api_keys.revoke(followed.ledger.redis, next(key.id for key in keys if key.id == policy["key"]))
    await followed.look()
    assert "set the policy with another one" in (await followed.learner()).learning.note
    assert followed.trainings() == []


# Proposals, as they are shown.


async def test_a_proposal_says_why_with_numbers_and_examples_that_only_readers_of_the_log_see(api, admin, added):
    assert (added["kind"], added["labels"], added["state"]) == ("add", ["fin.cards"], "open")
    assert added["numbers"] == {"requests": 20, "texts": 20, "stability": 0.9}
    assert added["requests"] == 20
    whole = (await admin.get(f"/v1/proposals/{added['id']}")).json()
    assert whole["examples"][0]["text"].startswith("is my card blocked")
    assert len(whole["examples"]) == 10
    trainer = (await api["train"].get(f"/v1/proposals/{added['id']}")).json()
    assert trainer["examples"][0]["text"] is None
    assert await listed(admin, state="done") == []
    assert len(await listed(admin, state="open")) == 1


async def test_another_tenant_sees_and_decides_nothing(api, added):
    other = api["other"]
    assert await listed(other) == []
    assert code(await other.get(f"/v1/proposals/{added['id']}"), 404) == "proposal_not_found"
    assert code(await other.post(f"/v1/proposals/{added['id']}/confirm"), 404) == "proposal_not_found"
    assert code(await other.post(f"/v1/proposals/{added['id']}/dismiss"), 404) == "proposal_not_found"
    assert await audited(other) == []
    assert (await other.get("/v1/proposals/policy")).json()["key"] == ""


async def test_another_review_updates_an_open_proposal(followed, admin, added):
    rows = await followed.log()
    await followed.review(tasks=(unknown(rows[:40], name="plastic"),))
    newer = await only(admin)
    assert (newer["id"], newer["numbers"]["requests"]) == (added["id"], 40)
    assert [event["what"] for event in newer["events"]] == ["opened", "updated"]


# Confirming.


async def test_confirming_queues_the_training_once(api, admin, followed, balanced):
    assert balanced["act"]["trainings"][0]["kind"] == "selector.balance"
    assert balanced["cost"]["says"]
    done = await confirm(api["train"], balanced)
    assert done["state"] == "training"
    again = await admin.post(f"/v1/proposals/{balanced['id']}/confirm")
    assert code(again, 409) == "proposal_confirmed"
    assert done["jobs"][0] in again.json()["detail"]
    assert [body["kind"] for body in followed.trainings()] == ["traffic.review", "selector.balance"]
    job = followed.ledger.do(calls.get(done["jobs"][0], "default"))
    assert job.key == (await audited(admin))[0]["by"] != (await admin.get("/v1/proposals/policy")).json()["key"]


async def test_two_that_confirm_at_once_queue_one_training(admin, followed, balanced):
    path = f"/v1/proposals/{balanced['id']}/confirm"
    answers = await asyncio.gather(*(admin.post(path) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    assert len(followed.trainings()) == 2


async def test_a_repeated_request_is_answered_as_before(admin, followed, balanced):
    path, key = f"/v1/proposals/{balanced['id']}/confirm", {"Idempotency-Key": "once"}
    first, second = [await admin.post(path, headers=key) for _ in range(2)]
    assert (second.status_code, second.json()) == (202, first.json())
    assert len(followed.trainings()) == 2


async def test_a_candidate_that_becomes_current_ends_its_proposal(admin, followed, balanced, registry):
    done = await confirm(admin, balanced)
    candidate = followed.train(done["jobs"][0])
    await followed.look()
    known = await only(admin)
    assert (known["state"], known["candidate"]) == ("candidate", candidate.id)
    registry.releases.promote("default", candidate.id, force=True)
    await followed.look()
    assert (await only(admin))["state"] == "done"


async def test_a_candidate_that_fails_its_gate_fails_the_proposal_which_may_be_confirmed_anew(
    admin, followed, balanced
):
    done = await confirm(admin, balanced)
    followed.train(done["jobs"][0], passed=False)
    await followed.look()
    known = await only(admin)
    assert known["state"] == "failed"
    assert "did not pass the gate: fin.sa lost 3 points" in known["note"]
    again = await confirm(admin, balanced)
    assert again["jobs"] != done["jobs"]
    assert again["state"] == "training"


async def test_a_training_that_fails_says_why(admin, followed, balanced):
    done = await confirm(admin, balanced)
    error = {"code": "x", "detail": "no memory", "retryable": False}
    followed.end(done["jobs"][0], JobState.FAILED, error=error)
    await followed.look()
    assert "no memory" in (await only(admin))["note"]


async def test_changes_that_do_not_fit_are_refused(admin, balanced):
    path = f"/v1/proposals/{balanced['id']}/confirm"
    assert code(await admin.post(path, json={"label": "fin.x"}), 422) == "change_unfit"
    assert code(await admin.post(path, json={"unknown": 1}), 422) == "request_invalid"
    done = await confirm(admin, balanced, retention=0.1)
    assert done["act"]["trainings"][0]["retention"] == 0.1


# New labels.


async def test_a_new_label_becomes_a_data_set_whose_rows_know_their_jobs_and_a_training(
    api, admin, followed, added, registry
):
    done = await confirm(admin, added, label="fin.plastic")
    assert (done["state"], done["labels"]) == ("training", ["fin.plastic"])
    body = followed.trainings()[-1]
    assert (body["kind"], body["missing_adapters"]) == ("selector.add", "allow")
    assert body["labels"] == {"fin.plastic": done["dataset"]}
    manifest = registry.datasets.stored("default", done["dataset"])
    assert (manifest.name, manifest.labels) == ("traffic-fin.plastic", {"fin.plastic": 20})
    assert [source.job for source in registry.datasets.sources(manifest)] == [row.job for row in followed.rows()[:20]]
    job = followed.rows()[0].job
    forgotten = (await admin.post("/v1/users/forget", json={"job_id": job})).json()
    assert [(one["id"], one["rows"]) for one in forgotten["datasets"]] == [(done["dataset"], 1)]


async def test_with_answers_the_labels_adapter_is_trained_too(admin, followed, added, registry):
    rows = [Row(input=f"q {n}", output="a", label="fin.cards") for n in range(8)]
    registry.datasets.add("default", "answers", rows)
    done = await confirm(admin, added, dataset="answers")
    adapter, selector = followed.trainings()[-2:]
    assert (adapter["kind"], adapter["label"]) == ("adapter.train", "fin.cards")
    assert (selector["kind"], selector["missing_adapters"]) == ("selector.add", "refuse")
    assert len(done["jobs"]) == 2


async def test_a_new_label_needs_a_key_that_reviews_and_rows_that_are_still_there(api, admin, store, added):
    assert code(await api["train"].post(f"/v1/proposals/{added['id']}/confirm"), 403) == "scope_missing"
    for key in store.keys(folder_of("default")):
        store.delete(key)
    assert code(await admin.post(f"/v1/proposals/{added['id']}/confirm"), 409) == "proposal_rows_gone"
    assert (await only(admin))["state"] == "open"


# Dismissing, and what is over.


async def test_what_is_dismissed_stays_away_until_the_release_changes(admin, followed, added, registry):
    path = f"/v1/proposals/{added['id']}/dismiss"
    gone = (await admin.post(path, json={"reason": "spam"})).json()
    assert (gone["state"], gone["note"]) == ("dismissed", "spam")
    assert code(await admin.post(path), 409) == "proposal_ended"
    rows = await followed.log()
    await followed.review(tasks=(unknown(rows[:20]),))
    assert (await only(admin))["state"] == "dismissed"
    newer = make_release(parent=followed.release.id, made_by="x")
    registry.releases.add(newer)
    registry.releases.promote("default", newer.id, force=True)
    followed.release = newer
    await followed.review(tasks=(unknown(followed.rows()[:20]),))
    assert sorted(one["state"] for one in await listed(admin)) == ["dismissed", "open"]


async def test_a_confirmed_label_is_trained_anew_on_the_release_that_came_meanwhile(admin, followed, added, registry):
    done = await confirm(admin, added)
    newer = make_release(parent=followed.release.id, made_by="x")
    registry.releases.add(newer)
    registry.releases.promote("default", newer.id, force=True)
    await followed.look()
    assert (await only(admin))["jobs"] == done["jobs"]  # what runs ends first
    followed.train(done["jobs"][0])
    await followed.look()
    carried = await only(admin)
    assert (carried["id"], carried["state"], carried["release"]) == (added["id"], "training", newer.id)
    before, now = followed.trainings()[-2:]
    assert (before["kind"], before["parent"], now["parent"]) == ("selector.add", followed.release.id, newer.id)
    assert {**before, "parent": ""} == {**now, "parent": ""}
    again = make_release(labels=("fin.sa", "fin.ha"), parent=newer.id, made_by="y")
    knows_it = again.model_copy(
        update={
            "labels": {**again.labels, "fin.cards": again.labels["fin.sa"]},
            "selector": again.selector.model_copy(update={"labels": ("fin.sa", "fin.ha", "fin.cards")}),
        }
    )
    registry.releases.add(knows_it)
    registry.releases.promote("default", knows_it.id, force=True)
    followed.train(carried["jobs"][0])
    await followed.look()
    assert (await only(admin))["state"] == "outdated"  # somebody else has brought the label


async def test_another_release_outdates_what_is_open(admin, followed, added, registry):
    newer = make_release(parent=followed.release.id, made_by="x")
    registry.releases.add(newer)
    registry.releases.promote("default", newer.id, force=True)
    assert code(await admin.post(f"/v1/proposals/{added['id']}/confirm"), 409) == "proposal_outdated"
    await followed.look()
    known = await only(admin)
    assert (known["state"], known["requests"]) == ("outdated", 10)  # examples are kept


async def test_what_is_at_work_is_not_dismissed(admin, followed, balanced):
    done = await confirm(admin, balanced)
    answer = await admin.post(f"/v1/proposals/{balanced['id']}/dismiss")
    assert code(answer, 409) == "proposal_confirmed"
    assert done["jobs"][0] in answer.json()["detail"]


# Policies.


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"selector": False}, "train one first"), ({}, "train its selector anew")],
)
async def test_auto_without_a_gate_is_refused(admin, registry, weights, fields, told):
    made = make_release(**fields)
    registry.releases.add(made)
    registry.releases.promote("default", made.id, force=True)
    answer = await admin.put("/v1/proposals/policy", json={"mode": "auto"})
    assert code(answer, 409) == "gate_missing"
    assert told in answer.json()["detail"]
    assert (await admin.put("/v1/proposals/policy", json={"mode": "train"})).status_code == 200


async def test_auto_under_a_lax_gate_of_the_operator_is_refused(api, admin, gated):
    clients = api["app"].state.clients
    lax = clients.settings.model_copy(update={"gate_min_accuracy": 0.0})
    object.__setattr__(clients, "settings", lax)
    answer = await admin.put("/v1/proposals/policy", json={"mode": "auto"})
    assert code(answer, 409) == "gate_missing"
    assert "SIGNALBOX_GATE_MIN_ACCURACY" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body", [{"mode": "never"}, {"ask": ["everything"]}, {"canary": {"steps": [50, 5]}}, {"rows": 1}]
)
async def test_a_policy_that_is_none_is_refused(admin, body):
    assert code(await admin.put("/v1/proposals/policy", json=body), 422) == "request_invalid"


async def test_only_administrators_set_a_policy(api):
    assert code(await api["train"].put("/v1/proposals/policy", json={}), 403) == "scope_missing"


async def test_a_policy_that_observes_notes_and_opens_nothing(admin, followed):
    await let(admin, "observe")
    rows = await followed.log()
    await followed.review(tasks=(unknown(rows[:20]),))
    assert await listed(admin) == []
    noted = next(entry for entry in await audited(admin) if entry["what"] == "observed")
    assert noted["numbers"]["requests"] == 20


async def test_a_policy_that_trains_stops_at_the_candidate(admin, followed, balanced, registry):
    await let(admin, "train")
    await followed.look()
    known = await only(admin)
    assert known["state"] == "training"
    confirmed = next(entry for entry in await audited(admin) if entry["what"] == "confirmed")
    assert (confirmed["by"], confirmed["numbers"]) == ("policy:train", balanced["numbers"])
    followed.train(known["jobs"][0])
    await followed.look(3)
    assert (await only(admin))["state"] == "candidate"
    assert registry.releases.current_id("default") == followed.release.id


@pytest.mark.parametrize("mode", ["train", "auto"])
async def test_new_labels_and_what_the_policy_asks_for_wait_for_a_person(admin, followed, added, mode):
    await let(admin, mode)
    await followed.look(3)
    assert (await only(admin))["state"] == "open"
    assert len(followed.trainings()) == 1


async def test_a_kind_that_the_policy_asks_for_waits(admin, followed, balanced):
    await let(admin, "auto", ask=["balance"])
    await followed.look(3)
    assert (await only(admin))["state"] == "open"


async def test_auto_brings_a_candidate_that_passed_through_a_canary(admin, followed, balanced, registry):
    for queue in followed.release.queues:
        followed.ledger.do(calls.heartbeat(f"worker-{queue}", [queue, f"{queue}@tiny"], [], {}, 600))
    await let(admin, "auto", canary={"steps": [50, 100], "seconds": 0, "requests": 1})
    await followed.look()
    candidate = followed.train((await only(admin))["jobs"][0])
    await followed.look(2)
    known = await only(admin)
    assert known["state"] == "rolling_out"
    [rollout] = (await admin.get("/v1/rollouts")).json()["items"]
    assert (rollout["id"], rollout["release"]) == (known["rollout"], candidate.id)
    assert [step["percent"] for step in rollout["steps"]] == [50, 100]
    registry.releases.promote("default", candidate.id, force=True)
    await followed.look()
    assert (await only(admin))["state"] == "done"
    assert [entry["by"] for entry in await audited(admin) if entry["what"] == "rolling_out"] == ["policy:auto"]


async def test_a_rollout_that_is_taken_back_fails_its_proposal(admin, followed, balanced):
    await let(admin, "train")
    await followed.look()
    candidate = followed.train((await only(admin))["jobs"][0])
    for queue in followed.release.queues:
        followed.ledger.do(calls.heartbeat(f"worker-{queue}", [queue, f"{queue}@tiny"], [], {}, 600))
    begun = (await admin.post(f"/v1/releases/{candidate.id}/rollout", json={})).json()  # by a person
    await followed.look()
    assert (await only(admin))["rollout"] == begun["id"]
    taken = followed.ledger.do(calls.take_rollout(60))
    failed = taken.rollout.entered(RolloutState.FAILED, 1.0, "failed: 9 of 9")
    followed.ledger.do(calls.write_rollout(failed, taken.fence, 60))
    await followed.look()
    known = await only(admin)
    assert known["state"] == "failed"
    assert "9 of 9" in known["note"]


async def test_a_threshold_is_edited_at_once_and_once(admin, followed, registry):
    rows = [judged(0.9) for _ in range(50)] + [judged(0.1, BACKGROUND) for _ in range(20)]
    key = registry.datasets.put_judged("default", rows)
    release = make_release(report={"judged": key}, parent=followed.release.id, validation=followed.release.validation)
    registry.releases.add(release)
    registry.releases.promote("default", release.id, force=True)
    followed.release = release
    for row in await followed.log(ROWS, label="", best_label="fin.sa", confidence=0.4):
        source = RowSource(job=row.job, said_by=("key_a",), at=row.at)
        stored = Row(input=row.text, label="fin.sa").model_dump_json(exclude_defaults=True)
        followed.ledger.redis.hset(LedgerKey.FEEDBACK.of("default"), row.job, stored)
        followed.ledger.redis.hset(LedgerKey.FEEDBACK_SOURCES.of("default"), row.job, source.model_dump_json())
    await followed.review(rejected=0.5, rejected_before=0.01)
    [lower] = [one for one in await listed(admin) if one["kind"] == "lower_threshold"]
    await let(admin, "auto")
    await followed.look(2)
    assert {one["state"] for one in await listed(admin)} == {"open"}  # a person decides
    await let(admin, "propose")
    done = await confirm(admin, lower)
    assert done["state"] == "candidate", done
    made = registry.releases.get("default", done["candidate"])
    assert (made.selector.threshold, made.parent) == (0.4, release.id)
    assert made.made_by.startswith(lower["id"])


def judged(confidence, label="fin.sa"):
    return JudgedRow(
        text="x", text_hash="h", label=label, best_label="fin.sa", probability=confidence, confidence=confidence
    )


# Audit, webhooks.


async def test_every_step_is_in_the_audit_log_with_who_decided(api, admin, followed, balanced):
    await confirm(api["train"], balanced)
    entries = await audited(admin)
    whats = [entry["what"] for entry in entries]
    assert whats == ["training", "confirmed", "review", "opened", "review_queued", "policy"]
    assert all(entry["by"] for entry in entries)
    first = (await admin.get("/v1/audit", params={"limit": 2})).json()
    rest = (await admin.get("/v1/audit", params={"limit": 500, "before": first["next"]})).json()
    assert first["items"] + rest["items"] == entries
    assert code(await api["train"].get("/v1/audit"), 403) == "scope_missing"


async def test_webhooks_are_told_when_one_is_opened_and_when_it_ends(admin, followed):
    followed.ledger.do(calls.add_webhook("default", "we_1", {"events": " proposal.* ", "secret": "s"}))
    rows = await followed.log()
    await followed.review(tasks=(unknown(rows[:20]),))
    proposal = await only(admin)
    await admin.post(f"/v1/proposals/{proposal['id']}/dismiss")
    told, _ = followed.ledger.do(calls.deliveries("default", "we_1", before="", limit=10))
    assert [one["type"] for one in told] == ["proposal.ended", "proposal.opened"]
    data = {"id": proposal["id"], "kind": "add", "state": "dismissed", "release": followed.release.id}
    assert json.loads(told[0]["data"]) == data


# Killed at any moment.


class Killing:
    """Lets a look do so many calls of the ledger, then cancels it."""

    def __init__(self, ledger, most):
        self._do, self._left = ledger.do, most

    async def __call__(self, call):
        answer = await self._do(call)
        if call.op not in ("learner", "proposals", "get", "usage", "gauges"):
            self._left -= 1
            if self._left <= 0:
                raise asyncio.CancelledError
        return answer


async def killed_at_each_write(followed, monkeypatch):
    """Look again and again, killed right after the first write, then after the second, until a look is whole."""
    for most in range(1, 40):
        work = followed.taken()
        with monkeypatch.context() as patched:
            patched.setattr(followed.clients.ledger, "do", Killing(followed.clients.ledger, most))
            try:
                await work.run()
            except asyncio.CancelledError:
                continue
        return most
    pytest.fail("no look was whole")


async def test_a_controller_that_is_killed_at_each_write_queues_each_job_once(
    admin, followed, feedback, monkeypatch, registry
):
    reviewer, _ = api_keys.create(followed.ledger.redis, frozenset({Scope.REVIEW}))
    monkeypatch.setattr("services.api.feedback.safe.MOST_OF_A_KEY", 1.0)
    for queue in followed.release.queues:
        followed.ledger.do(calls.heartbeat(f"worker-{queue}", [queue, f"{queue}@tiny"], [], {}, 600))
    await let(admin, "auto")
    await followed.log()
    feedback(reviewer.id)
    assert await killed_at_each_write(followed, monkeypatch) > 1
    [review] = followed.trainings()
    followed.end((await followed.learner()).learning.job, result=followed.found(changes=(changed("fin.sa"),)))
    assert await killed_at_each_write(followed, monkeypatch) > 1
    assert await killed_at_each_write(followed, monkeypatch) > 0
    known = await only(admin)
    assert known["state"] == "training"
    assert [body["kind"] for body in followed.trainings()] == [review["kind"], "selector.balance"]
    followed.train(known["jobs"][0])
    await killed_at_each_write(followed, monkeypatch)
    await killed_at_each_write(followed, monkeypatch)
    assert (await only(admin))["state"] == "rolling_out"
    assert len((await admin.get("/v1/rollouts")).json()["items"]) == 1
    whats = [entry["what"] for entry in await audited(admin)]
    assert [whats.count(what) for what in ("opened", "confirmed", "training", "candidate", "rolling_out")] == [1] * 5


async def test_what_a_person_confirmed_goes_on_where_the_api_was_killed_right_after(admin, followed, balanced):
    proposal = followed.ledger.do(calls.proposal("default", balanced["id"]))
    key = (await followed.learner()).key
    followed.ledger.do(calls.write_proposal(proposal.entered(ProposalState.CONFIRMED, 1.0, key, key=key)))
    await followed.look(3)
    assert (await only(admin))["state"] == "training"
    assert len(followed.trainings()) == 2


async def test_what_a_key_confirmed_that_is_revoked_is_not_carried_out(admin, followed, balanced):
    proposal = followed.ledger.do(calls.proposal("default", balanced["id"]))
    followed.ledger.do(calls.write_proposal(proposal.entered(ProposalState.CONFIRMED, 1.0, "key_x", key="key_x")))
    await followed.look()
    known = await only(admin)
    assert (known["state"], "confirm it with another key" in known["note"]) == ("failed", True)


async def test_the_loop_follows_logs_until_it_is_stopped_and_gives_its_lease_back(admin, followed):
    await followed.log()
    stop = asyncio.Event()
    loop = asyncio.create_task(follow_logs(followed.clients, stop))

    async def queued():
        return followed.trainings()

    await eventually_async(queued, "a review is queued")
    stop.set()
    await loop
    second = asyncio.Event()
    loop = asyncio.create_task(follow_logs(followed.clients, second))
    followed.end((await followed.learner()).learning.job, result=followed.found(tasks=(unknown(followed.rows()[:9]),)))
    await eventually_async(lambda: listed(admin), "a proposal is opened")
    second.set()
    await loop


async def test_a_look_whose_lease_went_to_another_writes_nothing(followed):
    await followed.log()
    late, other = followed.taken(), followed.taken()
    await other.run()
    with pytest.raises(calls.StaleLearner):
        await late.run()
    assert len(followed.trainings()) == 1


async def test_a_training_anew_takes_what_operators_gave_not_what_traffic_made(registry, weights):
    def given(text, name):
        return registry.datasets.add("default", name, [Row(input=text, label="fin.sa")]).id

    old, newer = given("old", "rows"), given("new", "rows")
    made = registry.datasets.add_sourced("default", "traffic-fin.sa", [(RowSource(job="job_1"), Row(input="x"))]).id
    before = make_release(datasets={"fin.sa": old})
    registry.releases.add(before)
    after = make_release(parent=before.id, datasets={"fin.sa": made, "fin.ha": made, "med.qa": newer})
    assert own_data(registry, "default", after) == {
        "fin.sa": OwnData(newer, is_newer=True),
        "med.qa": OwnData(newer, is_newer=False),
    }
