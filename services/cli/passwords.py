"""Passwords of a deployment's own servers: random, written once, each server's files in a folder of its own."""

import json
import secrets
from pathlib import Path

ACCESS_KEY = "signalbox"


def write_passwords(folder: Path, *, ledger: str, broker: str) -> list[str]:
    """Write what is missing below `folder`; answers the names of the files written.

    `ledger` and `broker` hold a Redis configuration, `s3` what MinIO and SeaweedFS read, `services` the settings of
    every Signalbox process (see `SIGNALBOX_SECRETS_DIR`). Where one of the files is there, nothing is written: half of
    them new would lock everyone out.
    """
    files = _files(ledger, broker, *(secrets.token_urlsafe(32) for _ in range(3)))
    if any((folder / name).exists() for name in files):
        return []
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(text)
    return sorted(files)


def _files(ledger: str, broker: str, ledger_password: str, broker_password: str, s3_password: str) -> dict[str, str]:
    identity = {
        "name": ACCESS_KEY,
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": s3_password}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return {
        "ledger/redis.conf": f"requirepass {ledger_password}\n",
        "broker/redis.conf": f"requirepass {broker_password}\n",
        "s3/user": ACCESS_KEY,
        "s3/password": s3_password,
        "s3/seaweedfs.json": json.dumps({"identities": [identity]}),
        "services/signalbox_redis_url": f"redis://:{ledger_password}@{ledger}/0",
        "services/signalbox_broker_url": f"redis://:{broker_password}@{broker}/0",
        "services/signalbox_s3_access_key": ACCESS_KEY,
        "services/signalbox_s3_secret_key": s3_password,
    }
