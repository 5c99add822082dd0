"""`/v1/templates`: operators add them, nobody else does; what is named stays."""

import hashlib
import io
import json
import zipfile

import pytest

from shared.contracts.manifests import AdapterManifest, BaseModelManifest
from shared.contracts.rows import Row
from shared.ledger import calls
from tests.support.adapter_samples import BASE, CONFIG, lora_tensors, safetensors
from tests.support.api import code, make_release

JINJA = "{% for m in messages %}<|turn|>{{ m.content }}<|done|>{% endfor %}"
HOUSE = {"name": "house", "jinja": JINJA, "controls": ["<|turn|>", "<|done|>"], "end": "<|done|>"}


def archive():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("adapter_config.json", json.dumps(CONFIG))
        file.writestr("adapter_model.safetensors", safetensors(lora_tensors()))
    return out.getvalue()


def upload(client, **fields):
    return client.post("/v1/adapters", data={"label": "fin.sa", **fields}, files={"file": ("a.zip", archive())})


@pytest.fixture
def known_base(base, registry):
    """The base model with its vocabulary noted, and a chat template."""
    registry.base_models.publish(
        BaseModelManifest(
            id="tiny",
            shapes=dict(BASE.modules),
            control_tokens=("<|im_start|>", "<|im_end|>"),
            chat_template=hashlib.sha256(b"own").hexdigest(),
        )
    )


async def test_an_administrator_adds_a_template_and_everybody_sees_it(api):
    answer = await api["admin"].post("/v1/templates", json=HOUSE)
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/templates/house")
    shown = (await api["submit"].get("/v1/templates/house")).json()
    assert shown == answer.json()
    assert (shown["jinja"], shown["built_in"], len(shown["digest"])) == (JINJA, False, 64)
    names = [item["name"] for item in (await api["submit"].get("/v1/templates")).json()["items"]]
    assert names == ["chatml", "plain", "alpaca", "llama3", "gemma", "mistral", "zephyr", "phi", "model", "house"]
    assert (await api["admin"].post("/v1/templates", json=HOUSE)).status_code == 201


async def test_nobody_else_adds_or_deletes_one(api):
    assert code(await api["train"].post("/v1/templates", json=HOUSE), 403) == "scope_missing"
    assert code(await api["train"].delete("/v1/templates/house"), 403) == "scope_missing"


async def test_a_name_means_one_template(api):
    await api["admin"].post("/v1/templates", json=HOUSE)
    other = {**HOUSE, "jinja": JINJA.replace("turn", "user"), "controls": []}
    assert code(await api["admin"].post("/v1/templates", json=other), 409) == "template_exists"
    assert code(await api["admin"].post("/v1/templates", json={**HOUSE, "name": "chatml"}), 409) == "template_exists"


async def test_a_malformed_template_is_refused(api):
    for wrong in ({**HOUSE, "name": "A b"}, {**HOUSE, "user": {"before": "x"}}, {**HOUSE, "color": 1}, {}):
        assert code(await api["admin"].post("/v1/templates", json=wrong), 422) == "request_invalid"
    assert code(await api["submit"].get("/v1/templates/none"), 404) == "template_not_found"


async def test_a_template_that_is_named_stays(api, registry):
    await api["admin"].post("/v1/templates", json=HOUSE)
    manifest = AdapterManifest(
        tenant_id="default", label="fin.sa", version=1, digest="d" * 64, base_model="tiny", template="house"
    )
    registry.adapters._records.add("default", manifest.ref, manifest)
    answer = await api["admin"].delete("/v1/templates/house")
    assert code(answer, 409) == "template_in_use"
    assert "adapter fin.sa@1" in answer.json()["detail"]
    registry.adapters.remove(manifest)
    release = make_release()
    entry = release.labels["fin.sa"].model_copy(update={"template": "house"})
    named = release.model_copy(update={"labels": {**release.labels, "fin.sa": entry}})
    registry.releases._records.add("default", named.id, named)
    answer = await api["admin"].delete("/v1/templates/house")
    assert f"release {named.id} names 'house'" in answer.json()["detail"]
    registry.releases._records.remove("default", named.id, named)
    assert (await api["admin"].delete("/v1/templates/house")).status_code == 204
    assert code(await api["admin"].delete("/v1/templates/chatml"), 409) == "template_built_in"


