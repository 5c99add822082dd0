"""The job that composes adapters, and what its parts are made of."""

import pytest
from pydantic import ValidationError

from shared.contracts.compose import AdapterCompose, AdapterPart, check_distinct
from shared.contracts.manifests import AdapterManifest
from shared.contracts.training import parse_training
from shared.contracts.training_tasks import AdapterTrain
from shared.errors import Invalid

BODY = {"kind": "adapter.compose", "label": "law.qa", "parts": [{"adapter": "a.a"}, {"adapter": "b.b@2"}]}


def part(ref="", digest="d", within=()):
    return AdapterPart(ref=ref, digest=digest * 64, within=tuple(one * 64 for one in within))


def test_its_arms_are_base_parts_composition_and_for_a_merged_one_the_exact_sum():
    assert parse_training({**BODY, "dataset": "rows"}).arms == 4
    assert parse_training({**BODY, "dataset": "rows", "method": "svd", "rank": 8}).arms == 5


@pytest.mark.parametrize("count", [0, 1, 9])
def test_one_part_or_more_than_eight_are_no_composition(count):
    parts = [{"adapter": f"a.b{number}"} for number in range(count)]
    with pytest.raises(ValidationError, match="name 2 to 8 parts"):
        AdapterCompose.model_validate({**BODY, "parts": parts, "unjudged": True})


@pytest.mark.parametrize("weight", [0, -1, 11])
def test_a_weight_is_above_zero_and_at_most_ten(weight):
    with pytest.raises(ValidationError):
        AdapterCompose.model_validate({
            **BODY, "unjudged": True, "parts": [{"adapter": "a.a", "weight": weight}, {"adapter": "b.b"}],
        })  # fmt: skip


@pytest.mark.parametrize("density", [0, -0.1, 1.01, float("nan")])
def test_a_density_is_above_zero_and_at_most_one(density):
    with pytest.raises(ValidationError, match="density"):
        AdapterCompose.model_validate({**BODY, "unjudged": True, "method": "ties", "rank": 4, "density": density})


def test_the_usual_density_is_half():
    body = {**BODY, "unjudged": True, "method": "ties", "rank": 4}
    assert AdapterCompose.model_validate(body).kept_density == 0.5
    assert AdapterCompose.model_validate({**body, "density": 1}).kept_density == 1


def test_dora_is_not_trained_over_an_adapter():
    with pytest.raises(ValidationError, match="train with lora, rslora or pissa"):
        AdapterTrain(label="law.qa", dataset="d", on="law.texts", settings={"method": "dora"})
    for method in ("lora", "rslora", "pissa", "qlora"):
        AdapterTrain(label="law.qa", dataset="d", on="law.texts", settings={"method": method})


def test_what_counts_twice_is_refused_with_what_to_name_in_its_place():
    check_distinct([part("a.a@1", "a"), part("b.b@1", "b", within="cd")])
    within_b = f"a.a@1 is within b.b@1 already: leave it out, or name what else b.b@1 is made of ({'c' * 64})"
    for parts, said in (
        ([part("a.a@1", "a"), part("b.b@1", "a")], "b.b@1 has the weights of a part before it: name it once"),
        ([part("a.a@1", "a"), part("b.b@1", "b", within="ac")], within_b),
        ([part("b.b@1", "b", within="ac"), part("a.a@1", "a")], within_b),
        ([part("a.a@1", "a", within="cd"), part("b.b@1", "b", within="ce")], f"both made of {'c' * 64}: name their"),
    ):
        with pytest.raises(Invalid) as caught:
            check_distinct(parts)
        assert caught.value.code == "compose_part_twice"
        assert said in caught.value.detail


def test_a_stored_manifest_without_parts_is_read_as_before():
    stored = '{"tenant_id":"t","label":"a.b","version":1,"digest":"d","base_model":"x"}'
    assert AdapterManifest.model_validate_json(stored).parts == ()
