"""What is stored keeps its names, whatever the code calls them."""

import hashlib
import json

import pytest

from shared.contracts.labels import STORED as STORED_FORM
from shared.contracts.manifests import BaseModelManifest, Release
from shared.contracts.training_settings import LoraSettings

STORED = (
    '{"tenant_id":"default","base_model":"tiny","labels":{"fin.sa":{"adapter":"a","ref":"fin.sa@1","group":"fin",'
    '"template":"chatml","instruction":""}},"selector":{"light":"l","llm":"m","labels":["fin.sa"],"sure":0.8,'
    '"floor":0.1},"verdict":{"passed":true,"reasons":[]},"created_at":"2026-11-01T00:00:00+00:00"}'
)


def test_a_release_from_before_the_thresholds_were_renamed_has_its_id_and_its_fields():
    release = Release.model_validate_json(STORED)
    assert release.id == "rel_66bca7f8103e8149"
    assert (release.selector.cascade_threshold, release.selector.conformal_threshold) == (0.8, 0.1)
    assert {"sure", "floor"} < set(release.model_dump(mode="json")["selector"])


def test_a_release_names_its_base_models_manifest_and_one_that_names_none_keeps_its_id():
    stored = Release.model_validate_json(STORED)
    assert stored.base_manifest == ""
    assert Release.model_validate({**stored.model_dump(mode="json"), "base_manifest": ""}).id == stored.id
    named = stored.model_copy(update={"base_manifest": "d" * 64})
    assert named.id != stored.id
    assert Release.model_validate_json(named.model_dump_json()) == named


def test_a_release_with_labels_of_one_word_is_stored_as_before_and_keeps_its_id():
    stored = STORED.replace("fin.sa", "default.support")
    release = Release.model_validate_json(stored)
    assert (
        release.id == f"rel_{hashlib.sha256(json.dumps(json.loads(stored), sort_keys=True).encode()).hexdigest()[:16]}"
    )
    assert list(release.labels) == list(release.selector.labels) == ["support"]
    assert release.labels["support"].ref == "support@1"
    assert release == Release.model_validate_json(release.model_dump_json(context=STORED_FORM))
    assert release.id == Release.model_validate_json(release.model_dump_json()).id


def test_a_base_model_from_before_manifests_had_versions_is_read():
    stored = BaseModelManifest.model_validate_json('{"id":"a82e","shapes":{"layers.0.q_proj":[2,4]}}')
    assert stored.shapes == {"layers.0.q_proj": (2, 4)}
    assert stored.digest == stored.model_copy(update={"name": "tiny", "created_at": "2026-11-01"}).digest
    assert stored.digest != stored.model_copy(update={"context_length": 1024}).digest


def base_of(*names):
    shapes = {f"model.layers.0.{name}": (4, 4) for name in names}
    return BaseModelManifest(id="a82e", shapes=shapes, usual_template="model")


LLAMA = base_of("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj")
PHI3 = base_of("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj")


@pytest.mark.parametrize(
    ("base", "given", "settled"),
    [
        (LLAMA, {}, {"template": "model"}),
        (LLAMA, {"template": "chatml", "rank": 4}, {"template": "chatml", "rank": 4}),
        (PHI3, {}, {"template": "model", "target_modules": ("o_proj", "qkv_proj")}),
        (PHI3, {"target_modules": ("q_proj",)}, {"template": "model", "target_modules": ("q_proj",)}),
        (PHI3, {"target_modules": "all-linear"}, {"template": "model", "target_modules": "all-linear"}),
        (base_of("fc"), {}, {"template": "model"}),
    ],
)
def test_what_a_training_leaves_open_is_what_is_usual_on_the_base_model(base, given, settled):
    assert base.settled(LoraSettings(**given)) == LoraSettings(**settled)