async def test_an_upload_names_a_template_that_fits_the_base_model(api, known_base):
    await api["admin"].post("/v1/templates", json=HOUSE)
    for name in ("llama3", "house"):
        answer = await upload(api["train"], template=name)
        assert code(answer, 422) == "template_tokens_missing"
        assert f"template '{name}' writes" in answer.json()["detail"]
    for name in ("chatml", "alpaca", "model"):
        assert (await upload(api["train"], template=name)).json()["template"] == name
    assert code(await upload(api["train"], template="vicuna"), 422) == "template_unknown"


async def test_what_names_no_template_gets_the_base_models_usual_one(api, base, registry, ledger):
    tokens = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    registry.base_models.publish(
        BaseModelManifest(id="tiny", shapes=dict(BASE.modules), control_tokens=tokens, usual_template="llama3")
    )
    registry.datasets.add("default", "rows", [Row(input=f"a {n}", output="b") for n in range(8)])
    assert (await upload(api["train"])).json()["template"] == "llama3"
    assert (await upload(api["train"], template="plain", label="fin.ha")).json()["template"] == "plain"
    body = {"kind": "adapter.train", "label": "fin.sa", "dataset": "rows", "settings": {"target_modules": ["q_proj"]}}
    job = (await api["train"].post("/v1/training/jobs", json=body)).json()["id"]
    assert ledger.do(calls.get(job)).body["settings"]["template"] == "llama3"


async def test_a_base_model_without_a_chat_template_has_no_template_of_its_own(api, base, registry):
    registry.base_models.publish(BaseModelManifest(id="tiny", shapes=dict(BASE.modules), control_tokens=("<s>",)))
    assert code(await upload(api["train"], template="model"), 422) == "template_missing"


async def test_a_folders_chat_template_is_named_and_never_run(api, known_base):
    own, house, other = (hashlib.sha256(text).hexdigest() for text in (b"own", JINJA.encode(), b"{{ 1 / 0 }}"))
    await api["admin"].post("/v1/templates", json=HOUSE)
    for sha256, name, label in ((own, "model", "fin.sa"), (house, "house", "fin.ha"), (other, None, "med.qa")):
        answer = await upload(api["train"], chat_template=sha256, label=label)
        assert answer.json()["info"]["chat_template"] == {"sha256": sha256, "template": name}
    assert code(await upload(api["train"], chat_template="{{ x }}"), 422) == "request_invalid"


async def test_a_training_names_a_template_that_is_there_and_fits(api, known_base, registry):
    registry.datasets.add("default", "rows", [Row(input=f"a {n}", output="b") for n in range(8)])
    body = {"kind": "adapter.train", "label": "fin.sa", "dataset": "rows"}
    for name, refusal in (("vicuna", "template_unknown"), ("gemma", "template_tokens_missing")):
        answer = await api["train"].post("/v1/training/jobs", json={**body, "settings": {"template": name}})
        assert code(answer, 422) == refusal


async def test_an_upload_with_examples_queues_the_check_of_its_template(api, known_base, registry):
    registry.datasets.add("default", "rows", [Row(input="a", output="b")])
    assert code(await upload(api["train"], examples="none"), 404) == "dataset_not_found"
    assert registry.adapters.list_all("default") == []
    answer = (await upload(api["train"], examples="rows")).json()
    job = (await api["train"].get(f"/v1/training/jobs/{answer['check']}")).json()
    assert (job["request"]["kind"], job["request"]["adapter"]) == ("adapter.check", "fin.sa@1")


async def test_a_check_names_an_adapter_that_is_there(api, known_base, registry):
    registry.datasets.add("default", "rows", [Row(input="a", output="b")])
    body = {"kind": "adapter.check", "adapter": "fin.sa", "dataset": "rows"}
    assert code(await api["train"].post("/v1/training/jobs", json=body), 404) == "adapter_not_found"
    await upload(api["train"])
    accepted = await api["train"].post("/v1/training/jobs", json=body)
    assert accepted.status_code == 202
    job = (await api["train"].get(f"/v1/training/jobs/{accepted.json()['id']}")).json()
    assert job["trains"] == {"kind": "adapter.check", "labels": ["fin.sa"]}
    quoted = (await api["train"].post("/v1/training/jobs/estimate", json=body)).json()
    assert quoted["language_model"] == "none"
