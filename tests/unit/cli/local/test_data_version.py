"""The number of a data folder's format."""

import pytest

from services.cli.local.data_version import FORMAT
from services.cli.local.folder_lock import is_locked, lock_folder
from shared.errors import Conflict


def test_a_folder_without_a_number_is_of_the_first_version_and_gets_it(tmp_path):
    (tmp_path / "ledger").mkdir()
    lock_folder(tmp_path).close()
    assert (tmp_path / "VERSION").read_text() == "1\n"
    lock_folder(tmp_path).close()
    assert FORMAT == 1


@pytest.mark.parametrize(
    ("written", "expected"), [("2\n", "is of a newer version"), ("99", "newer"), ("", "no number"), ("x", "no number")]
)
def test_a_folder_of_an_unknown_version_is_refused_and_left_as_it_is(tmp_path, written, expected):
    (tmp_path / "VERSION").write_text(written)
    with pytest.raises(Conflict, match=expected):
        lock_folder(tmp_path)
    assert (tmp_path / "VERSION").read_text() == written
    assert not is_locked(tmp_path)
