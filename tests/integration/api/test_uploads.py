"""`/v1/adapters` and `/v1/datasets`: checked whole, stored once."""

import asyncio
import functools
import hashlib
import json
import re

import pytest

import services.api.datasets.service as datasets
import shared.registry.datasets as registry_datasets
from services.api.http import upload as pace
from services.api.infra.clients import UPLOADS_AT_ONCE
from shared.adapter_files import CONFIG_NAME, ORIGINAL_NAME, Step
from shared.data_files.reader import RowReader
from shared.ledger import calls
from shared.security.api_keys import key_id
from tests.support.adapter_samples import BASE, CONFIG, archive, lora_tensors, safetensors, upload
from tests.support.api import client_of, code, serving
from tests.support.eventually import eventually

ROWS = b'{"input": "a", "label": "fin.sa"}\n{"input": "b", "label": "fin.ha"}\n'


async def test_an_adapter_is_stored_as_the_next_version_of_its_label(api, base, registry):
    answer = await upload(api["train"], archive(), instruction="Is it good?", template="plain")
    assert answer.status_code == 201
    body = answer.json()
    checks = body.pop("checks")
    assert [(one["check"], one["outcome"]) for one in checks] == [(step, "passed") for step in Step]
    assert (body["ref"], body["base_model"], body["template"]) == ("fin.sa@1", "tiny", "plain")
    assert body["info"]["rank"] == 2
    assert registry.weights.has(body["digest"])
    again = await upload(api["train"], archive(), instruction="Is it good?", template="plain")
    assert again.json()["ref"] == "fin.sa@1"
    other = archive(weights=safetensors(lora_tensors(), fill=0.25))
    assert (await upload(api["train"], other)).headers["location"] == "/v1/adapters/fin.sa@2"
    listed = (await api["submit"].get("/v1/adapters?label=fin.sa")).json()["items"]
    assert [item["ref"] for item in listed] == ["fin.sa@1", "fin.sa@2"]
    assert (await api["submit"].get("/v1/adapters/fin.sa@1")).json() == body
    assert (await api["submit"].get(f"/v1/adapters/{body['digest']}")).json()["ref"] == "fin.sa@1"
    assert code(await api["submit"].get("/v1/adapters/fin.sa@9"), 404) == "adapter_not_found"


async def test_a_digest_that_does_not_match_is_refused(api, base, registry):
    data = archive()
    assert code(await upload(api["train"], data, sha256="0" * 64), 422) == "adapter_digest_mismatch"
    assert registry.adapters.list_all("default") == []
    by_archive = await upload(api["train"], data, sha256=hashlib.sha256(data).hexdigest())
    assert by_archive.status_code == 201
    assert (await upload(api["train"], data, sha256=by_archive.json()["digest"])).status_code == 201


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"no archive", "adapter_archive_corrupt"),
        (archive()[:-200], "adapter_archive_corrupt"),
        (archive(name="../evil.json"), "adapter_archive_unsafe"),
        (archive({**CONFIG, "r": 100_000}), "adapter_rank_too_large"),
        (archive({**CONFIG, "target_modules": ["c_attn"]}), "adapter_base_mismatch"),
        (archive(weights=safetensors(lora_tensors(), fill=float("nan"))), None),
    ],
    ids=["no archive", "cut", "path trick", "rank", "wrong base", "nan"],
)
async def test_a_hostile_or_broken_archive_is_refused_and_nothing_is_kept(api, base, registry, data, expected):
    refusal = code(await upload(api["train"], data), 422)
    assert expected is None or refusal == expected
    assert registry.adapters.list_all("default") == []


