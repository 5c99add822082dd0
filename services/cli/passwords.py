"""Passwords of a deployment's own servers: random, written once, each server's files in a folder of its own."""

import json
import secrets
from pathlib import Path

from shared.errors import Conflict

ACCESS_KEY = "signalbox"


def write_passwords(folder: Path, *, ledger: str, broker: str) -> list[str]:
    """Write all files below `folder`, once; answers the names of the files written.

    `ledger` and `broker` hold a Redis configuration, `s3` what MinIO and SeaweedFS read, `services` the settings of
    every Signalbox process (see `SIGNALBOX_SECRETS_DIR`). Where all of the files are there, nothing is written. Raises
    `Conflict` where only some are: half of them new would lock everyone out.
    """
    files = _files(ledger, broker, *(secrets.token_urlsafe(32) for _ in range(3)))
    missing = [name for name in files if not (folder / name).exists()]
    if missing and len(missing) < len(files):
        raise Conflict(
            "secrets_incomplete",
            f"{folder} lacks {', '.join(missing)} but has the other files: put these back from a copy, or delete the "
            "others too, try again, and restart every server and service with the new passwords",
        )
    for name in missing:
        _write(folder / name, files[name])
    return sorted(missing)


def _write(file: Path, text: str) -> None:
    """Make a file for its owner alone, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.replace(file)


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
