"""The passwords of a deployment's own servers."""

import json

import pytest

from services.cli.passwords import write_passwords
from shared.errors import Conflict


def read(folder):
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_servers_and_services_get_the_same_passwords_in_files_of_their_own(tmp_path):
    write_passwords(tmp_path, ledger="ledger:6379", broker="broker:6379")
    files = read(tmp_path)
    ledger_password = files["ledger/redis.conf"].split()[1]
    assert files["services/signalbox_redis_url"] == f"redis://:{ledger_password}@ledger:6379/0"
    assert ledger_password not in files["broker/redis.conf"] + files["services/signalbox_broker_url"]
    (identity,) = json.loads(files["s3/seaweedfs.json"])["identities"]
    (pair,) = identity["credentials"]
    for user, password in (
        (files["s3/user"], files["s3/password"]),
        (files["services/signalbox_s3_access_key"], files["services/signalbox_s3_secret_key"]),
    ):
        assert (user, password) == (pair["accessKey"], pair["secretKey"])


def test_the_files_are_for_their_owner_alone(tmp_path):
    write_passwords(tmp_path, ledger="l:1", broker="b:1")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.rglob("*") if file.is_file()} == {0o600}


def test_what_was_written_once_stays(tmp_path):
    write_passwords(tmp_path, ledger="l:1", broker="b:1")
    before = read(tmp_path)
    assert write_passwords(tmp_path, ledger="other:1", broker="b:1") == []
    assert read(tmp_path) == before


def test_where_some_files_are_missing_nothing_is_written_and_they_are_named(tmp_path):
    write_passwords(tmp_path, ledger="l:1", broker="b:1")
    (tmp_path / "broker" / "redis.conf").unlink()
    (tmp_path / "s3" / "user").unlink()
    before = read(tmp_path)

    with pytest.raises(Conflict, match=r"lacks broker/redis\.conf, s3/user but") as raised:
        write_passwords(tmp_path, ledger="l:1", broker="b:1")

    assert "put these back" in raised.value.detail
    assert read(tmp_path) == before


def test_a_file_that_was_left_unfinished_is_written_anew(tmp_path):
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / ".user.unfinished").write_text("sig")

    made = write_passwords(tmp_path, ledger="l:1", broker="b:1")

    assert read(tmp_path).keys() == set(made)
    assert (tmp_path / "s3" / "user").read_text() == "signalbox"
