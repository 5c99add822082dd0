"""`signalbox gc` as an operator runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.contracts.rows import Row
from shared.registry import Registry
from shared.registry.store import S3Store

PROGRAM = Path(sys.executable).parent / "signalbox"


@pytest.fixture
def command(alone):
    environment = os.environ | {
        "SIGNALBOX_REDIS_URL": alone.redis_url,
        "SIGNALBOX_S3_URL": alone.s3_url,
        "SIGNALBOX_S3_BUCKET": alone.s3_bucket,
        "SIGNALBOX_DATA_DIR": str(alone.data_dir),
        "COLUMNS": "200",
    }

    def run(*words):
        done = subprocess.run(
            [PROGRAM, *words], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_garbage_is_shown_first_and_deleted_when_it_is_asked_for(alone, ledger, command):
    store = S3Store(alone)
    registry = Registry(ledger, store, alone.cache_dir)
    kept, gone = (registry.datasets.add("default", name, [Row(input=name)]) for name in ("kept", "gone"))
    registry.removal.dataset("default", gone.id)
    key = f"tenants/default/datasets/{gone.id}.jsonl"
    store.put("ready", b"1")

    status, shown = command("gc", "--grace-hours", "0")
    assert (status, key in shown, "1 objects" in shown, store.exists(key)) == (0, True, True, True)
    status, shown = command("gc", "--grace-hours", "0", "--delete")
    assert (status, key in shown, "deleted 1 objects" in shown, store.exists(key)) == (0, True, True, False)
    assert registry.datasets.rows("default", kept.id) == [Row(input="kept")]
