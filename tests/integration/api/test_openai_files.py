"""`/v1/files`, asked by the `openai` package and by hand."""

import io
import json
import time

import openai
import pytest

from services.api.files import service
from shared.contracts.files import StoredFile
from shared.registry.files import content_key
from tests.support.api import client_of, code, serving

ROWS = b'{"custom_id": "1"}\n'


@pytest.fixture(autouse=True)
def _stored(store):
    store.ensure_bucket()


@pytest.fixture
async def client(api, tokens):
    async with openai.AsyncOpenAI(base_url=f"{api['url']}/v1", api_key=tokens["submit"], max_retries=0) as client:
        yield client


async def put(client, content=ROWS, name="rows.jsonl", purpose="batch", **more):
    return await client.files.create(file=(name, content), purpose=purpose, **more)


async def refused(api, key="submit", status=400, purpose="batch", name="rows.jsonl", content=ROWS, **more):
    sent = await api[key].post("/v1/files", data={"purpose": purpose, **more}, files={"file": (name, content)})
    assert sent.status_code == status, sent.text
    return sent.json()["error"]


async def test_a_file_is_stored_shown_read_and_deleted(client, store):
    made = await put(client, name="a/rows.jsonl")
    assert (made.filename, made.bytes, made.purpose, made.object) == ("rows.jsonl", len(ROWS), "batch", "file")
    assert made.expires_at - made.created_at in (30 * 86_400, 30 * 86_400 - 1)
    assert await client.files.retrieve(made.id) == made
    assert (await client.files.content(made.id)).content == ROWS
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError) as error:
        await client.files.content(made.id)
    assert error.value.code == "file_not_found"
    assert store.keys(f"tenants/default/files/{made.id}") == []


async def test_a_large_file_comes_back_as_it_was(client):
    content = b"0123456789abcdef" * (6 << 16)  # in several parts at the store
    made = await put(client, content, purpose="user_data")
    assert made.expires_at is None
    assert (await client.files.content(made.id)).content == content


async def test_an_empty_file_is_a_file(client):
    made = await put(client, b"", purpose="user_data")
    assert (await client.files.content(made.id)).content == b""


async def test_files_are_listed_by_pages_of_one_order_and_purpose(client):
    ids = [(await put(client, name=f"{number}.jsonl")).id for number in range(5)]
    other = (await put(client, purpose="user_data")).id
    assert [one.id async for one in client.files.list(limit=2)] == [other, *ids[::-1]]
    assert [one.id async for one in client.files.list(limit=2, order="asc", purpose="batch")] == ids
    first = await client.files.list(limit=2, order="asc")
    assert first.has_more
    assert [one.id for one in first.data] == ids[:2]
    with pytest.raises(openai.BadRequestError) as error:
        await client.files.list(after="file-x")
    assert (error.value.code, error.value.param) == ("cursor_unknown", "after")


async def test_the_word_of_its_end_is_kept_and_an_expired_file_is_gone(client, ledger, registry, store):
    made = await put(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert made.expires_at - made.created_at in (3600, 3599)
    record = registry.files.get("default", made.id)
    registry.files._records.add("default", made.id, record.model_copy(update={"expires_at": int(time.time())}))
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)
    assert [one async for one in client.files.list()] == []
    assert [one.id for one in registry.files.expired("default")] == [made.id]


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"purpose": "assistants"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"unknown": "x"}, "unknown"),
    ],
)
async def test_a_form_that_is_not_understood_is_refused_by_field(api, form, param):
    assert (await refused(api, **form))["param"] == param


async def test_half_a_word_of_its_end_and_a_form_without_a_file_are_refused(api):
    assert "both" in (await refused(api, **{"expires_after[seconds]": "3600"}))["message"]
    sent = await api["submit"].post("/v1/files", data={"purpose": "batch"})
    assert sent.status_code == 400
    assert sent.json()["error"]["code"] == "file_missing"


async def test_what_is_no_character_of_a_name_is_shown_so(client, api):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a\xed\xa0\x80\x07.txt"\r\n\r\nx\r\n--x--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    made = (await api["submit"].post("/v1/files", content=body, headers=headers)).json()
    assert made["filename"].isprintable()
    answer = await api["submit"].get(f"/v1/files/{made['id']}/content")
    assert answer.content == b"x"
    assert "attachment" in answer.headers["content-disposition"]


async def test_a_repeated_upload_under_one_key_stores_one_file(client):
    head = {"Idempotency-Key": "k"}
    first = await put(client, extra_headers=head)
    assert await put(client, extra_headers=head) == first
    assert len([one async for one in client.files.list()]) == 1
    with pytest.raises(openai.BadRequestError) as error:
        await put(client, b"other", extra_headers=head)
    assert error.value.code == "idempotency_key_reused"


