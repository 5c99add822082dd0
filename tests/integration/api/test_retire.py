"""Adapters that are retired: announced until their date, refused by name after it."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import openai
import pytest

from shared.contracts.jobs import JobState
from shared.contracts.manifests import AdapterManifest
from shared.contracts.retirements import Retirement
from shared.registry.restore import restore
from tests.support.adapter_samples import lora_tensors, safetensors
from tests.support.api import code, make_release

FIN = "generate.fin"
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
QUESTION = [{"role": "user", "content": "did the stock rise?"}]


@pytest.fixture(autouse=True)
def _adapter(registry, release, tmp_path):
    """`fin.sa@1`, which the current release serves."""
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(safetensors(lora_tensors()))
    manifest = AdapterManifest(tenant_id="default", label="fin.sa", version=0, digest="", base_model="tiny")
    assert registry.adapters.add(tmp_path, manifest).ref == "fin.sa@1"


@pytest.fixture
async def client(api, tokens):
    async with openai.AsyncOpenAI(base_url=f"{api['url']}/v1", api_key=tokens["submit"], max_retries=0) as client:
        yield client


async def retire(admin, at=SOON):
    return await admin.post("/v1/adapters/fin.sa@1/retire", json={"at": at and at.isoformat()})


def over(registry, api):
    """Lets the date come, as this process reads it."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    registry.retirements.set(Retirement(tenant_id="default", ref="fin.sa@1", at=past))
    api["app"].state.clients.retiring.read("default")


def asking(client, worker, broker, **asked):
    """A request, and the worker that answers it."""

    def work():
        assert broker.brpop([FIN], timeout=30)
        worker.end(
            worker.next_of(FIN), JobState.SUCCEEDED, result={"text": "up", "label": "fin.sa", "adapter_ref": "fin.sa@1"}
        )

    asked = {"model": "fin.sa", "messages": QUESTION} | asked
    return asyncio.gather(
        client.chat.completions.with_raw_response.create(**asked),
        asyncio.to_thread(work),
    )


async def test_until_its_date_an_adapter_answers_with_a_warning(api, admin, client, worker, broker):
    answer = await retire(admin)
    assert (answer.status_code, answer.json()["shutdown_date"]) == (200, SOON.isoformat())
    raw, _ = await asking(client, worker, broker)
    assert parsedate_to_datetime(raw.headers["sunset"]) == SOON
    assert abs(int(raw.headers["deprecation"].removeprefix("@")) - datetime.now(UTC).timestamp()) < 60
    assert raw.parse().signalbox["shutdown_date"] == SOON.isoformat()
    raw, _ = await asking(client, worker, broker, stream=True)
    assert parsedate_to_datetime(raw.headers["sunset"]) == SOON
    for name in ("fin.sa", "fin.sa@1"):
        assert (await client.models.retrieve(name)).shutdown_date == SOON.isoformat()
    assert (await client.models.retrieve("fin.ha")).shutdown_date is None
    assert (await admin.get("/v1/adapters/fin.sa")).json()["shutdown_date"] == SOON.isoformat()
    (listed,) = (await admin.get("/v1/adapters")).json()["items"]
    assert listed["shutdown_date"] == SOON.isoformat()


async def test_an_adapter_without_a_date_warns_of_nothing(client, worker, broker):
    raw, _ = await asking(client, worker, broker)
    assert not {"sunset", "deprecation"} & set(raw.headers)
    assert raw.parse().signalbox["shutdown_date"] is None


async def test_after_its_date_no_name_of_it_is_taken_and_auto_goes_on(api, admin, client, registry, release):
    await admin.put("/v1/aliases", json={"alias": "gpt-4o-mini", "model": "fin.sa"})
    over(registry, api)
    digest = release.labels["fin.sa"].adapter
    for name in ("fin.sa", "fin.sa@1", digest, "gpt-4o-mini"):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model=name, messages=QUESTION)
        assert (caught.value.code, caught.value.param) == ("model_retired", "model")
    assert code(await admin.post("/v1/jobs", json={"input": "x", "adapter": "fin.sa@1"}), 404) == "model_retired"
    listed = {model["id"] for model in (await admin.get("/v1/models")).json()["data"]}
    assert {"auto", "base", "fin.ha"} <= listed
    assert not {"fin.sa", "fin.sa@1", "gpt-4o-mini"} & listed
    assert (await admin.post("/v1/jobs", json={"input": "x"})).status_code == 202


async def test_at_once_only_what_the_selector_does_not_choose_is_retired(api, admin, registry, release):
    now = datetime.now(UTC)
    refused = await retire(admin, now)
    assert code(refused, 409) == "adapter_routed"
    assert "releases edit --remove fin.sa" in refused.json()["detail"]
    without = make_release(("fin.ha", "med.qa"), parent=release.id)
    registry.releases.add(without)
    registry.releases.promote("default", without.id, force=True)
    await api["app"].state.clients.releases.refresh("default")
    assert (await retire(admin, now)).status_code == 200


async def test_a_retirement_is_taken_back(api, admin, registry):
    over(registry, api)
    assert (await retire(admin, None)).json()["shutdown_date"] is None
    assert (await retire(admin, None)).status_code == 200
    assert (await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).status_code == 202


async def test_it_is_restored_from_the_store(admin, registry, ledger, store):
    await retire(admin)
    ledger.redis.flushall()
    assert sum(one.retirements for one in restore(ledger.redis, store)) >= 1
    assert [one.ref for one in registry.retirements.list_all("default")] == ["fin.sa@1"]


async def test_the_command_line_retires_and_takes_back(command, admin):
    run = command("adapters", "retire", "fin.sa@1", "--at", SOON.isoformat())
    out, said = await asyncio.to_thread(run.communicate)
    assert f"shutdown_date\t{SOON.isoformat()}" in out, said
    out, _ = await asyncio.to_thread(command("adapters", "retire", "fin.sa@1", "--take-back").communicate)
    assert "shutdown_date\t-" in out
    assert (await asyncio.to_thread(command("adapters", "retire", "fin.sa@1").wait)) == 2
