"""What may bound an answer, and what of it outlives a store."""

import json

import pytest
from pydantic import ValidationError

from shared.contracts.constraints import MAX_CHOICES, MAX_REGEX_CHARS, MAX_SCHEMA_CHARS, Constraint
from shared.contracts.generation_params import GenerationParams
from shared.contracts.manifests import AdapterManifest, ReleaseLabel
from tests.support.api import make_release

SCHEMA = {"type": "object", "properties": {"b": {"const": None}, "a": {"type": "integer"}}}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"regex": "a", "choices": ["a"]},
        {"json_object": False},
        {"choices": []},
        {"choices": [""]},
        {"choices": [str(n) for n in range(MAX_CHOICES + 1)]},
        {"choices": ["x" * 1000] * 51},
        {"regex": "a" * (MAX_REGEX_CHARS + 1)},
        {"json_schema": {"enum": ["a" * MAX_SCHEMA_CHARS]}},
        {"json_schema": [1]},
        {"json_schema": "[1]"},
        {"json_schema": "no JSON"},
        {"grammar": ""},
        {"lark": "start: A"},
    ],
)
def test_what_is_none_or_several_or_too_large_is_refused(given):
    with pytest.raises(ValidationError):
        Constraint(**given)


def test_a_schema_keeps_its_order_and_its_nulls_through_every_store():
    given = Constraint(json_schema=SCHEMA)
    stored = json.loads(json.dumps(GenerationParams(constraint=given).model_dump(mode="json", exclude_none=True)))
    found = GenerationParams.model_validate(stored).constraint
    assert json.loads(found.json_schema) == SCHEMA
    assert list(json.loads(found.json_schema)["properties"]) == ["b", "a"]
    assert (found, found.digest, found.kind) == (given, given.digest, "json_schema")


def test_a_schema_that_is_nested_too_deeply_is_refused():
    deep = {}
    for _ in range(100_000):
        deep = {"items": deep}
    with pytest.raises(ValidationError, match="too deeply"):
        Constraint(json_schema=deep)


def test_different_constraints_have_different_digests():
    assert Constraint(regex="a").digest != Constraint(grammar="a").digest


def test_manifests_from_before_constraints_are_read_and_releases_keep_their_ids():
    fields = {"tenant_id": "t", "label": "a.b", "version": 1, "digest": "d", "base_model": "m"}
    assert AdapterManifest(**fields).constraint is None
    release = make_release()
    bound = release.labels["fin.sa"].model_copy(update={"constraint": Constraint(choices=("a", "b"))})
    assert '"constraint"' not in json.dumps(release.model_dump(mode="json", exclude_defaults=True))
    assert release.model_copy(update={"labels": {**release.labels, "fin.sa": bound}}).id != release.id
    assert ReleaseLabel.model_validate(bound.model_dump(mode="json")) == bound
