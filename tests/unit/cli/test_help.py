"""What `signalbox --help` shows, how fast it is there, and what the shell completes."""

import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from services.cli.commands import completion
from services.cli.main import app
from services.cli.panels import PANELS
from tests.support.canned_api import canned_api

ROOT = typer.main.get_command(app)
SLOW = {"torch", "transformers", "numpy", "redis", "openai", "httpx", "signalbox"}


def groups(command=ROOT, path=()):
    """The words of every command that has commands."""
    found = [path]
    for name, one in command.commands.items():
        found += groups(one, (*path, name)) if hasattr(one, "commands") else []
    return found


def help_of(path):
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert done.exit_code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", done.output)


def panels(text):
    """The lines of each panel of a help page."""
    found = re.findall(r"╭─ (.+?) ─+╮\n(.*?)╰", text, re.DOTALL)
    return {title: [line.strip("│ \n") for line in body.splitlines()] for title, body in found}


def test_every_command_of_ours_stands_in_a_group_and_in_its_order():
    shown = panels(help_of(()))
    assert list(shown)[: len(PANELS) + 1] == ["Options", *PANELS]
    for title, names in PANELS.items():
        assert [line.split()[0] for line in shown[title]] == list(names)
    assert set(ROOT.commands) - {name for names in PANELS.values() for name in names} == {"run-reference", "reproduce"}


@pytest.mark.parametrize("path", groups(), ids=" ".join)
def test_each_command_is_told_in_one_line_of_eighty_columns(path):
    command = ROOT
    for name in path:
        command = command.commands[name]
    lines = [line for title, body in panels(help_of(path)).items() if title != "Options" for line in body]
    assert sorted(line.split()[0] for line in lines) == sorted(command.commands)


def test_the_help_loads_no_library_that_takes_long():
    program = f"import sys, services.cli.main; print(sorted({SLOW} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_shells_complete_commands():
    for option in ("--install-completion", "--show-completion"):
        assert option in help_of(())
    environment = {"_SIGNALBOX_COMPLETE": "complete_bash", "COMP_WORDS": "signalbox rel", "COMP_CWORD": "1"}
    done = CliRunner().invoke(app, [], env=environment, prog_name="signalbox")
    assert done.output.split() == ["releases"]


def test_shells_complete_the_ids_of_the_running_system(monkeypatch):
    answers = {
        "/v1/releases": {"items": [{"id": "rel_1"}, {"id": "rel_2"}, {"id": "other"}]},
        "/v1/adapters": {"items": [{"ref": f"a.b@{n}", "label": "a.b", "version": n, "digest": "d"} for n in (1, 2)]},
        "/v1/datasets": {"items": [{"id": "ds_1", "name": "rows"}, {"id": "ds_2", "name": ""}]},
        "/v1/jobs": {"items": [{"id": "job_1"}]},
    }
    with canned_api(answers) as url:
        monkeypatch.setenv("SIGNALBOX_API_URL", url)
        monkeypatch.setenv("SIGNALBOX_API_KEY", "sbk_x")
        assert completion.releases("rel_") == ["rel_1", "rel_2"]
        assert completion.adapters("") == ["a.b@1", "a.b@2"]
        assert completion.labels("a") == ["a.b"]
        assert completion.datasets("") == ["rows", "ds_2"]
        assert completion.jobs("") == ["job_1"]


def test_where_no_system_runs_nothing_is_proposed_and_nothing_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("SIGNALBOX_API_URL", raising=False)
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path))
    assert completion.releases("") == []
    assert capsys.readouterr() == ("", "")
