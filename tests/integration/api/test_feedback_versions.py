"""What reviewers say becomes versions of a data set, whose rows know where they come from; and it can be taken back."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from tests.support.api import client_of, code
from tests.support.judged import answered


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


@pytest.fixture
def job(api, worker, ledger):
    async def make(text, **more):
        return await answered(api["submit"], worker, ledger, text, **more)

    return make


async def say(client, job_id, **fields):
    answer = await client.post(f"/v1/jobs/{job_id}/feedback", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["feedback"]


async def version(client, **body):
    answer = await client.post("/v1/feedback/dataset", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_version_says_of_every_row_whose_job_it_is_who_said_it_and_when(api, admin, job, ledger):
    first = await job("a", sent={"user": "ann", "metadata": {"conversation_id": "talk"}})
    second = await job("b")
    await say(api["submit"], first, label="fin.ha")
    said = await say(api["submit"], second, rating=1)
    ledger.redis.delete(LedgerKey.JOB.of(second))  # as its time to live does
    made = await version(api["submit"])
    assert (made["rows"], made["labels"], made["answers"]) == (2, {"fin.ha": 1, "fin.sa": 1}, {"fin.sa": 1})
    sources = (await admin.get(f"/v1/datasets/{made['dataset']['id']}/sources")).json()
    by_job = {one["job"]: one for one in sources["items"]}
    assert set(by_job) == {first, second}
    assert (by_job[second]["said_by"], by_job[second]["at"]) == ([said["key"]], said["history"][-1]["at"])
    assert by_job[first]["user"].startswith("usr_")
    assert by_job[first]["conversation"]
    assert not by_job[second]["user"]
    assert made["said_by"] == [said["key"]]
    assert made["last_at"] == said["history"][-1]["at"]


async def test_a_version_never_changes_and_equal_words_are_one_version(api, admin, job):
    await say(api["submit"], await job("a"), label="fin.ha")
    old, same = await version(api["submit"]), await version(api["submit"])
    assert old == same
    await say(api["submit"], await job("b"), label="fin.sa")
    new = await version(api["submit"])
    assert new["dataset"]["id"] != old["dataset"]["id"]
    assert (await admin.get(f"/v1/datasets/{old['dataset']['id']}")).json() == old["dataset"]
    assert (await admin.get("/v1/datasets/feedback")).json()["id"] == new["dataset"]["id"]
    page = (await admin.get(f"/v1/datasets/{new['dataset']['id']}/sources?limit=1")).json()
    assert (len(page["items"]), page["next"]) == (1, 1)


async def test_a_dry_run_counts_and_stores_nothing(api, admin, job):
    assert (await version(api["submit"], dry_run=True))["rows"] == 0
    assert code(await api["submit"].post("/v1/feedback/dataset", json={}), 404) == "dataset_not_found"
    await say(api["submit"], await job("a"), label="fin.ha")
    counted = await version(api["submit"], dry_run=True)
    assert (counted["dataset"], counted["rows"]) == (None, 1)
    assert (await admin.get("/v1/datasets")).json()["items"] == []


async def test_what_a_reviewer_accepted_names_the_reviewer_and_who_said_it(api, admin, job, ledger, scoped_submit):
    client, key = scoped_submit
    job_id = await answered(client, api["worker"], ledger, "a")
    await say(client, job_id, label="fin.ha")
    accepted = await say(api["review"], job_id, accept=True)
    made = await version(api["review"])
    assert made["said_by"] == sorted([key.id, accepted["key"]])


@pytest.fixture
async def scoped_submit(api, ledger, worker):
    """A client whose key may only submit, and the key."""
    api["worker"] = worker
    key, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    async with client_of(api["url"], token) as client:
        yield client, key


async def test_the_last_word_is_taken_back_and_what_was_said_before_stays(api, job, registry):
    job_id = await job("a")
    await say(api["review"], job_id, rating=-1)
    await say(api["submit"], job_id, label="fin.ha")
    path = f"/v1/jobs/{job_id}/feedback/last"
    left = (await api["submit"].delete(path)).json()["feedback"]
    assert (left["rating"], "label" in left, len(left["history"])) == (-1, False, 1)
    assert code(await api["submit"].delete(path), 409) == "feedback_not_last"
    assert code(await api["other"].delete(path), 404) == "job_not_found"
    assert (await api["review"].delete(path)).json()["feedback"]["history"] == []
    shown = (await api["submit"].get(f"/v1/jobs/{job_id}")).json()
    assert shown["feedback"] is None
    assert (await api["submit"].get("/v1/jobs?feedback=true")).json()["items"] == []
    assert [one["id"] for one in (await api["submit"].get("/v1/jobs?feedback=false")).json()["items"]] == [job_id]
    assert code(await api["submit"].post("/v1/feedback/dataset", json={}), 404) == "dataset_not_found"
    assert (await say(api["submit"], job_id, label="fin.ha"))["label"] == "fin.ha"


async def test_jobs_are_listed_where_the_parts_of_the_selector_were_at_odds(api, job):
    between = await job("a", ambiguous=True)
    both = await job("b", by="both")
    sure = await job("c")
    listed = (await api["submit"].get("/v1/jobs?disputed=true")).json()["items"]
    assert [one["id"] for one in listed] == [both, between]
    agreed = (await api["submit"].get("/v1/jobs?disputed=false")).json()["items"]
    assert [one["id"] for one in agreed] == [sure]


async def test_the_command_line_makes_versions_and_takes_words_back(command, api, admin, job):
    job_id = await job("a")
    await asyncio.to_thread(command("jobs", "feedback", job_id, "--label", "fin.ha").communicate)
    out, said = await asyncio.to_thread(command("datasets", "feedback", "--json").communicate)
    assert json.loads(out)["rows"] == 1, said
    await asyncio.to_thread(command("jobs", "feedback", job_id, "--undo").communicate)
    out, said = await asyncio.to_thread(command("datasets", "feedback", "--dry-run", "--json").communicate)
    assert json.loads(out)["rows"] == 0, said


# People at odds, and what may train unseen.


@pytest.fixture
async def reviewers(api, ledger):
    """Six clients whose keys may review."""
    async with AsyncExitStack() as stack:
        tokens = [api_keys.create(ledger.redis, frozenset({api_keys.Scope.REVIEW}))[1] for _ in range(6)]
        yield [await stack.enter_async_context(client_of(api["url"], token)) for token in tokens]


async def conflicts(client, **params):
    answer = await client.get("/v1/feedback/conflicts", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_labels_of_two_reviewers_are_shown_and_train_nothing_until_a_further_one_settles_it(
    api, job, reviewers, registry, ledger
):
    one, other, third, *_ = reviewers
    job_id = await job("a")
    await say(one, job_id, label="fin.ha")
    assert (await version(one, dry_run=True))["rows"] == 1
    said = await say(other, job_id, label="fin.sa")
    counted = await version(one, dry_run=True)
    assert (counted["rows"], counted["conflicts"]) == (0, 1)
    (shown,) = (await conflicts(one))["items"]
    assert shown["job"] == job_id
    assert [(entry["label"], entry["key"], entry["at"]) for entry in shown["said"]] == [
        (entry["label"], entry["key"], entry["at"]) for entry in said["history"]
    ]
    assert (await conflicts(api["other"]))["items"] == []
    await say(third, job_id, label="fin.sa")
    settled = await version(one, dry_run=True)
    assert (settled["labels"], settled["conflicts"]) == ({"fin.sa": 1}, 0)
    assert registry.datasets.feedback_rows("default")[0][0].reviewed


async def test_conflicts_come_page_by_page_and_go_with_what_was_said(api, job, reviewers, ledger):
    one, other, *_ = reviewers
    made = [await job(text) for text in "abc"]
    for job_id in made:
        await say(one, job_id, label="fin.ha")
        await say(other, job_id, label="fin.sa")
    first = await conflicts(one, limit=2)
    rest = await conflicts(one, limit=2, before=first["next"])
    assert [item["job"] for item in [*first["items"], *rest["items"]]] == made[::-1]
    await one.delete(f"/v1/jobs/{made[0]}/feedback")
    assert (await other.delete(f"/v1/jobs/{made[1]}/feedback/last")).status_code == 200
    ledger.redis.delete(LedgerKey.JOB.of(made[2]))  # as its time to live does
    assert (await conflicts(one))["items"] == []
    assert (await version(one, dry_run=True))["conflicts"] == 0


async def test_a_safe_version_holds_no_more_of_one_key_than_a_fifth_of_a_label(api, job, reviewers, registry, release):
    many, *others = reviewers
    for number in range(4):
        await say(many, await job(f"flood {number}"), label="fin.ha")
    refused = await many.post("/v1/feedback/dataset", json={"safe": True})
    assert code(refused, 404) == "dataset_not_found"
    for number, client in enumerate(others[:4]):
        await say(client, await job(f"other {number}"), label="fin.ha")
    made = await version(many, safe=True)
    assert (made["rows"], made["labels"], len(made["said_by"])) == (5, {"fin.ha": 5}, 5)
    assert (await version(many))["rows"] == 8
    assert registry.datasets.is_of_feedback("default", made["dataset"]["id"])


async def test_the_command_line_lists_conflicts(command, api, job, reviewers):
    one, other, *_ = reviewers
    job_id = await job("a")
    await say(one, job_id, label="fin.ha")
    await say(other, job_id, label="fin.sa")
    out, said = await asyncio.to_thread(command("datasets", "conflicts", "--json").communicate)
    assert [one["job"] for one in json.loads(out)] == [job_id], said