@pytest.mark.parametrize(
    ("spoilt", "fields", "step"),
    [
        ({}, {"template": "unheard-of"}, Step.TEMPLATE),
        ({"name": "../evil.json"}, {}, Step.ARCHIVE),
        ({"config": {**CONFIG, "peft_type": "IA3"}}, {}, Step.CONFIG),
        ({"weights": safetensors(lora_tensors())[:-1]}, {}, Step.WEIGHTS),
        ({"config": {**CONFIG, "target_modules": ["q_proj"]}}, {}, Step.TENSORS),
        ({"weights": safetensors({"base_model.model.x.lora_A.weight": ("F32", [2, 8])})}, {}, Step.TARGETS),
        ({"config": {**CONFIG, "r": 100_000}}, {}, Step.RANK),
        ({"config": {**CONFIG, "init_lora_weights": "pissa"}}, {}, Step.NORMALISED),
        ({"weights": safetensors(lora_tensors(), fill=float("nan"))}, {}, Step.NUMBERS),
        ({}, {"sha256": "0" * 64}, Step.DIGEST),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_refusal_says_which_check_it_is_and_which_were_passed(api, base, registry, spoilt, fields, step):
    answer = await upload(api["train"], archive(**spoilt), **fields)
    outcomes = {one["check"]: one["outcome"] for one in answer.json()["checks"]}
    steps = list(Step)
    at = steps.index(step)
    assert outcomes == {
        **dict.fromkeys(steps[:at], "passed"),
        step: "failed",
        **dict.fromkeys(steps[at + 1 :], "not_reached"),
    }
    assert registry.adapters.list_all("default") == []


async def test_what_means_plain_lora_is_normalised_and_the_answer_says_how(api, base, registry, store):
    sent = {**CONFIG, "auto_mapping": {"unsloth_fixed": True}, "rank_pattern": {".*q_proj": 2}}
    body = (await upload(api["train"], archive(sent, beside=("optimizer.pt", "README.md")))).json()
    assert body["notes"] == [
        "auto_mapping is dropped: it names a class that is never imported here",
        "rank_pattern is written out by module",
        "2 other files were passed over: optimizer.pt, README.md",
        "its config names 'base', a base model unknown here: only the shapes say that it fits",
    ]
    assert json.loads(store.get(f"adapters/{body['digest']}/{ORIGINAL_NAME}")) == sent
    assert json.loads((registry.weights.fetch(body["digest"]) / CONFIG_NAME).read_text())["rank_pattern"] == {}
    assert (await api["submit"].get(f"/v1/adapters/{body['ref']}")).json()["notes"] == body["notes"]


async def test_of_configs_that_say_the_same_the_first_original_is_kept(api, base, store):
    first, second = ({**CONFIG, "task": task} for task in ("a", "b"))
    digest = (await upload(api["train"], archive(first))).json()["digest"]
    assert (await upload(api["train"], archive(second), label="a.b")).json()["digest"] == digest
    assert json.loads(store.get(f"adapters/{digest}/{ORIGINAL_NAME}")) == first


async def test_an_adapter_of_another_known_base_model_has_to_be_confirmed(api, base, registry, store, tokens):
    store.put("base/other.json", json.dumps({"id": "other", "name": "Llama-9B", "shapes": BASE.to_dict()}).encode())
    theirs = archive({**CONFIG, "base_model_name_or_path": "unsloth/llama-9b-bnb-4bit"})
    answer = await upload(api["train"], theirs)
    assert code(answer, 422) == "adapter_base_mismatch"
    assert (
        "the base model other, not tiny: name that one in base_model, or send confirm_base" in answer.json()["detail"]
    )
    assert registry.adapters.list_all("default") == []
    taken = (await upload(api["train"], theirs, confirm_base="true")).json()
    assert taken["base_confirmed_by"] == key_id(tokens["train"])
    assert "another base model: its sender confirmed this one" in taken["notes"][0]
    there = (await upload(api["train"], theirs, base_model="other", label="a.b")).json()
    assert (there["base_model"], there["notes"], there["base_confirmed_by"]) == ("other", [], "")


@pytest.mark.parametrize("named", [None, "", "/home/me/my-llama"])
async def test_a_base_model_that_nobody_knows_is_a_note(api, base, named):
    body = (await upload(api["train"], archive({**CONFIG, "base_model_name_or_path": named}))).json()
    assert "only the shapes say that it fits" in body["notes"][0]
    assert body["base_confirmed_by"] == ""


async def test_what_comes_with_the_archive_is_checked(api, base):
    train = api["train"]
    assert code(await upload(train, archive(), label="Fin"), 422) == "label_malformed"
    assert code(await upload(train, archive(), label="none.none"), 422) == "label_reserved"
    assert code(await upload(train, archive(), template="jinja"), 422) == "template_unknown"
    assert code(await upload(train, archive(), sha256="xyz"), 422) == "request_invalid"
    assert code(await upload(train, archive(), color="red"), 422) == "request_invalid"
    assert code(await train.post("/v1/adapters", data={"label": "fin.sa"}), 422) == "file_missing"
    broken = {"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data"}}
    assert code(await train.post("/v1/adapters", **broken), 400) == "body_malformed"


def serve_another(ledger, store):
    """A worker of another base model beside the first."""
    store.put("base/other.json", json.dumps({"id": "other", "shapes": BASE.to_dict()}).encode())
    ledger.do(calls.heartbeat("another", ["generate.fin", "generate.fin@other"], [], {}, 60))


async def test_where_several_base_models_are_served_the_sender_of_an_upload_names_one(api, base, store, ledger):
    serve_another(ledger, store)
    answer = await upload(api["train"], archive())
    assert code(answer, 422) == "base_model_ambiguous"
    assert "other, tiny" in answer.json()["detail"]
    assert (await upload(api["train"], archive(), base_model="other")).json()["base_model"] == "other"
    assert code(await upload(api["train"], archive(), base_model="none"), 503) == "base_model_unknown"


async def test_of_several_base_models_an_upload_belongs_to_the_current_releases(api, base, release, store, ledger):
    serve_another(ledger, store)
    assert (await upload(api["train"], archive())).json()["base_model"] == release.base_model == "tiny"


async def test_while_no_worker_lives_an_upload_belongs_to_the_current_releases_base_model(api, base, release, ledger):
    ledger.do(calls.leave_queues("worker", ["generate.fin", "generate.fin@tiny"]))
    assert (await upload(api["train"], archive())).json()["base_model"] == release.base_model


async def test_without_a_base_model_it_says_to_start_a_worker(api):
    answer = await upload(api["train"], archive())
    assert code(answer, 503) == "base_model_unknown"
    assert "retry-after" in answer.headers


async def test_an_archive_above_the_limit_is_refused(settings, tokens, base):
    small = settings.model_copy(update={"max_upload_bytes": 2048})
    async with serving(small) as (_, url), client_of(url, tokens["train"]) as client:
        assert code(await upload(client, b"x" * 200_000), 413) == "body_too_large"


async def test_rows_are_stored_once_and_found_by_id_and_name(api, registry):
    answer = await api["train"].post("/v1/datasets?name=demo", content=ROWS)
    assert answer.status_code == 201
    body = answer.json()
    assert (body["rows"], body["labels"]) == (2, {"fin.sa": 1, "fin.ha": 1})
    assert [row.input for row in registry.datasets.rows("default", body["id"])] == ["a", "b"]
    form = await api["train"].post("/v1/datasets?name=demo", files={"file": ("rows.jsonl", ROWS)})
    assert form.json()["id"] == body["id"]
    for ref in (body["id"], "demo"):
        assert (await api["train"].get(f"/v1/datasets/{ref}")).json()["id"] == body["id"]
    assert len((await api["train"].get("/v1/datasets")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("data", "expected", "says"),
    [
        (ROWS + b"{]\n", "dataset_malformed", "line 3: not JSON"),
        (b'{"input": "a"}\n{"input": ""}\n', "dataset_malformed", "line 2: field input"),
        (b'{"input": "a"}\n\xff\n', "dataset_malformed", "line 2: not UTF-8"),
        (
            b'{"input": "a"}\n\n[1]\n{"text": "b"}\n',
            "dataset_malformed",
            "line 3: not a JSON object; line 4: field input",
        ),
        (b"", "dataset_empty", "no rows"),
        (b'{"input": "a", "label": "Fin.SA"}', "dataset_malformed", "line 1: 'Fin.SA' is not a label"),
        (b'{"input": "a", "input": "b"}', "dataset_malformed", "line 1: the key 'input' stands twice"),
        (b'[{"input": "a"}', "dataset_malformed", "the array does not end"),
        (b'{"input": "a", "x": ' + b"[" * 2000 + b"]" * 2000 + b"}", "dataset_malformed", "line 1: its brackets"),
    ],
    ids=["json", "empty input", "utf-8", "two lines", "empty", "label", "twice", "array", "deep"],
)
async def test_malformed_rows_are_named_by_line_and_nothing_is_kept(api, registry, data, expected, says):
    answer = await api["train"].post("/v1/datasets?name=demo", content=data)
    assert code(answer, 422) == expected
    assert says in answer.json()["detail"]
    assert registry.datasets.list_all("default") == []


async def rows_of(api, *headers, path="/v1/datasets?name=demo"):
    """Begin an upload of rows, whose body is still to come."""
    reader, writer = await asyncio.open_connection(*api["url"].removeprefix("http://").split(":"))
    key = f"Authorization: {api['train'].headers['authorization']}"
    lines = [f"POST {path} HTTP/1.1", "Host: x", key, "Transfer-Encoding: chunked", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    return reader, writer


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


async def answer_of(reader):
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head).group(1))
        return int(head[9:12]), json.loads(await reader.readexactly(length))


async def test_rows_are_refused_as_soon_as_they_are_known_to_be_wrong(api):
    reader, writer = await rows_of(api)
    writer.write(chunk(b"no json\n" * 100_000))  # and the end of the body never comes
    status, problem = await answer_of(reader)
    assert (status, problem["code"]) == (422, "dataset_malformed")


async def test_more_rows_than_are_taken_stop_the_upload(api, monkeypatch):
    monkeypatch.setattr(datasets, "RowReader", functools.partial(RowReader, max_rows=1000))
    reader, writer = await rows_of(api)
    writer.write(chunk(b'{"input":"a"}\n' * 100_000))
    status, problem = await answer_of(reader)
    assert (status, problem["code"]) == (422, "dataset_too_large")


async def test_more_labels_than_are_counted_are_refused(api, monkeypatch):
    monkeypatch.setattr(registry_datasets, "MAX_LABELS", 3)
    rows = "".join(json.dumps({"input": "a", "label": f"a.b{n}"}) + "\n" for n in range(4))
    assert code(await api["train"].post("/v1/datasets?name=demo", content=rows), 422) == "dataset_too_large"


async def test_a_body_is_read_only_when_it_is_its_turn(api):
    first = [await rows_of(api) for _ in range(UPLOADS_AT_ONCE)]
    waiting = api["app"].state.clients.uploads
    await asyncio.to_thread(eventually, waiting.locked, "all places are taken")
    reader, writer = await rows_of(api, "Expect: 100-continue")
    late = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    form = await rows_of(
        api, "Expect: 100-continue", "Content-Type: multipart/form-data; boundary=b", path="/v1/adapters"
    )
    last = asyncio.create_task(form[0].readuntil(b"\r\n\r\n"))
    assert (await api["anonymous"].get("/healthz")).status_code == 200
    assert not (await asyncio.wait([late, last], timeout=0.3))[0]
    for one, ending in first:
        ending.write(chunk(ROWS) + b"0\r\n\r\n")
        assert (await answer_of(one))[0] == 201
    assert await late == await last == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(chunk(ROWS) + b"0\r\n\r\n")
    assert (await answer_of(reader))[0] == 201


async def test_an_upload_that_ends_early_frees_its_place_and_is_no_crash(api):
    for _ in range(UPLOADS_AT_ONCE + 1):
        _, writer = await rows_of(api)
        writer.write(chunk(ROWS))
        await writer.drain()
        writer.close()
    assert (await api["train"].post("/v1/datasets?name=demo", content=ROWS)).status_code == 201
    text = (await api["anonymous"].get("/metrics")).text
    assert "internal_error" not in text


async def test_an_upload_that_holds_its_place_for_too_little_is_ended(api, monkeypatch):
    monkeypatch.setattr(pace, "GRACE_SECONDS", 0.2)
    reader, writer = await rows_of(api)

    async def drip():
        while True:
            writer.write(chunk(b" "))
            await asyncio.sleep(0.05)  # the drip itself

    dripping = asyncio.create_task(drip())
    status, problem = await answer_of(reader)
    dripping.cancel()
    assert (status, problem["code"]) == (408, "upload_too_slow")


async def test_a_data_set_needs_a_good_name_and_a_file(api):
    assert code(await api["train"].post("/v1/datasets", content=ROWS), 422) == "request_invalid"
    assert code(await api["train"].post("/v1/datasets?name=../x", content=ROWS), 422) == "name_malformed"
    answer = await api["train"].post("/v1/datasets", params={"name": "My Data (final)"}, content=ROWS)
    assert code(answer, 422) == "name_malformed"
    assert "--name my-data-final" in answer.json()["detail"]
    answer = await api["train"].post("/v1/datasets?name=demo", files={"rows": ("rows.jsonl", ROWS)})
    assert code(answer, 422) == "file_missing"
