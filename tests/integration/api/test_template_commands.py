"""`signalbox templates` and `adapters check`, against a real API and a trainer's answer."""

import asyncio
import json

import pytest

from shared.contracts.jobs import JobState
from shared.contracts.manifests import AdapterManifest

JINJA = "{% for m in messages %}<|turn|>{{ m.content }}<|done|>{% endfor %}"
SCORES = [
    {
        "templates": ["llama3", "model"],
        "doubt": 2.0,
        "loss": 0.2,
        "base_loss": 1.5,
        "exact_match": 1.0,
        "base_exact_match": 0.1,
    },
    {"templates": ["chatml"], "doubt": 0.6, "loss": 0.9, "base_loss": 1.6, "exact_match": 0.2, "base_exact_match": 0.0},
]


@pytest.fixture
def run(command):
    async def ended(*words):
        process = command(*words)
        out, err = await asyncio.to_thread(process.communicate)
        return process.returncode, out, err

    return ended


async def test_a_template_is_added_from_a_file_listed_shown_and_deleted(run, tmp_path):
    (tmp_path / "house.jinja").write_text(JINJA)
    code, out, err = await run("templates", "add", "house.jinja", "--json")
    assert code == 0, err
    assert json.loads(out)["controls"] == ["<|turn|>", "<|done|>"]
    _, out, _ = await run("templates", "list")
    assert {"chatml", "model", "house"} <= {line.split("\t")[0] for line in out.splitlines()}
    _, out, _ = await run("templates", "show", "house", "--json")
    assert json.loads(out)["jinja"] == JINJA
    assert (await run("templates", "rm", "house"))[:2] == (0, "deleted house\n")
    code, _, err = await run("templates", "show", "house")
    assert (code, "template_not_found" in err) == (1, True)


async def test_frames_of_turns_come_as_json(run, tmp_path):
    frames = {"user": {"before": "Q: ", "after": "\n"}, "generation": "A:"}
    (tmp_path / "qa.json").write_text(json.dumps(frames))
    code, out, err = await run("templates", "add", "qa.json", "--name", "quiz", "--stop", "<|x|>", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert (shown["name"], shown["user"], shown["stops"]) == ("quiz", frames["user"], ["<|x|>"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("house.jinja", "{{ messages[0].content | upper }}", "drops the text of message 0"),
        ("house.jinja", "{% for", "TemplateSyntaxError"),
        ("house.json", "[1]", "no JSON object"),
        ("house.json", "{", "no JSON"),
    ],
)
async def test_a_file_that_no_worker_would_take_is_refused_before_it_is_sent(run, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    code, out, err = await run("templates", "add", name)
    assert (code, out) == (2, "")
    assert said in " ".join(err.replace("│", " ").split())


async def test_a_check_waits_for_the_trainer_and_shows_what_it_found(command, admin, registry, worker, tmp_path):
    manifest = AdapterManifest(tenant_id="default", label="fin.sa", version=1, digest="d" * 64, base_model="tiny")
    registry.adapters._records.add("default", manifest.ref, manifest)
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n')
    process = command("adapters", "check", "fin.sa", "--examples", "rows.jsonl")
    said = await asyncio.to_thread(process.stderr.readline)
    job_id = said.split()[-1]
    job = worker.take(job_id, "train")
    assert (job.body["kind"], job.body["adapter"], job.body["set_template"]) == ("adapter.check", "fin.sa@1", True)
    found = {"verdict": "clear", "template": "chatml", "best": ["llama3", "model"], "ref": "fin.sa@2"}
    worker.end(job, JobState.SUCCEEDED, result={**found, "warnings": ["be careful"], "scores": SCORES})
    out, err = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, err
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["templates", "doubt", "loss", "base_loss", "exact_match", "base_exact_match"]
    assert lines[1] == ["llama3, model", "2.0", "0.2", "1.5", "1.0", "0.1"]
    assert ["best", "llama3, model"] in lines
    assert ["ref", "fin.sa@2"] in lines
    assert "warning: be careful" in err
