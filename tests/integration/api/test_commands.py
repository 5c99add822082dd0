"""What the command line says of jobs, against a real API."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.ledger.keys import LedgerKey

PROGRAM = Path(sys.executable).parent / "signalbox"


@pytest.fixture
def ctrl_c():
    """Commands hear it as at a terminal, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def command(api, tokens, tmp_path):
    """Starts a command of the command line with the administrator's key."""
    env = {"SIGNALBOX_API_URL": api["url"], "SIGNALBOX_API_KEY": tokens["admin"], "SIGNALBOX_DATA_DIR": str(tmp_path)}

    def start(*words):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([PROGRAM, *words], env=os.environ | env, text=True, cwd=tmp_path, **pipes)

    return start


async def output(process, given=None):
    return await asyncio.to_thread(process.communicate, given)


async def test_a_wait_for_a_worker_that_is_not_there_is_told_of_and_ends_with_the_job(command, admin, release):
    waiting = command("submit", "my card", "--label", "fin.sa", "--wait")
    said = await asyncio.to_thread(waiting.stderr.readline)
    assert "no live worker serves generate.fin; start one: signalbox worker --group fin" in said
    (job,) = (await admin.get("/v1/jobs")).json()["items"]
    await admin.delete(f"/v1/jobs/{job['id']}")
    out, _ = await output(waiting)
    assert (waiting.returncode, "cancelled" in out) == (1, True)


async def test_cancelling_is_silent_unless_the_job_had_ended(command, admin, release, worker):
    ids = [(await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"] for _ in range(2)]
    worker.run(ids[1], "generate.fin")
    assert ((await output(command("jobs", "cancel", ids[0])))[1]) == ""
    assert "had ended before" in (await output(command("jobs", "cancel", ids[1])))[1]


async def test_a_table_on_a_narrow_terminal_shows_ids_whole(command, admin, release):
    job = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()
    assert job["id"] in (await output(command("jobs", "list")))[0]


@pytest.mark.parametrize("kind", ["train", "submit", "tail"])
async def test_ctrl_c_ends_a_wait_at_once_and_says_how_to_follow_or_cancel_the_job(
    command, ctrl_c, api, admin, release, kind
):
    row = b'{"instruction": "i", "input": "x", "output": "y"}\n'
    await admin.post("/v1/datasets?name=rows", content=row * 8)
    queued = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    commands = {
        "train": ("train", "adapter", "--label", "fin.sa", "--dataset", "rows", "--wait"),
        "submit": ("submit", "my card", "--label", "fin.sa", "--wait"),
        "tail": ("jobs", "tail", queued),
    }
    waiting = command(*commands[kind])
    while not api["app"].state.clients.feed.reader_count:
        assert waiting.poll() is None
        await asyncio.sleep(0.01)
    if kind == "train":
        job_id = (await asyncio.to_thread(waiting.stderr.readline)).split()[-1]
    else:
        job_id = queued if kind == "tail" else (await admin.get("/v1/jobs")).json()["items"][0]["id"]
    started = time.monotonic()
    waiting.send_signal(signal.SIGINT)
    _, said = await output(waiting)
    assert time.monotonic() - started < 3  # a second, and what a busy machine adds
    assert waiting.returncode == 130
    assert f"signalbox jobs tail {job_id}" in said
    assert f"signalbox jobs cancel {job_id}" in said
    assert "Traceback" not in said
    assert (await admin.get(f"/v1/jobs/{job_id}")).json()["state"] in ("queued", "routed")


async def test_submit_reads_its_text_from_standard_input(command, release, ledger):
    out, _ = await output(command("submit", "-", "--label", "fin.sa", "--json"), "two\nlines\n")
    assert '"two\\nlines"' in ledger.redis.hget(LedgerKey.JOB.of(json.loads(out)["id"]), "body")
