"""What `signalbox up` says of the system that it has started."""

import asyncio

from signalbox import Signalbox

from services.cli.local.up import unserved
from shared.ledger import calls


async def said(api, tokens):
    return await asyncio.to_thread(unserved, Signalbox(api["url"], tokens["admin"]))


async def test_before_the_first_release_nobody_is_missed(api, tokens):
    assert await said(api, tokens) == ""


async def test_the_groups_of_the_release_that_nobody_serves_are_named(api, tokens, release, ledger):
    queues = ["select", "train", "generate.base"]
    ledger.do(calls.heartbeat("w", queues, [], {}, 60))
    lacking = await said(api, tokens)
    assert "generate." in lacking
    assert "generate.base" not in lacking
    ledger.do(
        calls.heartbeat("w", [*queues, *(f"generate.{entry.group}" for entry in release.labels.values())], [], {}, 60)
    )
    assert await said(api, tokens) == ""
    ledger.do(calls.heartbeat("w", ["generate.base@another"], [], {}, 60))
    assert "SIGNALBOX_BASE_MODEL" in await said(api, tokens)
