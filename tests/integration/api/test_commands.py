"""What the command line says of jobs, against a real API."""

import asyncio
import json
import signal
import time

import pytest

from shared.contracts.jobs import JobState
from shared.contracts.manifests import BaseModelManifest
from shared.contracts.rows import Row
from shared.contracts.training_cost import Speed
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from tests.support.api import make_release


@pytest.fixture
def ctrl_c():
    """Commands hear it as at a terminal, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def output(process, given=None):
    return await asyncio.to_thread(process.communicate, given)


async def submitted(admin, process):
    """The id of the job that a command has submitted."""
    while not (jobs := (await admin.get("/v1/jobs")).json()["items"]):
        assert process.poll() is None, process.communicate()
    return jobs[0]["id"]


async def test_a_wait_for_a_worker_that_is_not_there_is_told_of_and_ends_with_the_job(command, admin, release):
    waiting = command("submit", "my card", "--label", "fin.sa", "--wait")
    said = await asyncio.to_thread(waiting.stderr.readline)
    assert "no live worker serves generate.fin; start one: signalbox worker --group fin" in said
    (job,) = (await admin.get("/v1/jobs")).json()["items"]
    await admin.delete(f"/v1/jobs/{job['id']}")
    out, _ = await output(waiting)
    assert (waiting.returncode, "cancelled" in out) == (1, True)


async def test_a_job_is_asked_again_under_another_label(command, admin, release):
    first = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    out, _ = await output(command("jobs", "again", first, "--label", "fin.ha", "--explain", "--json"))
    job = (await admin.get(f"/v1/jobs/{json.loads(out)['id']}")).json()
    assert (job["label"], job["metadata"], job["request"]["explain"]) == ("fin.ha", {"made_from": first}, True)


async def test_cancelling_is_silent_unless_the_job_had_ended(command, admin, release, worker):
    ids = [(await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"] for _ in range(2)]
    worker.run(ids[1], "generate.fin")
    assert ((await output(command("jobs", "cancel", ids[0])))[1]) == ""
    assert "had ended before" in (await output(command("jobs", "cancel", ids[1])))[1]


async def test_replacing_a_selector_names_the_labels_that_go(command, admin, release):
    await admin.post("/v1/datasets?name=d", content=b'{"input": "a"}\n' * 4)
    labels = ("--label", "fin.sa=d", "--label", "law.ie=d")
    out, said = await output(command("train", "selector", *labels, "--replace", "--json"))
    assert "labels that go: fin.ha, med.qa" in said
    job = (await admin.get(f"/v1/training/jobs/{json.loads(out)['id']}")).json()
    assert job["request"]["drop"] == ["fin.ha", "med.qa"]


async def test_a_training_says_what_it_takes_and_what_takes_long_is_confirmed(command, admin, ledger, registry):
    base = BaseModelManifest(id="slow", shapes={f"model.layers.0.{name}_proj": (64, 64) for name in "qkvo"})
    registry.base_models.publish(base)
    registry.speeds.add("slow", Speed(pace="float32", step_flops=1e6, flops_per_second=100))
    ledger.do(calls.heartbeat("worker", ["generate.base", "generate.base@slow"], [], {}, 60))
    await admin.post("/v1/datasets?name=d", content="".join(f'{{"input": "{n}"}}\n' for n in range(20)).encode())
    labels = ("--label", "fin.sa=d", "--label", "law.ie=d")

    _, said = await output(command("train", "selector", *labels))
    assert "words first, in seconds; where they are not enough, the language model trains for about" in said
    assert "above the limit of 30 min: only with --confirm-cost" in said
    _, said = await output(command("train", "selector", *labels, "--kind", "light"))
    assert "words alone are trained, in seconds" in said
    adapter = ("train", "adapter", "--label", "fin.sa", "--dataset", "d")
    refused = command(*adapter)
    _, said = await output(refused)
    assert (refused.returncode, "training_costly" in said) == (1, True)
    out, said = await output(command(*adapter, "--confirm-cost", "--json"))
    assert "the language model trains for about" in said
    assert (await admin.get(f"/v1/training/jobs/{json.loads(out)['id']}")).json()["request"]["confirm_cost"] is True


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


async def test_what_nothing_uses_is_deleted_and_the_first_refusal_ends_it(command, admin, registry, release, worker):
    ids = [
        (await admin.post(f"/v1/datasets?name={name}", content=b'{"input": "%b"}' % name.encode())).json()["id"]
        for name in "ab"
    ]
    other = make_release(parent=release.id).model_copy(update={"reject_policy": "error"})
    registry.releases.add(other)
    job_id = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job_id, "generate.fin")
    await admin.post(f"/v1/jobs/{job_id}/feedback", json={"rating": 1})
    assert (await output(command("datasets", "rm", *ids)))[0] == f"deleted {ids[0]}\ndeleted {ids[1]}\n"
    assert (await output(command("jobs", "feedback", job_id, "--forget")))[0] == f"deleted {job_id}\n"
    refused = command("releases", "rm", other.id, release.id, "rel_none")
    out, said = await output(refused)
    assert (refused.returncode, out) == (1, f"deleted {other.id}\n")
    assert "release_in_use" in said
    assert "adapter_not_found" in (await output(command("adapters", "rm", "fin.sa@9")))[1]


async def columns_of(process):
    out, err = await output(process)
    assert "Traceback" not in err
    return [line.split("\t") for line in out.splitlines()]


async def test_a_table_in_a_pipe_has_one_line_a_row_in_tabs_and_ids_whole(command, admin, release, worker):
    job = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()
    worker.run(job["id"], "generate.fin")
    names, row = await columns_of(command("jobs", "list", COLUMNS="40"))
    assert names == ["id", "kind", "state", "label", "try", "created_at"]
    assert row[:5] == [job["id"], "generate", "succeeded", "fin.sa", "1"]


async def test_a_table_on_a_narrow_terminal_has_one_line_a_row_too(command, admin, release):
    job = (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()
    out, said = await output(command("jobs", "list", COLUMNS="40", FORCE_COLOR="1", TERM="xterm"))
    names, row = (line.split() for line in out.splitlines())
    assert max(map(len, out.splitlines())) <= 40
    assert (names[0], row[0]) == ("id", job["id"])
    assert "created_at: --json has everything" in " ".join(said.split())


async def test_a_training_is_listed_by_what_it_trains(command, admin, registry, store, release):
    store.ensure_bucket()
    rows = [Row(input=f"text {number}", output="yes") for number in range(8)]
    registry.datasets.add("default", "rows", rows)
    body = {"kind": "adapter.train", "label": "fin.new", "dataset": "rows"}
    assert (await admin.post("/v1/training/jobs", json=body)).status_code == 202
    await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})
    (row,) = (await columns_of(command("jobs", "list", "--kind", "train")))[1:]
    assert row[1:5] == ["adapter.train", "queued", "fin.new", "0"]


async def test_a_release_is_a_page_and_two_are_compared(command, admin, registry, release):
    newer = make_release(labels=("fin.sa", "fin.ha"), parent=release.id, report={"accuracy": 0.9, "per_label": {}})
    registry.releases.add(newer)
    page = await columns_of(command("releases", "show", newer.id))
    assert ["parent", release.id] in page
    assert ["gate", "passed"] in page
    assert ["fin.sa", "fin.sa@1", "fin", "chatml", "-", "a" * 64] in page
    assert len(page) < 25
    names, *facts = await columns_of(command("releases", "diff", release.id, newer.id))
    assert names == ["what", "old", "new"]
    assert ["accuracy", "-", "0.9"] in facts
    assert ["med.qa ref", "med.qa@1", "-"] in facts
    assert not [fact for fact in facts if fact[0].startswith("fin.sa")]
    assert await columns_of(command("releases", "diff", newer.id, newer.id)) == [names]


async def test_a_release_is_edited_and_promoted_in_one_command(command, admin, registry, release, ledger):
    ledger.do(calls.heartbeat("worker", [*release.queues, *(f"{q}@tiny" for q in release.queues)], [], {}, 60))
    wrong = await output(command("releases", "edit", "--set-template", "fin.sa"))
    assert "--set-template takes LABEL=VALUE, not 'fin.sa'" in " ".join(wrong[1].replace("│", " ").split())
    edit = ("--remove", "fin.ha", "--no-selector", "--set-template", "fin.sa=plain", "--promote")
    assert ["gate", "passed"] in await columns_of(command("releases", "edit", *edit))
    now = (await admin.get("/v1/releases/current")).json()
    assert (set(now["labels"]), now["selector"]) == ({"fin.sa", "med.qa"}, None)
    assert now["labels"]["fin.sa"]["template"] == "plain"


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
        _cost, told = [await asyncio.to_thread(waiting.stderr.readline) for _ in range(2)]
        job_id = told.split()[-1]
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


async def test_what_a_lost_worker_had_told_is_not_in_the_answer(command, admin, release, worker):
    waiting = command("submit", "my card", "--label", "fin.sa", "--wait")
    job_id = await submitted(admin, waiting)
    worker.tell(worker.take(job_id, "generate.fin", lease_seconds=0), "token", text="first try, ", attempt=1)
    again = worker.take(job_id, "generate.fin")
    worker.tell(again, "restart", attempt=2)
    worker.tell(again, "token", text="second try", attempt=2)
    worker.end(again, JobState.SUCCEEDED, result={"text": "second try"})
    out, err = await output(waiting)
    assert (waiting.returncode, "Traceback" in err) == (0, False)
    assert out.splitlines()[0] == "second try"
    assert "first try" not in out


async def test_an_answer_may_hold_any_line_end(command, admin, release, worker):
    text = "a\u2028b\x85c\u2029d line\r\nline \x0b\x0c\x1c"
    waiting = command("submit", "my card", "--label", "fin.sa", "--wait", "--json")
    job_id = await submitted(admin, waiting)
    worker.run(job_id, "generate.fin", text)
    out, _ = await output(waiting)
    assert (waiting.returncode, json.loads(out)["result"]["text"]) == (0, text)
    told = (await output(command("jobs", "tail", job_id)))[0].splitlines()
    assert [line.split()[0] for line in told] == ["state", "state", "token", "state"]
    assert json.loads(told[2].removeprefix("token"))["text"] == text


@pytest.mark.parametrize("more", [(), ("--json",)])
async def test_a_sign_that_the_terminal_cannot_show_is_replaced(command, admin, release, worker, more):
    waiting = command("submit", "my card", "--label", "fin.sa", "--wait", *more, PYTHONIOENCODING="latin-1")
    job_id = await submitted(admin, waiting)
    worker.run(job_id, "generate.fin", "paid \U0001f389")
    out, err = await output(waiting)
    assert (waiting.returncode, "Traceback" in err) == (0, False)
    assert (json.loads(out)["result"]["text"] == "paid \U0001f389") if more else out.startswith("paid ?\n")
