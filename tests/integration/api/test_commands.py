"""What the command line says of jobs, against a real API."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "signalbox"


@pytest.fixture
def command(api, tokens, tmp_path):
    """Starts a command of the command line with the administrator's key."""
    env = {"SIGNALBOX_API_URL": api["url"], "SIGNALBOX_API_KEY": tokens["admin"], "SIGNALBOX_DATA_DIR": str(tmp_path)}

    def start(*words):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([PROGRAM, *words], env=env, text=True, cwd=tmp_path, **pipes)

    return start


async def output(process):
    return await asyncio.to_thread(process.communicate)


async def test_a_wait_for_a_worker_that_is_not_there_is_told_of_and_ends_with_the_job(command, admin, release):
    waiting = command("submit", "my card", "--label", "fin.sa", "--wait")
    assert "no live worker serves generate.fin" in await asyncio.to_thread(waiting.stderr.readline)
    (job,) = (await admin.get("/v1/jobs")).json()["items"]
    await admin.delete(f"/v1/jobs/{job['id']}")
    out, _ = await output(waiting)
    assert (waiting.returncode, "cancelled" in out) == (1, True)


async def test_cancelling_is_silent_unless_the_job_had_ended(command, admin, release, worker):
    ids = [(await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"] for _ in range(2)]
    worker.run(ids[1], "generate.fin")
    assert ((await output(command("jobs", "cancel", ids[0])))[1]) == ""
    assert "had ended before" in (await output(command("jobs", "cancel", ids[1])))[1]


async def test_replacing_a_selector_names_the_labels_that_go(command, admin, release):
    await admin.post("/v1/datasets?name=d", content=b'{"input": "a"}\n{"input": "b"}\n')
    labels = ("--label", "fin.sa=d", "--label", "law.ie=d")
    out, said = await output(command("train", "selector", *labels, "--replace", "--json"))
    assert "labels that go: fin.ha, med.qa" in said
    job = (await admin.get(f"/v1/training/jobs/{json.loads(out)['id']}")).json()
    assert job["request"]["drop"] == ["fin.ha", "med.qa"]


async def test_jobs_are_found_and_judged(command, admin, release, worker):
    ids = [
        (await admin.post("/v1/jobs", json={"input": "x", "label": label})).json()["id"]
        for label in ("fin.sa", "fin.ha")
    ]
    worker.run(ids[0], "generate.fin")
    await output(command("jobs", "feedback", ids[0], "--rating", "1"))
    for filters in (
        ("--label", "fin.sa"),
        ("--feedback",),
        ("--label", "fin.sa", "--no-rejected", "--since", "2020-01-01T00:00:00Z"),
    ):
        found, _ = await output(command("jobs", "list", *filters, "--json"))
        assert [job["id"] for job in json.loads(found)] == ids[:1]


async def test_a_table_on_a_narrow_terminal_shows_ids_whole(command, admin, release):
    job = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()
    assert job["id"] in (await output(command("jobs", "list")))[0]
