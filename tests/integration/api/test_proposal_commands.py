"""`signalbox proposals` and `signalbox audit`, and the client's methods behind them, both plain and on asyncio."""

import asyncio
import json

import pytest
from signalbox import AsyncSignalbox, ConflictError

from services.api.proposals.derive import proposed
from shared.contracts.proposals import Act, Wish
from shared.contracts.rows import Row
from shared.ledger import calls


@pytest.fixture
def opened(ledger, release, registry, store):
    store.ensure_bucket()
    registry.datasets.add("default", "rows", [Row(input=f"x {n}", label="fin.sa") for n in range(9)])
    body = {"kind": "selector.balance", "labels": {"fin.sa": "rows"}}
    made = proposed(None, Wish("balance", ("fin.sa",), ("It changed.",), Act(trainings=(body,))), "default", release.id)
    ledger.do(calls.write_proposal(made))
    return made


@pytest.fixture
def run(command):
    async def run(*words, fails=False):
        process = command(*words)
        out, err = await asyncio.to_thread(process.communicate)
        assert (process.returncode != 0) == fails, err
        return err if fails else out

    return run


async def test_they_are_listed_shown_confirmed_and_audited(run, opened):
    assert "It changed." in await run("proposals", "list")
    assert "- It changed." in await run("proposals", "show", opened.id)
    made = json.loads(await run("proposals", "confirm", opened.id, "--retention", "0.1", "--json"))
    assert (made["state"], made["act"]["trainings"][0]["retention"]) == ("training", 0.1)
    assert "proposal_confirmed" in await run("proposals", "confirm", opened.id, fails=True)
    assert "confirmed" in await run("audit", "--limit", "5")


async def test_one_is_dismissed_and_a_wrong_retention_refused(run, opened):
    assert "retention_invalid" in await run("proposals", "confirm", opened.id, "--retention", "much", fails=True)
    await run("proposals", "dismiss", opened.id, "--reason", "a spike")
    assert json.loads(await run("proposals", "show", opened.id, "--json"))["note"] == "a spike"


async def test_the_policy_changes_by_what_is_named(run, opened):
    assert "propose" in await run("proposals", "policy")
    known = json.loads(await run("proposals", "policy", "train", "--ask", "balance", "--json"))
    assert (known["mode"], known["ask"]) == ("train", ["balance"])
    known = json.loads(await run("proposals", "policy", "--review-every-rows", "200", "--json"))
    assert (known["mode"], known["ask"], known["review_every_rows"]) == ("train", ["balance"], 200)
    assert "gate_missing" in await run("proposals", "policy", "auto", fails=True)


async def test_the_asynchronous_client_does_the_same(api, tokens, opened):
    async with AsyncSignalbox(api["url"], tokens["admin"]) as client:
        assert [one.id for one in await client.proposals(state="open")] == [opened.id]
        assert (await client.proposal(opened.id)).kind == "balance"
        assert (await client.confirm_proposal(opened.id)).state == "training"
        with pytest.raises(ConflictError):
            await client.confirm_proposal(opened.id)
        with pytest.raises(ConflictError):
            await client.dismiss_proposal(opened.id)
        assert (await client.set_proposal_policy("observe", review_every_rows=300))["review_every_rows"] == 300
        assert (await client.proposal_policy())["mode"] == "observe"
        assert [entry.what for entry in (await client.audit()).items][:2] == ["policy", "training"]
