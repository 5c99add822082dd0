"""What the pages show of OpenAI's API and of our own runs against a real system, and answers as they say."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from shared.security import api_keys
from shared.security.api_keys import Scope

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


def test_each_command_of_the_first_page_is_answered_as_it_says(released, key):
    (ours, shown), (chat, _) = commands("README.md")
    job = run(ours, released, key)
    assert set(job) == set(json.loads(shown.replace("…", "")))
    assert (job["kind"], job["state"], job["label"]) == ("generate", "queued", None)
    answer = run(chat, released, key)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["signalbox"]["release"] == job["release"]


def test_the_lines_of_openais_page_run(released, key, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/openai.md").read_text(), re.DOTALL)
    at = released.supervisor.api_url.removeprefix("http://")
    exec(compile(program.replace(ADDRESS, at), "docs/openai.md", "exec"), {"KEY": key})
    said = capsys.readouterr().out.strip().rpartition(" ")[2]
    assert said in ("None", "bank.cards", "bank.accounts")
