"""`signalbox keys`, as the runbook of a leaked key uses it."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from services.cli import output
from services.cli.main import app
from shared.security import api_keys


@pytest.fixture
def run(settings, monkeypatch):
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(settings.data_dir))

    def invoke(*arguments):
        done = CliRunner().invoke(app, ["keys", *arguments])
        return done, json.loads(done.stdout) if done.exit_code == 0 and "--json" in arguments else None

    return invoke


def test_a_key_is_made_with_its_limits_rotated_and_revoked(run, ledger):
    limits = ("--expires-days", "30", "--requests-per-minute", "60", "--tokens-per-minute", "0")
    _, made = run("create", "--scope", "submit", "--tenant", "acme", "--name", "ci", *limits, "--json")
    assert (made["requests_per_minute"], made["tokens_per_minute"], made["tenant_id"]) == (60, 0, "acme")
    assert made["expires_at"] > made["created_at"]

    _, successor = run("rotate", made["id"], "--overlap-hours", "0", "--json")
    assert successor["replaces"] == made["id"]
    assert (successor["requests_per_minute"], successor["tenant_id"]) == (60, "acme")
    with pytest.raises(api_keys.Unauthenticated, match="expired"):
        api_keys.authenticate(ledger.redis, made["key"])
    assert api_keys.authenticate(ledger.redis, successor["key"]).id == successor["id"]

    run("revoke", successor["id"])
    with pytest.raises(api_keys.Unauthenticated, match="revoked"):
        api_keys.authenticate(ledger.redis, successor["key"])
    _, listed = run("list", "--json")
    assert {one["id"] for one in listed} == {made["id"], successor["id"]}
    assert made["key"] not in json.dumps(listed)


def test_the_list_fits_a_terminal_of_eighty_columns_and_shows_which_keys_are_revoked(run, monkeypatch):
    screen, hint = io.StringIO(), io.StringIO()
    limits = ("--expires-days", "30", "--scope", "submit", "--scope", "read", "--scope", "promote")
    _, made = run("create", "--name", "the nightly import of the accounting department", *limits, "--json")
    run("revoke", made["id"])
    monkeypatch.setattr(output, "out", Console(file=screen, force_terminal=True, width=80))
    monkeypatch.setattr(output, "err", Console(file=hint, force_terminal=True, width=80))
    run("list")
    head, line = screen.getvalue().splitlines()
    assert max(len(head), len(line)) <= 80
    assert line.startswith(made["id"])
    assert "revoked_at" in head
    assert "--json has everything" in hint.getvalue()


def test_a_tenant_with_a_newline_is_refused_and_no_key_is_made(run):
    done, _ = run("create", "--tenant", "acme\n")
    assert (done.exit_code, done.exception.code) == (1, "name_malformed")
    assert run("list", "--json")[1] == []


def test_a_number_that_makes_no_sense_is_refused(run):
    for wrong in (("--expires-days", "-1"), ("--requests-per-minute", "-5"), ("--tokens-per-minute", "many")):
        assert run("create", *wrong)[0].exit_code == 2


def test_a_ledger_that_does_not_answer_is_named(run, monkeypatch):
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", "redis://127.0.0.1:1")
    done, _ = run("list")
    assert (done.exit_code, done.exception.code) == (1, "nothing_runs")
