"""The passwords of a deployment's own servers."""

import hashlib
import json
from urllib.parse import urlsplit

import pytest

from services.cli.local.redis_acl import ACCOUNTS
from services.cli.local.secrets import write_passwords
from shared.errors import Conflict


def read(folder):
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_servers_and_services_get_the_same_passwords_in_files_of_their_own(tmp_path):
    write_passwords(tmp_path, ledger="ledger:6379", broker="broker:6379")
    files = read(tmp_path)
    for account in ACCOUNTS:
        for server, setting in (("ledger", "redis_url"), ("broker", "broker_url")):
            url = urlsplit(files[f"{account}/signalbox_{setting}"])
            assert (url.username, url.hostname, url.port, url.path) == (account, server, 6379, "/0")
            hashed = hashlib.sha256(url.password.encode()).hexdigest()
            (line,) = [
                user for user in files[f"{server}/users.acl"].splitlines() if user.startswith(f"user {account} ")
            ]
            assert f" #{hashed} " in line
        (identity,) = json.loads(files["s3/seaweedfs.json"])["identities"]
        (pair,) = identity["credentials"]
        for user, password in (
            (files["s3/user"], files["s3/password"]),
            (files[f"{account}/signalbox_s3_access_key"], files[f"{account}/signalbox_s3_secret_key"]),
        ):
            assert (user, password) == (pair["accessKey"], pair["secretKey"])


def test_no_password_of_redis_stands_twice_and_none_at_the_server(tmp_path):
    write_passwords(tmp_path, ledger="ledger:6379", broker="broker:6379")
    files = read(tmp_path)
    passwords = [urlsplit(text).password for name, text in files.items() if name.endswith("_url")]
    assert len(set(passwords)) == 2 * len(ACCOUNTS)
    assert not any(
        password in files[f"{server}/users.acl"] for password in passwords for server in ("ledger", "broker")
    )


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
    (tmp_path / "broker" / "users.acl").unlink()
    (tmp_path / "s3" / "user").unlink()
    before = read(tmp_path)

    with pytest.raises(Conflict, match=r"lacks broker/users\.acl, s3/user but") as raised:
        write_passwords(tmp_path, ledger="l:1", broker="b:1")

    assert "put these back" in raised.value.detail
    assert read(tmp_path) == before


def test_a_deployment_of_an_older_version_gets_what_the_parts_of_its_store_show_each_other(tmp_path):
    write_passwords(tmp_path, ledger="l:1", broker="b:1")
    between = {"s3/security.toml", "s3/tls-ca.pem", "s3/tls.pem", "s3/tls.key"}
    for name in between:
        (tmp_path / name).unlink()
    before = read(tmp_path)

    assert set(write_passwords(tmp_path, ledger="l:1", broker="b:1")) == between
    assert {name: text for name, text in read(tmp_path).items() if name not in between} == before
    (tmp_path / "s3" / "tls.key").unlink()
    with pytest.raises(Conflict, match=r"lacks s3/tls\.key but"):
        write_passwords(tmp_path, ledger="l:1", broker="b:1")


def test_a_file_that_was_left_unfinished_is_written_anew(tmp_path):
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / ".user.unfinished").write_text("sig")

    made = write_passwords(tmp_path, ledger="l:1", broker="b:1")

    assert read(tmp_path).keys() == set(made)
    assert (tmp_path / "s3" / "user").read_text() == "signalbox"
