"""A Redis URL that a real server refuses: one sentence, no part of a password."""

import json
import os
import subprocess
import sys

import pytest

from shared.errors import Invalid
from shared.redis_servers import check_servers

SECRET = "TOPSECRET"


def run(settings, *command, **env):
    """Runs a process against the servers; answers its status and what it showed."""
    urls = {"SIGNALBOX_REDIS_URL": settings.redis_url, "SIGNALBOX_BROKER_URL": settings.broker_url}
    everything = {"PATH": os.environ["PATH"], "SIGNALBOX_DATA_DIR": str(settings.data_dir), **urls, **env}
    done = subprocess.run(
        [sys.executable, *command], env=everything, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stderr


def elsewhere(url, database="/0", user=""):
    return url.removesuffix("/0").replace("redis://", f"redis://{user}") + database


def test_a_database_that_the_server_lacks_is_told_of_by_setting(settings):
    check_servers(settings)
    for name in ("redis_url", "broker_url"):
        with pytest.raises(Invalid, match=f"SIGNALBOX_{name.upper()}.*write /0"):
            check_servers(settings.model_copy(update={name: elsewhere(getattr(settings, name), "/99")}))


@pytest.mark.parametrize("service", ["api", "selector"])
def test_a_service_whose_database_is_not_there_ends_with_one_line(settings, service):
    url = elsewhere(settings.broker_url, "/99")
    status, shown = run(settings, "-m", f"services.{service}", SIGNALBOX_BROKER_URL=url)
    (line,) = map(json.loads, shown.splitlines())
    assert (status, line["code"]) == (1, "settings_invalid")


@pytest.mark.parametrize(
    ("change", "code"),
    [({"database": "/99"}, "settings_invalid"), ({"user": f"nobody:{SECRET}@"}, "ledger_refuses_us")],
)
def test_a_command_whose_ledger_refuses_it_says_why(settings, change, code):
    command = ("-c", "from services.cli.main import main; main()", "keys", "list")
    status, shown = run(settings, *command, SIGNALBOX_REDIS_URL=elsewhere(settings.redis_url, **change))
    assert (status, shown.partition(":")[0]) == (1, code)


def test_a_user_without_rights_is_told_so(settings, ledger):
    ledger.redis.acl_setuser("meek", enabled=True, passwords=[f"+{SECRET}"], commands=["+ping", "+select"], keys=["*"])
    command = ("-c", "from services.cli.main import main; main()", "keys", "list")
    url = elsewhere(settings.redis_url, user=f"meek:{SECRET}@")
    try:
        status, shown = run(settings, *command, SIGNALBOX_REDIS_URL=url)
    finally:
        ledger.redis.acl_deluser("meek")
    assert (status, shown.partition(":")[0], "rights" in shown) == (1, "redis_refuses", True)
