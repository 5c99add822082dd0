"""Backup and restore as an operator does it, with `signalbox up` before and after."""

import json
import shutil

import pytest

from services.cli.local.folder_lock import holders
from tests.support.eventually import eventually
from tests.support.up_process import PROGRAM

pytestmark = pytest.mark.slow


def ok(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def backed_up(up, tmp_path):
    """A folder whose system was backed up while it ran, and then lost."""
    up.start().ready()
    (tmp_path / "rows.jsonl").write_text('{"input": "a"}\n' * 4)
    ok(up.run("datasets", "add", str(tmp_path / "rows.jsonl")))
    made = json.loads(ok(up.run("backup", str(tmp_path / "backup.tar"), "--json")))
    assert made["corrupt"] == []
    refused = up.run("restore", str(tmp_path / "backup.tar"))
    assert (refused.returncode, "already_up" in refused.stderr) == (1, True)
    ok(up.run("down"))
    shutil.rmtree(up.data)
    return tmp_path / "backup.tar"


def test_a_lost_system_comes_back_with_its_data_and_its_key(up, backed_up):
    ok(up.run("restore", str(backed_up)))
    up.start().ready()
    assert [row["name"] for row in json.loads(ok(up.run("datasets", "list", "--json")))] == ["rows"]
    ok(up.run("datasets", "rm", "rows"))
    assert "deleted 1 objects" in up.run("gc", "--delete", "--grace-hours", "0").stderr


def test_a_restore_that_was_killed_leaves_no_half_and_begins_anew(up, backed_up):
    import psutil

    restoring = psutil.Popen([PROGRAM, "restore", str(backed_up)], env=up.environment)
    eventually(lambda: len(holders(up.data)) > 1, "the store of the restored folder runs", 60)
    restoring.kill()
    restoring.wait()
    refused = up.run("restore", str(backed_up))
    assert (refused.returncode, "run `signalbox down` first" in refused.stderr) == (1, True)
    ok(up.run("down"))
    assert not any((up.data / name).exists() for name in ("s3", "ledger"))
    ok(up.run("restore", str(backed_up)))
    assert not (up.data / "restoring").exists()
    up.start().ready()
    assert [row["name"] for row in json.loads(ok(up.run("datasets", "list", "--json")))] == ["rows"]
