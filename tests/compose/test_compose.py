"""The system in containers, built and brought up for real, on a tiny random model and SeaweedFS."""

import json

import httpx
import pytest

from tests.support.containers import CARDS, SERVICES, TRIPS, answered, needs_docker
from tests.support.eventually import eventually

API_BYTES = 330 * 10**6

pytestmark = needs_docker


@pytest.mark.parametrize(
    ("text", "label"), [("card limit declined apr", "bank.cards"), ("flight hotel visa passport", "travel.trips")]
)
def test_a_job_is_routed_to_the_container_of_its_group_and_answered(released, text, label):
    job = answered(released, text)
    assert (job["state"], job["label"]) == ("succeeded", label), job
    assert job["result"]["adapter_ref"] == f"{label}@1"


def test_every_part_is_ready_by_its_own_word(released, port):
    ready = httpx.get(f"http://127.0.0.1:{port}/readyz").json()
    assert {name for name, part in ready["parts"].items() if not part["ok"]} == set()


def test_the_doctor_finds_nothing_wrong(stack, released):
    findings = stack.signalbox("doctor")
    assert [finding for finding in findings if not finding["ok"]] == []
    assert {"ledger", "ledger settings", "broker", "object store", "api"} <= {finding["what"] for finding in findings}


def test_a_restart_of_the_ledger_loses_no_job(stack, released):
    before = answered(released, "card limit declined apr")
    stack("kill", "ledger")
    stack.up("ledger")
    after = eventually(lambda: released.get(f"/v1/jobs/{before['id']}"), "the job is known")
    assert after["result"] == before["result"]
    assert answered(released, "flight hotel visa")["state"] == "succeeded"


def test_no_container_has_more_rights_than_it_needs(stack):
    for container in stack.containers():
        name, host = container["Name"], container["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), name
        assert container["Config"]["User"] == "10001:10001", name


def test_no_password_is_shown_by_an_inspection(stack):
    shown = json.dumps(stack.containers())
    secrets = stack("exec", "-T", "selector", "sh", "-c", "cat /run/secrets/*")
    passwords = {word for word in secrets.replace(":", " ").replace("@", " ").split() if len(word) > 40}
    assert len(passwords) >= 2
    assert not any(password in shown for password in passwords)


def test_the_image_of_the_api_is_small_and_holds_no_torch(stack):
    (image,) = stack.inspect("signalbox/api:test")
    assert image["Size"] < API_BYTES
    find = "import importlib.util as u; print([n for n in ('torch', 'transformers', 'numpy') if u.find_spec(n)])"
    assert stack("exec", "-T", "api", "python", "-c", find).strip() == "[]"


def test_a_selector_is_measured_in_a_container(stack, released, tmp_path):
    rows = [{"label": "bank.cards", "input": CARDS}, {"label": "travel.trips", "input": TRIPS}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in (tmp_path, tmp_path / "rows.jsonl"):
        path.chmod(0o755)  # the container's user is not the test's
    command = ("run", "--rm", "-T", "-v", f"{tmp_path}:/rows:ro", "evaluate", "selector", "--data", "/rows", "--json")
    found = json.loads(stack(*command))
    assert (found["n"], found["accuracy"]) == (2, 1.0)


def test_services_told_to_stop_end_by_themselves(stack):
    stack("stop", *SERVICES)
    codes = {c["Config"]["Labels"]["com.docker.compose.service"]: c["State"]["ExitCode"] for c in stack.containers()}
    assert {name: codes[name] for name in SERVICES} == dict.fromkeys(SERVICES, 0)
