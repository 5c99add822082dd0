"""Batches on the console: states, files, cancelling."""

import json
from contextlib import aclosing

import pytest

from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.batches import CHATS, chat_line, jsonl
from tests.support.console import signed_in, words

FOREIGN = [{"X-CSRF-Token": "x"}, {"Sec-Fetch-Site": "cross-site"}]


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


async def a_batch(client, name="rows.jsonl", **more):
    sent = await client.post(
        "/v1/files", data={"purpose": "batch"}, files={"file": (name, jsonl([chat_line(1)]))}, **more
    )
    ask = {"input_file_id": sent.json()["id"], "endpoint": CHATS, "completion_window": "24h"}
    return (await client.post("/v1/batches", json=ask, **more)).json()


async def test_without_any_the_page_says_how_to_send_one(operator):
    assert "There is no batch yet" in words(await operator.get("/console/batches"))


async def test_a_batch_shows_its_state_and_is_cancelled(operator, api):
    batch = await a_batch(api["admin"])
    page = words(await operator.get("/console/batches"))
    assert batch["id"] in page
    assert "validating" in page
    card = await operator.post(f"/console/batches/{batch['id']}/cancel")
    assert "cancelling" in words(card)
    assert batch["id"] in words(await operator.get(f"/console/batches/{batch['id']}"))


async def test_its_files_are_downloaded_under_their_names(operator, api):
    batch = await a_batch(api["admin"], name="über <b>.jsonl")
    file = await operator.get(f"/console/batches/files/{batch['input_file_id']}")
    assert json.loads(file.text) == chat_line(1)
    assert "attachment" in file.headers["content-disposition"]
    assert file.headers["content-type"] == "application/octet-stream"


async def test_a_key_sees_its_own_line_and_another_tenant_nothing(submitter, stranger, api):
    theirs = await a_batch(api["admin"])
    mine = await a_batch(api["anonymous"], headers={"Authorization": f"Bearer {submitter.token}"})
    assert mine["id"] in (await submitter.get("/console/batches")).text
    for client in (submitter, stranger):
        assert theirs["id"] not in (await client.get("/console/batches")).text
        assert (await client.get(f"/console/batches/files/{theirs['input_file_id']}")).status_code == 404
        assert (await client.post(f"/console/batches/{theirs['id']}/cancel")).status_code == 404


async def test_a_key_that_only_reads_cannot_cancel(api, ledger):
    batch = await a_batch(api["admin"])
    _, token = api_keys.create(ledger.redis, frozenset({Scope.READ}))
    async with aclosing(await signed_in(api["url"], token)) as reader:
        assert "needs a key with the scope submit" in (await reader.get("/console/batches")).text
        refused = await reader.post(f"/console/batches/{batch['id']}/cancel")
        assert (refused.status_code, "'submit'" in words(refused)) == (403, True)


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_foreign_form_cancels_nothing(operator, api, headers):
    batch = await a_batch(api["admin"])
    assert (await operator.post(f"/console/batches/{batch['id']}/cancel", headers=headers)).status_code == 403
    assert (await api["admin"].get(f"/v1/batches/{batch['id']}")).json()["status"] == "validating"