async def test_files_belong_to_a_tenant_and_a_line_of_keys(api, client, ledger, release):
    made = await put(client)
    for path in (f"/v1/files/{made.id}", f"/v1/files/{made.id}/content"):
        assert code(await api["other"].get(path), 404) == "file_not_found"
        assert code(await api["train"].get(path), 404) == "file_not_found"
    assert code(await api["other"].delete(f"/v1/files/{made.id}"), 404) == "file_not_found"
    assert (await api["train"].get("/v1/files")).json()["data"] == []
    assert (await api["admin"].get(f"/v1/files/{made.id}")).json()["id"] == made.id


async def test_rows_to_train_on_are_of_who_may_train(api):
    assert (await refused(api, "submit", 403, purpose="fine-tune"))["code"] == "scope_missing"
    assert (await refused(api, "train", 403, purpose="batch"))["code"] == "scope_missing"
    sent = await api["train"].post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("r.jsonl", ROWS)})
    assert sent.json()["purpose"] == "fine-tune"
    assert code(await api["submit"].delete(f"/v1/files/{sent.json()['id']}"), 403) == "scope_missing"


async def test_a_tenant_keeps_as_many_bytes_and_files_as_it_may(settings, tokens, monkeypatch):
    async with (
        serving(settings.model_copy(update={"max_files_mib": 1})) as (_, url),
        client_of(url, tokens["submit"]) as one,
    ):
        api = {"submit": one}
        half = bytes(600 << 10)
        sent = await one.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a", half)})
        error = await refused(api, status=413, purpose="user_data", content=half)
        assert error["code"] == "storage_full"
        assert "SIGNALBOX_MAX_FILES_MIB" in error["message"]
        monkeypatch.setattr(service, "MAX_FILES", 1)
        assert (await refused(api, status=413))["code"] == "too_many_files"
        await one.delete(f"/v1/files/{sent.json()['id']}")
        assert (await one.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", ROWS)})).status_code == 200


async def test_a_file_above_the_size_of_a_batch_is_refused(api, monkeypatch):
    monkeypatch.setattr(service, "MAX_BATCH_BYTES", 10)
    assert (await refused(api, status=413))["code"] == "file_too_large"


async def test_a_file_above_what_an_upload_may_have_is_refused(settings, tokens):
    small = settings.model_copy(update={"max_upload_bytes": 1024})
    async with serving(small) as (_, url), client_of(url, tokens["submit"]) as one:
        assert (await refused({"submit": one}, status=413, content=bytes(1 << 20)))["code"] == "body_too_large"


async def test_the_store_away_is_told_and_the_content_of_a_file_gone_from_it(settings, tokens, api, client, store):
    made = await put(client)
    away = settings.model_copy(update={"s3_url": "http://127.0.0.1:9"})
    async with serving(away) as (_, url), client_of(url, tokens["submit"]) as one:
        for answer in (
            await one.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", ROWS)}),
            await one.get(f"/v1/files/{made.id}/content"),
        ):
            assert code(answer, 503) == "store_unavailable"
            assert answer.headers["x-should-retry"] == "true"
    for key in store.keys(f"tenants/default/files/{made.id}/"):
        store.delete(key)
    assert code(await api["submit"].get(f"/v1/files/{made.id}/content"), 404) == "object_not_found"


def test_records_of_files_come_back_from_the_store_and_a_changed_content_is_noticed(alone, ledger, tmp_path):
    from shared.errors import SignalboxError
    from shared.registry import Registry
    from shared.registry.contents import is_whole, name_in
    from shared.registry.restore import restore
    from shared.registry.store import S3Store

    store = S3Store(alone)
    files = Registry(ledger, store, tmp_path).files
    (tmp_path / "rows").write_bytes(ROWS)
    from hashlib import sha256

    file = StoredFile(
        id="file-1", tenant_id="default", filename="r", purpose="batch", size_bytes=1, sha256=sha256(ROWS).hexdigest()
    )
    files.add(file, tmp_path / "rows")
    ledger.redis.flushall()
    assert restore(ledger.redis, store)[0].files == 1
    assert files.get("default", "file-1") == file
    files.fetch(file, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == ROWS
    assert name_in(content_key(file)) == file.sha256
    copy = tmp_path / content_key(file)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(ROWS)
    assert is_whole(tmp_path, content_key(file))
    copy.write_bytes(b"other")
    assert not is_whole(tmp_path, content_key(file))
    store.put(content_key(file), b"other")
    with pytest.raises(SignalboxError) as error:
        files.fetch(file, tmp_path / "copy")
    assert error.value.code == "file_corrupt"
    assert json.loads(store.get("tenants/default/files/file-1.json"))["id"] == "file-1"
    assert io.BytesIO(b"".join(files.pieces(file))).read() == b"other"
