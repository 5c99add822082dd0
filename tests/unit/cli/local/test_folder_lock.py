"""A data folder belongs to one user."""

from services.cli.local.folder_lock import lock_folder


def rights(folder):
    return {path.name: oct(path.stat().st_mode & 0o777) for path in (folder, *folder.rglob("*"))}


def test_a_new_folder_and_what_is_written_from_then_on_is_for_its_owner_alone(tmp_path):
    with lock_folder(tmp_path / "data"):
        (tmp_path / "data" / "ledger").mkdir()
        (tmp_path / "data" / "ledger" / "ledger.log").write_text("x")
    files = {"up.lock": "0o600", "VERSION": "0o600", "ledger.log": "0o600"}
    assert rights(tmp_path / "data") == {"data": "0o700", "ledger": "0o700", **files}


def test_a_folder_that_an_older_version_left_open_is_closed_and_what_it_links_to_is_left_alone(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("x")
    (tmp_path / "data" / "s3").mkdir(parents=True)
    (tmp_path / "data" / "s3" / "1.dat").write_text("x")
    (tmp_path / "data" / "link").symlink_to(outside)
    (tmp_path / "data" / "run.sh").touch(0o755)
    with lock_folder(tmp_path / "data"):
        found = rights(tmp_path / "data")
    assert (found["data"], found["s3"], found["1.dat"], found["run.sh"]) == ("0o700", "0o700", "0o600", "0o700")
    assert outside.stat().st_mode & 0o777 == 0o644
