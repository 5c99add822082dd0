"""The whole road under users that may do nothing but their work: neither Redis refused anybody anything."""

import contextlib
import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from signalbox import ApiError, Signalbox

from services.cli.local.run_state import RunState
from shared.security import api_keys
from tests.support.eventually import eventually


def refusals(url):
    with redis.Redis.from_url(url, decode_responses=True) as operator:
        # Clients tell their version, and do without where they may not.
        return [
            entry for entry in operator.acl_log() if (entry["reason"], entry["object"]) != ("command", "client|setinfo")
        ]


def test_each_process_connects_as_itself(system):
    system.client.get("/v1/jobs")  # the API connects when it is asked for something
    with redis.Redis.from_url(system.supervisor.settings.redis_url) as operator:
        users = {client["user"] for client in operator.client_list()}
    assert {"api", "selector", "worker", "trainer"} <= users


def test_nobody_was_refused_what_the_road_needs(released):
    """Adapters and a selector were trained and promoted before; here is what a user and the reconciler do."""
    client = released.client
    done = released.ended(released.submit("card limit declined", params={"max_new_tokens": 4}))
    assert done["state"] == "succeeded"
    assert client.post("/v1/select", {"input": "card limit", "wait_seconds": 30})["label"]
    client.post(f"/v1/jobs/{done['id']}/feedback", {"rating": 1}, headers={"Idempotency-Key": "once"})
    client.delete(f"/v1/jobs/{released.submit(label='bank.cards', params={'max_new_tokens': 900})}")
    for path in ("/v1/jobs", "/v1/jobs/dead", "/v1/adapters", "/v1/datasets", "/v1/releases", "/v1/models", "/readyz"):
        client.get(path)
    current = client.get("/v1/releases/current")["id"]
    if client.get(f"/v1/releases/{current}")["parent"]:
        client.post("/v1/releases/rollback", {})
        client.post(f"/v1/releases/{current}/promote", {"force": True})
    _, token = api_keys.create(
        released.redis, frozenset({api_keys.Scope.SUBMIT}), requests_per_minute=1, tokens_per_minute=1000
    )
    limited = Signalbox(released.supervisor.api_url, token, max_retries=0)
    limited.post("/v1/jobs", {"input": "card limit declined", "params": {"max_new_tokens": 1}})
    with pytest.raises(ApiError, match="try again in"):
        limited.get("/v1/jobs")
    # A message that is lost is found by the reconciler, whichever service it runs in.
    redis.Redis.from_url(released.supervisor.settings.broker_url).flushall()
    lost = released.submit("card limit declined", params={"max_new_tokens": 1})
    redis.Redis.from_url(released.supervisor.settings.broker_url).flushall()
    eventually(lambda: released.job(lost)["state"] == "succeeded", "the job is sent again and done", 90)

    settings = released.supervisor.settings
    assert refusals(settings.redis_url) == []
    assert refusals(settings.broker_url) == []


def test_no_password_and_no_key_stands_in_a_log_or_a_command_line(released):
    supervisor = released.supervisor
    environments = [child.env for child in supervisor.children]
    secrets = {urlsplit(env[f"SIGNALBOX_{name}_URL"]).password for env in environments for name in ("REDIS", "BROKER")}
    secrets |= {
        supervisor.settings.s3_secret_key.get_secret_value(),
        RunState(supervisor.settings.data_dir).read()["api_key"],
    }
    assert len(secrets) == 10  # four services at two servers, the store, the API
    data = supervisor.settings.data_dir
    told = [file.read_text(errors="replace") for file in data.rglob("*.log")]
    told += [" ".join(psutil.Process(pid).cmdline()) for pid in supervisor.pids]
    assert len(told) > 12
    assert [secret for secret in secrets for text in told if secret in text] == []


def modes_in(folder):
    """The mode of each file and folder below, without links; it bears, unlike `rglob`, that one goes meanwhile."""
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in [*folders, *files]):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISLNK(mode := path.lstat().st_mode):
                    yield path, mode


def test_nobody_else_may_enter_the_data_folder_or_read_a_file_in_it(released):
    data = released.supervisor.settings.data_dir
    assert data.stat().st_mode & 0o777 == 0o700
    # The kernels are in a folder that all tests share; a volume's form (.vif) gets its rights from SeaweedFS.
    written = {path: mode for path, mode in modes_in(data) if "kernels" not in path.parts and path.suffix != ".vif"}
    assert len(written) > 50
    assert [str(path) for path, mode in written.items() if mode & 0o077] == []
