"""What the pages show of OpenAI's API and of our own runs against a real system, and answers as they say."""

import json
import re
import subprocess
from pathlib import Path

import openai
import pytest

from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]
ADDRESS = "localhost:8000"


@pytest.fixture
def key(released):
    return api_keys.create(released.redis, frozenset({Scope.SUBMIT, Scope.READ}))[1]


def commands(page):
    """The commands of a page, each with what is shown as its answer."""
    for block in re.findall(r"```console\n\$ (.*?)```", (ROOT / page).read_text(), re.DOTALL):
        command, answer = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*\n)(.*)", block, re.DOTALL).groups()
        yield command, answer


def run(command, released, key):
    at = released.supervisor.api_url.removeprefix("http://")
    env = {"PATH": "/usr/bin:/bin", "KEY": key}
    done = subprocess.run(["bash", "-c", command.replace(ADDRESS, at)], env=env, capture_output=True, check=True)
    return json.loads(done.stdout)


def test_each_command_of_the_first_pages_is_answered_as_it_says(released, key):
    ((chat, _),) = commands("README.md")
    ((ours, shown),) = commands("docs/start.md")
    job = run(ours, released, key)
    assert set(job) == set(json.loads(shown.replace("…", "")))
    assert (job["kind"], job["state"], job["label"]) == ("generate", "queued", None)
    answer = run(chat, released, key)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["signalbox"]["release"] == job["release"]


def test_the_lines_of_openais_page_run(released, key, capsys, tmp_path, monkeypatch):
    chat, tools, batch = re.findall(r"```python\n(.*?)```", (ROOT / "docs/openai.md").read_text(), re.DOTALL)
    at, names = released.supervisor.api_url.removeprefix("http://"), {"KEY": key}
    exec(compile(chat.replace(ADDRESS, at), "docs/openai.md", "exec"), names)
    said = capsys.readouterr().out.strip().rpartition(" ")[2]
    assert said in ("None", "bank.cards", "bank.accounts")
    names["messages"] = [{"role": "user", "content": "is it cold in Oslo?"}]
    with pytest.raises(openai.BadRequestError) as refused:  # the adapters here have a template without tools
        exec(compile(tools, "docs/openai.md", "exec"), names)
    assert refused.value.code == "tools_not_rendered"
    monkeypatch.chdir(tmp_path)
    body = {"model": "bank.cards", "messages": [{"role": "user", "content": "card declined"}], "max_tokens": 4}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    Path("rows.jsonl").write_text(json.dumps(line))
    exec(compile(batch, "docs/openai.md", "exec"), names)
    ended = eventually(lambda: completed(names), "the batch is answered", seconds=60)
    assert json.loads(names["client"].files.content(ended.output_file_id).text)["custom_id"] == "1"


def completed(names):
    batch = names["client"].batches.retrieve(names["batch"].id)
    return batch if batch.status == "completed" else None
