"""`/v1/datasets` and `/v1/datasets/check`: files as people have them."""

import gzip
import json

import pytest

from shared.contracts.manifests import BaseModelManifest
from shared.ledger import calls
from tests.support.api import code

TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Bye"},
]
CSV = "Frage;Ablage\nWo ist die Karte?;Bank.Überweisung\nWas kostet es?;bank.fees\n".encode()
NAMED = {"columns": "input=Frage,label=Ablage"}


def upload(api, content, name="demo", **params):
    return api["train"].post("/v1/datasets", params={"name": name, **params}, content=content)


def check(api, content, **params):
    return api["train"].post("/v1/datasets/check", params=params, content=content)


async def test_an_upload_says_what_the_file_turned_out_to_be(api, registry):
    packed = gzip.compress(json.dumps([{"instruction": "Name a fish.", "input": "", "output": "eel"}]).encode())
    answer = await upload(api, packed)
    assert answer.status_code == 201
    body = answer.json()
    assert body["format"] == "gzip, JSON array: alpaca"
    assert body["notes"] == ["1 row: the instruction was taken as the input, which was empty"]
    (row,) = registry.datasets.rows("default", body["id"])
    assert (row.input, row.instruction, row.output) == ("Name a fish.", "", "eel")
    stored = (await api["train"].get("/v1/datasets/demo")).json()
    assert stored.items() <= body.items()


async def test_a_conversation_is_stored_with_all_its_turns(api, registry):
    body = (await upload(api, json.dumps({"messages": TURNS}).encode())).json()
    (row,) = registry.datasets.rows("default", body["id"])
    assert [turn.content for turn in row.messages] == ["Hi", "Hello", "And now?", "Bye"]
    assert (row.input, row.output) == ("And now?", "Bye")


async def test_labels_that_are_none_are_listed_and_stored_only_when_they_are_accepted(api, registry):
    refused = await upload(api, CSV, **NAMED)
    assert code(refused, 422) == "dataset_malformed"
    proposed = [{"given": "Bank.Überweisung", "label": "bank.ueberweisung", "rows": 1}]
    assert (refused.json()["labels"], refused.json()["errors"]) == (proposed, [])
    assert registry.datasets.list_all("default") == []
    body = (await upload(api, CSV, accept_labels="true", **NAMED)).json()
    assert body["renamed_labels"] == proposed
    assert body["labels"] == {"bank.ueberweisung": 1, "bank.fees": 1}


async def test_a_form_may_say_how_its_file_is_read(api):
    form = {"files": {"file": ("rows.csv", CSV)}, "data": {**NAMED, "accept_labels": "true"}}
    answer = await api["train"].post("/v1/datasets?name=demo", **form)
    assert (answer.status_code, answer.json()["rows"]) == (201, 2)
    form["data"]["accept_labels"] = "perhaps"
    assert code(await api["train"].post("/v1/datasets?name=demo", **form), 422) == "request_invalid"
    form["data"] = {"columns": "Frage"}
    assert code(await api["train"].post("/v1/datasets?name=demo", **form), 422) == "columns_malformed"


async def test_columns_that_are_none_are_refused_before_anything_is_read(api):
    for params in ({"columns": "Frage"}, {"columns": "x" * 2000}, {"accept_labels": "perhaps"}):
        answer = await upload(api, CSV, **params)
        assert code(answer, 422) in ("columns_malformed", "request_invalid")


async def test_wrong_lines_are_listed_up_to_a_bound(api):
    answer = (await upload(api, b'{"input": "a"}\n' + b"x\n" * 200)).json()
    assert (len(answer["errors"]), answer["wrong_rows"]) == (100, 100)
    assert answer["errors"][0] == {"line": 2, "place": "line 2", "reason": "not JSON: Expecting value at column 1"}


async def test_a_check_shows_what_would_be_trained_and_stores_nothing(api, registry):
    answer = await check(api, json.dumps({"messages": TURNS}).encode())
    assert answer.status_code == 200
    body = answer.json()
    assert (body["format"], body["rows"], body["labels"]) == ("JSON lines: messages", 1, {})
    assert [part["text"] for part in body["sample"][0] if part["learnt"]] == ["Hello", "Bye"]
    assert body["lengths"]["unit"] == "characters"
    assert sum(step["rows"] for step in body["lengths"]["histogram"]) == 1
    assert registry.datasets.list_all("default") == []


async def test_a_check_shows_rows_by_the_template_that_is_named(api):
    body = (await check(api, b'{"input": "a", "output": "b"}', template="plain")).json()
    assert [part["text"] for part in body["sample"][0]] == ["\n\na\n\n", "b"]
    assert body["template"] == "plain"
    assert code(await check(api, b'{"input": "a"}', template="jinja"), 422) == "template_unknown"


@pytest.mark.parametrize(("usual", "shown"), [("alpaca", "alpaca"), ("model", "chatml")])
async def test_a_check_names_no_template_and_gets_the_base_models_usual_one(api, registry, ledger, usual, shown):
    shapes = {"model.layers.0.self_attn.q_proj": (8, 8)}
    registry.base_models.publish(BaseModelManifest(id="odd", shapes=shapes, usual_template=usual))
    ledger.do(calls.heartbeat("worker", ["generate.base", "generate.base@odd"], [], {}, 60))
    body = (await check(api, b'{"input": "a", "output": "b"}')).json()
    assert body["template"] == shown
    assert ("### Response:" in body["sample"][0][0]["text"]) is (shown == "alpaca")


async def test_a_check_refuses_what_an_upload_refuses(api):
    assert code(await check(api, CSV, **NAMED), 422) == "dataset_malformed"
    assert (await check(api, CSV, accept_labels="true", **NAMED)).json()["rows"] == 2
    assert code(await check(api, b""), 422) == "dataset_empty"
    answer = await api["submit"].post("/v1/datasets/check", content=b'{"input": "a"}')
    assert code(answer, 403) == "scope_missing"


async def test_a_packed_upload_may_not_unpack_to_more_than_an_upload_may_hold(api, monkeypatch):
    settings = api["app"].state.clients.settings
    monkeypatch.setitem(settings.__dict__, "max_upload_bytes", 2 << 20)
    bomb = gzip.compress(b'{"input": "a"}\n' * 200_000)
    assert code(await upload(api, bomb), 422) == "dataset_too_large"


async def test_a_repeated_upload_is_known_by_how_it_was_to_be_read(api):
    headers = {"Idempotency-Key": "once"}

    async def post(columns):
        params = {"name": "demo", "columns": columns}
        return (await api["train"].post("/v1/datasets", params=params, content=b"a,b\nx,y\n", headers=headers)).json()

    first = await post("input=a,output=b")
    assert first["rows"] == 1
    assert await post("input=a,output=b") == first
    assert (await post("input=b,output=a"))["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("path", ["/v1/datasets?name=demo", "/v1/datasets/check"])
async def test_an_upload_without_a_key_is_refused(api, path):
    assert code(await api["anonymous"].post(path, content=b'{"input": "a"}'), 401) == "key_missing"
