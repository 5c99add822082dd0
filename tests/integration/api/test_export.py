"""`GET /v1/adapters/{ref}/export`: what leaves is what PEFT loads, what the hub reads, and what comes back the same."""

import io
import json
import tarfile

import httpx
import pytest
from huggingface_hub import ModelCard

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, BaseShapes, adapter_digest
from shared.contracts.manifests import AdapterManifest
from tests.support.adapter_samples import BASE, CONFIG, archive, lora_tensors, safetensors, upload
from tests.support.api import code


def unpacked(content, folder):
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(folder, filter="data")
    (only,) = folder.iterdir()
    return only


async def export(client, ref="fin.sa@1"):
    answer = await client.get(f"/v1/adapters/{ref}/export")
    assert answer.status_code == 200, answer.text
    return answer


async def test_what_is_exported_comes_back_with_the_same_digest(api, base, tmp_path):
    stored = (await upload(api["train"], archive(weights=safetensors(lora_tensors(), fill=0.25)))).json()
    answer = await export(api["train"])
    assert answer.headers["content-disposition"] == 'attachment; filename="fin.sa@1.tar"'
    assert int(answer.headers["content-length"]) == len(answer.content)
    folder = unpacked(answer.content, tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", CONFIG_NAME, WEIGHTS_NAME]
    again = (await upload(api["train"], answer.content, label="fin.ha")).json()
    assert (again["digest"], again["ref"]) == (stored["digest"], "fin.ha@1")
    assert (await export(api["train"])).content == answer.content


async def test_a_normalised_adapter_leaves_as_it_is_served(api, base, tmp_path):
    sent = {**CONFIG, "auto_mapping": {"unsloth_fixed": True}, "rank_pattern": {".*q_proj": 2}}
    stored = (await upload(api["train"], archive(sent))).json()
    content = (await export(api["train"])).content
    config = json.loads((unpacked(content, tmp_path) / CONFIG_NAME).read_text())
    assert (config["rank_pattern"], "auto_mapping" in config) == ({}, False)
    assert (await upload(api["train"], content, label="fin.ha")).json()["digest"] == stored["digest"]


async def test_peft_loads_what_is_exported(api, base, store, tiny_folder, tmp_path):
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    from shared.model.base import load_model

    shapes = BaseShapes.from_folder(tiny_folder)
    store.put("base/tiny.json", json.dumps({"id": "tiny", "shapes": shapes.to_dict()}).encode())
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    trained = get_peft_model(load_model(tiny_folder, "float32", device="cpu"), config)
    for name, weight in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    trained.save_pretrained(tmp_path / "trained")
    sent = {name: (tmp_path / "trained" / name).read_bytes() for name in (CONFIG_NAME, WEIGHTS_NAME)}
    stored = (await upload(api["train"], archive(json.loads(sent[CONFIG_NAME]), sent[WEIGHTS_NAME]))).json()
    folder = unpacked((await export(api["train"])).content, tmp_path / "exported")
    assert adapter_digest(folder) == stored["digest"]
    loaded = PeftModel.from_pretrained(load_model(tiny_folder, "float32", device="cpu"), folder)
    tokens = torch.arange(8)[None]
    assert torch.equal(loaded(input_ids=tokens).logits, trained.eval()(input_ids=tokens).logits)


async def test_its_card_is_one_that_the_hub_reads(api, base, store, tmp_path):
    store.put("base/tiny.json", json.dumps({"id": "tiny", "name": "org/Tiny-1B", "shapes": BASE.to_dict()}).encode())
    await upload(api["train"], archive(), instruction="Is it <b>good</b>?\n# No heading", template="plain")
    folder = unpacked((await export(api["train"], "fin.sa")).content, tmp_path)
    card = ModelCard.load(folder / "README.md")
    assert (card.data.base_model, card.data.library_name) == ("org/Tiny-1B", "peft")
    assert (card.data.license, card.data.pipeline_tag) == ("unknown", "text-generation")
    assert {"base_model:adapter:org/Tiny-1B", "lora"} <= set(card.data.tags)
    assert "Its licence is unknown" in card.text
    assert "\n    Is it <b>good</b>?\n    # No heading\n" in card.text, "an instruction is quoted, not markup"
    assert "| prompt template | plain |" in card.text


async def test_the_card_says_what_it_was_trained_on_and_how_good_it_is(api, base, registry, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / CONFIG_NAME).write_text(json.dumps(CONFIG))
    (folder / WEIGHTS_NAME).write_bytes(safetensors(lora_tensors()))
    measured = {"dataset": "ds_1", "train_rows": 32, "base_exact_match": 0.25, "adapter_exact_match": 0.75}
    made = {"label": "fin.sa", "version": 0, "digest": "", "base_model": "gone", "made_by": "job_1"}
    registry.adapters.add(folder, AdapterManifest(tenant_id="default", report=measured, **made))
    text = (unpacked((await export(api["train"])).content, tmp_path / "out") / "README.md").read_text()
    assert "Trained on 32 rows of the data set `ds_1`." in text
    assert "| answers that match exactly, with the adapter | 0.75 |" in text
    assert "by the training job job\\_1" in text
    assert "base_model:" not in text.partition("\n# ")[0], "of a base model that is gone no name is known"


async def test_who_may_not_train_takes_no_weights_away(api, base):
    await upload(api["train"], archive())
    assert code(await api["submit"].get("/v1/adapters/fin.sa@1/export"), 403) == "scope_missing"
    assert code(await api["other"].get("/v1/adapters/fin.sa@1/export"), 404) == "adapter_not_found"


@pytest.mark.parametrize("size", [1, 3 << 20], ids=["one piece", "several pieces"])
async def test_weights_that_are_not_what_their_digest_says_do_not_leave_whole(api, base, registry, store, size):
    stored = (await upload(api["train"], archive())).json()
    store.put(f"adapters/{stored['digest']}/{WEIGHTS_NAME}", b"x" * size)
    if size == 1:
        assert code(await api["train"].get("/v1/adapters/fin.sa@1/export"), 503) == "adapter_corrupt"
        return
    with pytest.raises(httpx.RemoteProtocolError):
        await api["train"].get("/v1/adapters/fin.sa@1/export")
