"""Every number, text and list that the API takes is bounded: read from its own description, so none is forgotten."""

import pytest

from services.api.app import create_app
from shared.settings import Settings

NUMBER, SIMPLE = {"integer", "number"}, {"boolean", "null"}


@pytest.fixture(scope="module")
def document():
    return create_app(Settings()).openapi()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def taken(document):
    """Schemas of all that a client sends, by where it sends it."""
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            yield f"{name} {parameter['in']} {parameter['name']}", parameter["schema"]
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{name} {media_type}", content["schema"]


class Walk:
    """Finds what has no upper bound in a schema and in all that it refers to."""

    def __init__(self, document):
        self._parts = document["components"]["schemas"]
        self._seen = set()
        self.unbounded = []

    def look(self, where, schema):
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name not in self._seen:
                self._seen.add(name)
                self.look(name, self._parts[name])
            return
        for word in ("anyOf", "oneOf", "allOf"):
            for one in schema.get(word, ()):
                self.look(where, one)
        if not {"anyOf", "oneOf", "allOf", "enum", "const"} & set(schema):
            self._check(where, schema)

    def _check(self, where, schema):
        kind = schema.get("type")
        if kind in NUMBER:
            low, high = ({"minimum", "exclusiveMinimum"} & set(schema), {"maximum", "exclusiveMaximum"} & set(schema))
            self._demand(where, low and high, "number")
        elif kind == "string":
            self._demand(where, "maxLength" in schema or schema.get("format") == "binary", "string")
        elif kind == "array":
            self._demand(where, "maxItems" in schema, "array")
            for one in (*schema.get("prefixItems", ()), *([schema["items"]] if "items" in schema else ())):
                self.look(f"{where}[]", one)
        elif kind == "object":
            self._object(where, schema)
        elif kind not in SIMPLE:
            self._demand(where, False, "anything at all")

    def _object(self, where, schema):
        for name, one in schema.get("properties", {}).items():
            self.look(f"{where}.{name}", one)
        others = schema.get("additionalProperties", True)
        if others is False:
            return
        self._demand(where, "maxProperties" in schema, "object")
        names = schema.get("propertyNames", {})
        if names:
            self.look(f"{where}.*", {"type": "string", **names})
        if isinstance(others, dict):
            self.look(f"{where}.*", others)

    def _demand(self, where, holds, what):
        if not holds:
            self.unbounded.append(f"{where}: {what}")


def unbounded(document, schemas):
    walk = Walk(document)
    for where, schema in schemas:
        walk.look(where, schema)
    return walk.unbounded


def test_nothing_that_a_client_sends_is_without_a_bound(document):
    assert unbounded(document, taken(document)) == []


BOUNDED = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "maxLength": 5},
        "number": {"anyOf": [{"type": "integer", "minimum": 0, "exclusiveMaximum": 9}, {"type": "null"}]},
        "list": {"type": "array", "maxItems": 2, "items": {"enum": ["a", "b"]}},
        "map": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "boolean"}},
    },
}


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("text", {"type": "string"}),
        ("number", {"type": "number", "minimum": 0}),
        ("number", {"anyOf": [{"type": "integer", "maximum": 0}, {"type": "null"}]}),
        ("list", {"type": "array", "items": {"type": "boolean"}}),
        ("list", {"type": "array", "maxItems": 2, "items": {"type": "string"}}),
        ("map", {"type": "object", "additionalProperties": {"type": "boolean"}}),
        ("map", {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "string"}}),
        ("map", {"type": "object", "maxProperties": 2, "additionalProperties": {}}),
        ("map", {"type": "object", "properties": {}}),
        ("any", {}),
    ],
)
def test_the_walk_finds_each_kind_of_missing_bound(name, schema):
    empty = {"components": {"schemas": {"Body": BOUNDED}}}
    assert unbounded(empty, [("x", {"$ref": "#/components/schemas/Body"})]) == []
    broken = {**BOUNDED, "properties": {**BOUNDED["properties"], name: schema}}
    assert unbounded(empty, [("x", broken)]) != []
