"""`signalbox gpu plan` against a real API, and the promotion of what a group's servers would refuse."""

import asyncio
import io
import json
import zipfile

import pytest
import yaml

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.contracts.manifests import BaseModelManifest
from shared.ledger import calls
from tests.support.adapter_samples import CONFIG, lora_tensors, safetensors
from tests.support.api import code
from tests.support.gpu_plans import manifest
from tests.support.source import ROOT


async def upload(client, label, rank=2, *, dora=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(CONFIG_NAME, json.dumps({**CONFIG, "r": rank, "use_dora": dora}))
        file.writestr(WEIGHTS_NAME, safetensors(lora_tensors(rank, dora)))
    answer = await client.post("/v1/adapters", data={"label": label}, files={"file": ("a.zip", out.getvalue())})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def edited(client, **adapters):
    added = {label.replace("_", "."): ref for label, ref in adapters.items()}
    answer = await client.post("/v1/releases/edit", json={"add": added})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def serve(ledger, owner, *groups, **told):
    """A worker of these groups, whose server takes so much of adapters."""
    queues = [f"generate.{group}" for group in groups]
    info = {"base_model": "tiny", **({"lora": told} if told else {})}
    ledger.do(calls.heartbeat(owner, [*queues, *(f"{queue}@tiny" for queue in queues)], [], info, 60))


@pytest.fixture
async def candidate(api, base, admin, ledger):
    """A release with an adapter of rank 2 in `fin` and one of rank 24 in `med`; workers of all its groups."""
    await upload(api["train"], "fin.sa")
    await upload(api["train"], "med.qa", 24)
    for name in ("worker", "any"):
        ledger.do(calls.leave_queues(name, ["generate.fin", "generate.fin@tiny"]))
    serve(ledger, "base", "base")
    return await edited(admin, fin_sa="fin.sa@1", med_qa="med.qa@1")


async def test_a_release_above_what_the_servers_of_a_group_take_is_refused_with_the_command_that_helps(
    admin, ledger, candidate
):
    serve(ledger, "fin", "fin", max_rank=8, dora=False)
    serve(ledger, "med", "med", max_rank=16, dora=False)
    refused = await admin.post(f"/v1/releases/{candidate}/promote")
    assert code(refused, 409) == "adapter_above_server"
    said = refused.json()["detail"]
    assert "the vLLM server of generate.med was started with --max-lora-rank 16, and med.qa@1 is rank 24" in said
    assert f"`signalbox gpu plan --release {candidate} --cards N --write compose`" in said
    serve(ledger, "med", "med", max_rank=32, dora=False)
    assert (await admin.post(f"/v1/releases/{candidate}/promote")).status_code == 200


async def test_one_small_server_among_several_of_a_group_is_enough_to_refuse_and_force_goes_past_it(
    admin, ledger, candidate
):
    serve(ledger, "fin", "fin")
    serve(ledger, "med-large", "med", max_rank=64, dora=False)
    serve(ledger, "med-small", "med", max_rank=16, dora=False)
    assert code(await admin.post(f"/v1/releases/{candidate}/promote"), 409) == "adapter_above_server"
    assert (await admin.post(f"/v1/releases/{candidate}/promote", json={"force": True})).status_code == 200


async def test_workers_that_say_nothing_of_ranks_and_those_of_another_base_model_refuse_nothing(
    admin, ledger, candidate
):
    serve(ledger, "fin", "fin", max_rank=0, dora=False)
    serve(ledger, "med", "med")
    other = {"base_model": "another", "lora": {"max_rank": 8, "dora": False}}
    ledger.do(calls.heartbeat("another", ["generate.med", "generate.med@another"], [], other, 60))
    assert (await admin.post(f"/v1/releases/{candidate}/promote")).status_code == 200


async def test_a_worker_of_any_group_counts_for_the_groups_that_it_would_take_up(admin, ledger, candidate):
    serve(ledger, "any", "*", "base", max_rank=16, dora=False)
    assert code(await admin.post(f"/v1/releases/{candidate}/promote"), 409) == "adapter_above_server"


async def test_a_dora_is_refused_by_servers_of_whatever_rank(api, base, admin, ledger):
    await upload(api["train"], "fin.sa", dora=True)
    serve(ledger, "all", "fin", "base", max_rank=512, dora=False)
    ledger.do(calls.leave_queues("worker", ["generate.fin", "generate.fin@tiny"]))
    refused = await admin.post(f"/v1/releases/{await edited(admin, fin_sa='fin.sa@1')}/promote")
    assert code(refused, 409) == "adapter_above_server"
    assert "fin.sa@1 is a DoRA, which vLLM does not serve: train it as LoRA" in refused.json()["detail"]


async def run(command, *words):
    process = command("gpu", "plan", *words)
    out, said = await asyncio.to_thread(process.communicate)
    return process.returncode, out, said


@pytest.fixture
def large(registry, base):
    """The base model's pin stands for one of 7 billion numbers, whose layers are other than the adapters'."""
    registry.base_models.publish(BaseModelManifest(**manifest(id="large")))


async def test_a_plan_is_a_table_of_at_most_80_columns_and_json_for_machines(api, command, candidate):
    status, out, _ = await run(command, "--cards", "4", "--release", candidate)
    assert status == 0
    head, _, columns, *rows = out.splitlines()
    assert head == f"{candidate} of tiny (0.0 GiB) on 4 x 80 GiB"
    assert columns.split("\t") == ["server", "groups", "cards", "adapters", "slots", "rank", "cache", "requests"]
    assert [row.split("\t")[:2] for row in rows[:3]] == [["fin", "fin"], ["med", "med"], ["base", "base"]]
    assert all(len(line.expandtabs(2)) <= 80 for line in out.splitlines())
    _, out, _ = await run(command, "--cards", "4", "--release", candidate, "--json")
    plan = json.loads(out)
    assert (plan["release"], plan["fits"], plan["problems"]) == (candidate, True, [])
    assert {server["name"]: server["max_lora_rank"] for server in plan["servers"]} == {"fin": 8, "med": 32, "base": 8}


async def test_without_a_release_the_newest_adapter_of_each_label_is_planned_for(api, command, base):
    await upload(api["train"], "fin.sa", 2)
    await upload(api["train"], "fin.sa", 20)
    status, out, _ = await run(command, "--cards", "2", "--json")
    plan = json.loads(out)
    assert (status, plan["release"]) == (0, None)
    (server,) = plan["servers"]
    assert (server["groups"], server["adapters"], server["max_lora_rank"]) == (["fin", "base"], 1, 32)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--cards", "0"], 2, "cards"),
        (["--cards", "2", "--memory-gib", "0"], 2, "memory-gib"),
        (["--cards", "2", "--release", "rel_none"], 1, "no release 'rel_none'"),
        (["--cards", "2", "--tensor-parallel", "4"], 1, "cards_invalid"),
        (["--cards", "2", "--write", "helm"], 2, "helm"),
        (["--cards", "2", "--write", "compose"], 1, "docker-compose.yml is not here"),
        (["--cards", "2", "--write", "k8s"], 1, "is not here"),
    ],
)
async def test_what_cannot_be_planned_or_written_is_said(command, base, words, status, said):
    code_, out, error = await run(command, *words)
    assert (code_, said in out + error) == (status, True), out + error


