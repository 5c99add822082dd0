"""The pages for newcomers do what they say: the marked commands are run, in order, on a whole system."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.reference_release import save_adapter
from tests.support.source import ROOT

BLOCK = re.compile(r"^( *)<!-- run -->\n *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
TENANT = "newcomer"


def blocks(page):
    return [textwrap.dedent(indent + block) for indent, block in BLOCK.findall((ROOT / page).read_text())]


@pytest.fixture(scope="module")
def shell(system, tmp_path_factory):
    """A newcomer's shell: a folder, a tenant without anything, `signalbox` on the path."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "examples").symlink_to(ROOT / "examples")
    program = folder / "bin/signalbox"
    program.parent.mkdir()
    calls = "from services.cli.main import main; main()"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{calls}' \"$@\"\n")
    program.chmod(0o755)
    key = api_keys.create(system.redis, frozenset({Scope.ADMIN}), tenant_id=TENANT)[1]
    env = {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "clients/python"))),
        "SIGNALBOX_DATA_DIR": str(system.supervisor.settings.data_dir),
        "SIGNALBOX_API_URL": system.supervisor.api_url,
        "SIGNALBOX_API_KEY": key,
        "COLUMNS": "200",
    }

    def run(block):
        at = system.supervisor.api_url.removeprefix("http://")
        ours = block.replace("localhost:8000", at).replace("keys create", f"keys create --tenant {TENANT}")
        asked = ["bash", "-euo", "pipefail", "-c", ours]
        done = subprocess.run(asked, env=env, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run.folder = folder
    return run


def test_the_start_and_the_new_task_are_run_from_top_to_bottom(shell):
    taught, chosen, asked, chat = [shell(block) for block in blocks("docs/start.md")]
    assert "bank.cards@1" in taught
    assert "travel.trips@1" in taught
    assert "bank.cards" in chosen
    assert "succeeded" in asked
    assert '"chat.completion"' in chat
    trained, made, tried = [shell(block) for block in blocks("docs/guides/teach-a-new-task.md")]
    assert "travel.dining@1" in trained
    assert "travel.dining" in tried
    assert "prototypes" in made


def test_the_batch_is_run_and_the_release_rolled_back(shell):
    written, sent = [shell(block) for block in blocks("docs/guides/batch-of-ten-thousand.md")]
    assert written == ""
    assert len((shell.folder / "rows.jsonl").read_text().splitlines()) == 3
    assert "completed" in sent
    listed = json.loads(shell("signalbox releases list --json"))
    newest = max(listed, key=lambda release: release["created_at"])
    if not newest["current"]:  # a tiny random model may lose more than the gate allows
        shell(f"signalbox releases promote {newest['id']} --force")
    before = shell("signalbox releases show current --json")
    (back,) = [shell(block) for block in blocks("docs/guides/roll-back.md")]
    assert "travel.dining" in before
    assert "travel.dining" not in back


def test_adapters_are_brought(shell, system):
    for label in ("bank.accounts", "bank.cards"):
        save_adapter(Path(system.supervisor.settings.base_model), shell.folder / "adapters" / label, {})
    stored, asked = [shell(block) for block in blocks("docs/guides/bring-your-adapters.md")]
    assert all(label in stored for label in ("bank.accounts", "bank.cards"))
    assert "succeeded" in asked
