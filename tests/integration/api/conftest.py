"""The API served over real HTTP, in the test's own loop, against the session's real servers."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from shared.ledger import calls
from shared.security import api_keys
from tests.support.adapter_samples import BASE
from tests.support.api import Worker, client_of, serving
from tests.support.console import signed_in

PROGRAM = Path(sys.executable).parent / "signalbox"


@pytest.fixture
async def api(settings, tokens):
    """A client for every kind of key, and `anonymous`."""
    async with serving(settings) as (app, url), contextlib.AsyncExitStack() as stack:
        clients = {"anonymous": await stack.enter_async_context(client_of(url))}
        for name, token in tokens.items():
            clients[name] = await stack.enter_async_context(client_of(url, token))
        clients["app"] = app
        clients["url"] = url
        yield clients


@pytest.fixture
def admin(api):
    return api["admin"]


@pytest.fixture
def broker(settings):
    with redis.Redis.from_url(settings.broker_url) as client:
        yield client


@pytest.fixture
def worker(ledger):
    return Worker(ledger)


@pytest.fixture
def base(ledger, store):
    """The base model, as a worker publishes it, and no longer than the test: others train on whatever they like."""
    store.ensure_bucket()
    store.put("base/tiny.json", json.dumps({"id": "tiny", "shapes": BASE.to_dict()}).encode())
    ledger.do(calls.heartbeat("worker", ["generate.fin", "generate.fin@tiny"], [], {}, 60))
    yield
    for key in store.keys("base/"):
        store.delete(key)


@pytest.fixture
def command(api, tokens, tmp_path):
    """Starts a command of the command line with the administrator's key."""
    env = {"SIGNALBOX_API_URL": api["url"], "SIGNALBOX_API_KEY": tokens["admin"], "SIGNALBOX_DATA_DIR": str(tmp_path)}

    def start(*words, **more):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([PROGRAM, *words], env=os.environ | env | more, encoding="utf-8", cwd=tmp_path, **pipes)

    return start


@pytest.fixture
async def operator(api, tokens):
    """A visitor of the console who may do everything."""
    async with contextlib.aclosing(await signed_in(api["url"], tokens["admin"])) as client:
        yield client


@pytest.fixture
async def stranger(api, tokens):
    """A visitor of the console who may do everything in another tenant."""
    async with contextlib.aclosing(await signed_in(api["url"], tokens["other"])) as client:
        yield client


@pytest.fixture
async def submitter(api, ledger):
    """A visitor of the console whose key, which is its `token`, may only submit."""
    _, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    async with contextlib.aclosing(await signed_in(api["url"], token)) as client:
        client.token = token
        yield client