async def test_without_any_worker_the_way_to_a_base_model_is_said(command):
    status, _, error = await run(command, "--cards", "2")
    assert (status, "start the system once" in error) == (1, True)


async def test_what_does_not_fit_is_said_ends_with_status_1_and_writes_nothing(
    api, command, admin, ledger, registry, large, tmp_path
):
    ledger.do(calls.leave_queues("worker", ["generate.fin", "generate.fin@tiny"]))
    ledger.do(calls.heartbeat("large", ["generate.base", "generate.base@large"], [], {}, 60))
    (tmp_path / "docker-compose.yml").write_text((ROOT / "docker-compose.yml").read_text())
    status, out, _ = await run(command, "--cards", "1", "--memory-gib", "12", "--write", "compose")
    assert (status, "it needs 2 of 12 GiB" in out) == (1, True)
    assert not (tmp_path / "docker-compose.vllm.yml").exists()
    status, out, _ = await run(command, "--cards", "3", "--memory-gib", "12")
    assert (status, "add --tensor-parallel 2" in out) == (1, True)
    status, out, said = await run(
        command, "--cards", "3", "--memory-gib", "12", "--tensor-parallel", "2", "--write", "compose"
    )
    assert (status, "docker compose -f docker-compose.yml -f docker-compose.vllm.yml up" in said) == (0, True)
    services = yaml.safe_load((tmp_path / "docker-compose.vllm.yml").read_text())["services"]
    assert "--tensor-parallel-size 2" in services["vllm-base"]["command"]


async def test_a_file_that_no_plan_wrote_is_left_alone(command, base, tmp_path):
    (tmp_path / "docker-compose.yml").write_text((ROOT / "docker-compose.yml").read_text())
    own = tmp_path / "docker-compose.vllm.yml"
    own.write_text("# mine\nservices: {}\n")
    status, _, said = await run(command, "--cards", "2", "--write", "compose")
    assert (status, "was not written by a plan" in said) == (1, True)
    assert own.read_text() == "# mine\nservices: {}\n"


async def test_a_base_model_is_shown_by_its_pin(api, base):
    shown = (await api["submit"].get("/v1/base-models/tiny")).json()
    assert (shown["id"], len(shown["shapes"]), shown["weight_bytes"]) == ("tiny", 4, 0)
    assert code(await api["submit"].get("/v1/base-models/none"), 404) == "base_model_not_found"
    assert (await api["submit"].get("/v1/base-models/..%2Fx")).status_code in (404, 422)
