"""Every runbook of docs/operations.md, done in containers as it is written there."""

import httpx
import pytest
from signalbox import SignalboxError

from tests.support.containers import (
    CARDS,
    LABELS,
    SERVICES,
    TRIPS,
    Traffic,
    answered,
    docker,
    ended,
    needs_docker,
    new_client,
    submitted,
    train_adapter,
    train_selector,
)
from tests.support.eventually import eventually
from tests.support.samples import upload

pytestmark = needs_docker


@pytest.fixture
def operator(stack, released, port):
    """A client with a key of its own, of a system that is whole and has a release."""
    stack.up()
    return new_client(stack, port)


def held(client):
    kinds = ("adapters", "datasets", "releases")
    return {kind: sorted(map(repr, client.get(f"/v1/{kind}")["items"])) for kind in kinds}


def current(client):
    return client.get("/v1/releases/current")["id"]


def test_the_broker_is_lost_with_its_disk(stack, operator):
    stack("stop", "worker-bank")
    waiting = [submitted(operator, CARDS) for _ in range(5)]
    stack.lose("broker")
    stack.up()
    assert {ended(operator, f"/v1/jobs/{job}")["state"] for job in waiting} == {"succeeded"}


def test_the_ledger_is_lost_with_its_disk(stack, operator, port):
    before, release = held(operator), current(operator)
    stack.lose("ledger")
    stack.up()
    (restored,) = stack.signalbox("releases", "restore")
    assert (restored["current"], restored["unreadable"]) == (release, [])
    client = new_client(stack, port)
    assert (held(client), current(client)) == (before, release)
    assert answered(client, CARDS)["result"]["adapter_ref"] == f"{LABELS[0]}@1"
    train_adapter(client, LABELS[0])


def test_a_group_is_stuck(stack, operator, port):
    stack("exec", "-T", "worker-bank", "sh", "-c", "kill -STOP -1")  # all but the container's init
    waiting = submitted(operator, CARDS)

    def without_consumer():
        return not httpx.get(f"http://127.0.0.1:{port}/readyz").json()["parts"]["consumers"]["ok"]

    eventually(without_consumer, "the group has no live worker any more")
    assert answered(operator, TRIPS)["state"] == "succeeded"
    stack("kill", "worker-bank")
    stack.up()
    job = ended(operator, f"/v1/jobs/{waiting}")
    assert (job["state"], job["label"]) == ("succeeded", LABELS[0])


def test_a_release_is_bad(stack, operator):
    good = current(operator)
    train_selector(operator, settings={"seed": 1})
    assert current(operator) != good
    key = stack.signalbox("keys", "create", "--scope", "admin")["key"]
    stack("run", "--rm", "-T", "-e", f"SIGNALBOX_API_KEY={key}", "cli", "releases", "rollback")
    assert current(operator) == good
    assert eventually(lambda: answered(operator, CARDS)["release"] == good, "jobs go by the former release")


def test_the_object_store_is_away_for_a_while(stack, operator):
    assert answered(operator, CARDS)["state"] == "succeeded"
    stack("stop", "s3")
    assert answered(operator, CARDS)["state"] == "succeeded"
    with pytest.raises(SignalboxError, match="object store"):
        upload(operator, LABELS[0])
    stack.up()
    assert upload(operator, LABELS[0])


def test_passwords_are_made_anew(stack, operator):
    before = answered(operator, CARDS)
    old = stack("exec", "-T", "selector", "sh", "-c", "cat /run/secrets/*")
    stack("down")
    names = docker("volume", "ls", "-q", "--filter", f"name={stack.project}_").split()
    docker("volume", "rm", *(name for name in names if name.endswith("-secrets")))
    stack.up()
    assert stack("exec", "-T", "selector", "sh", "-c", "cat /run/secrets/*") != old
    assert operator.get(f"/v1/jobs/{before['id']}")["result"] == before["result"]
    assert answered(operator, CARDS)["state"] == "succeeded"


def test_an_upgrade_under_load_and_back(stack, operator):
    traffic = Traffic(operator)
    with traffic.flowing():
        for tag in ("next", "test"):
            stack("build", SIGNALBOX_TAG=tag)
            stack.up(SIGNALBOX_TAG=tag)
            images = {c["Config"]["Image"] for c in stack.containers() if "signalbox/" in c["Config"]["Image"]}
            assert f"signalbox/api:{tag}" in images
            sent = len(traffic.accepted)
            eventually(lambda: len(traffic.accepted) > sent + 5, "the API takes jobs again")  # noqa: B023
    found = [ended(operator, f"/v1/jobs/{job}")["state"] for job in traffic.accepted]
    assert set(found) == {"succeeded"}, found
    running = {c["Config"]["Labels"]["com.docker.compose.service"] for c in stack.containers() if c["State"]["Running"]}
    assert running >= set(SERVICES)


def test_the_object_store_is_lost_with_its_disk(stack, operator):
    """The last one: what it held has to be made again."""
    stack.lose("s3")
    stack.up()
    assert answered(operator, CARDS)["state"] == "succeeded"  # from the worker's own disk
    for label in LABELS:
        train_adapter(operator, label)
    train_selector(operator)
    assert answered(operator, CARDS)["state"] == "succeeded"
