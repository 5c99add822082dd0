import pytest

from services.cli.demo.run import forget
from services.cli.local.folder_lock import lock_folder
from shared.errors import Conflict


@pytest.fixture
def data(tmp_path):
    for name in ("ledger/appendonly", "s3/volume", "cache/adapters/a", "cache/base/model"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    return tmp_path


def test_a_fresh_demo_forgets_what_was_trained_and_keeps_the_base_model(data):
    forget(data)
    assert [name for name in ("ledger", "s3", "cache/adapters", "cache/base/model") if (data / name).exists()] == [
        "cache/base/model"
    ]
    lock_folder(data).close()


def test_a_fresh_demo_touches_no_system_that_runs(data):
    with lock_folder(data), pytest.raises(Conflict):
        forget(data)
    assert (data / "ledger" / "appendonly").is_file()
