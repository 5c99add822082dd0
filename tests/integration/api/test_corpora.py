"""`/v1/corpora`: files join a corpus until it is cleaned, and leave as they came; by HTTP, client and command line."""

import asyncio
import gzip
import json

import pytest
from signalbox import AsyncSignalbox, ConflictError, NotFoundError, Signalbox

from shared.contracts.corpora import CorpusFile, CorpusManifest
from shared.contracts.corpus_clean import CorpusClean
from shared.contracts.training import parse_training
from shared.ledger import calls
from tests.support.api import client_of, code, serving

LAW = "Artículo 1.- La propiedad de las tierras corresponde a la Nación.\n".encode()


def post(client, content=LAW, name="laws", file="civil.txt", **headers):
    return client.post("/v1/corpora", params={"name": name, "file": file}, content=content, headers=headers)


def made_of(registry, raw, folder, name="clean"):
    """A corpus as a job makes one of another."""
    (folder / "made").write_bytes(b'{"text": "x", "source": {"file": "civil.txt", "line": 1}}\n')
    manifest = CorpusManifest(
        tenant_id="default",
        id=f"cor_{name}",
        name=name,
        files=(CorpusFile(name=f"{name}.jsonl", sha256="a" * 64, size_bytes=58),),
        documents=1,
        made_from=raw,
        made_by="job_1",
    )
    registry.corpora.add_made(manifest, folder / "made")
    return manifest


async def test_files_join_a_corpus_replace_those_of_their_name_and_leave_as_they_came(api, registry):
    first = (await post(api["train"])).json()
    await post(api["train"], b"first", file="b.md")
    answer = await post(api["train"], b"second", file="b.md")
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/corpora/{first['id']}")
    corpus = (await api["train"].get("/v1/corpora/laws")).json()
    assert corpus == answer.json()
    assert (corpus["id"], [file["name"] for file in corpus["files"]]) == (first["id"], ["b.md", "civil.txt"])
    assert [one["id"] for one in (await api["train"].get("/v1/corpora")).json()["items"]] == [first["id"]]
    content = await api["train"].get(f"/v1/corpora/{first['id']}/content", params={"file": "civil.txt"})
    assert (content.content, int(content.headers["content-length"])) == (LAW, len(LAW))
    second = await api["train"].get("/v1/corpora/laws/content", params={"file": "b.md"})
    assert second.content == b"second"


async def test_uploads_at_the_same_time_are_all_kept(api):
    answers = await asyncio.gather(*(post(api["train"], b"%d" % number, file=f"{number}.txt") for number in range(12)))
    assert {answer.status_code for answer in answers} == {201}
    (corpus,) = (await api["train"].get("/v1/corpora")).json()["items"]
    assert len(corpus["files"]) == 12


async def test_names_and_files_that_are_none_are_refused_with_what_to_do(api):
    for name, file, content, why in [
        ("Laws!", "a.txt", LAW, "name_malformed"),
        ("laws", "a/b.txt", LAW, "file_name_malformed"),
        ("laws", "..", LAW, "file_name_malformed"),
        ("laws", "a.docx", LAW, "file_format_unknown"),
        ("laws", "a.txt", b"", "file_empty"),
    ]:
        assert code(await post(api["train"], content, name, file), 422) == why
    assert (await api["train"].get("/v1/corpora")).json()["items"] == []
    assert code(await api["train"].get("/v1/corpora/laws"), 404) == "corpus_not_found"


async def test_which_file_is_meant_has_to_be_said_where_there_are_several(api):
    await post(api["train"])
    await post(api["train"], file="b.txt")
    assert code(await api["train"].get("/v1/corpora/laws/content"), 422) == "file_missing"
    assert code(await api["train"].get("/v1/corpora/laws/content", params={"file": "c.txt"}), 404) == "file_not_found"


async def test_a_corpus_that_is_being_cleaned_or_was_takes_no_more_files(api, registry, ledger, tmp_path):
    raw = (await post(api["train"])).json()["id"]
    job = (await api["train"].post("/v1/training/jobs", json={"kind": "corpus.clean", "corpus": "laws"})).json()["id"]
    body = parse_training(ledger.do(calls.get(job, "default")).body)
    assert isinstance(body, CorpusClean)
    assert body.corpus == raw
    assert code(await post(api["train"], file="b.txt"), 409) == "corpus_closed"
    assert code(await api["train"].delete("/v1/corpora/laws"), 409) == "corpus_in_use"
    await api["train"].delete(f"/v1/training/jobs/{job}")
    assert (await post(api["train"], file="b.txt")).status_code == 201
    made_of(registry, raw, tmp_path)
    assert code(await post(api["train"], file="c.txt"), 409) == "corpus_closed"
    assert code(await post(api["train"], name="clean", file="c.txt"), 409) == "corpus_closed"
    assert (await api["train"].delete("/v1/corpora/laws")).status_code == 204
    assert (await post(api["train"], file="c.txt")).json()["id"] != raw


async def test_a_training_of_a_corpus_that_is_none_is_refused_before_it_is_queued(api):
    for ask in ({"corpus": "laws"}, {"corpus": "laws", "quality_filter": {"good_corpus": "x"}}):
        answer = await api["train"].post("/v1/training/jobs", json={"kind": "corpus.clean", **ask})
        assert code(answer, 404) == "corpus_not_found"


async def test_another_tenant_sees_none_of_it(api, store):
    corpus = (await post(api["train"])).json()
    assert (await api["other"].get("/v1/corpora")).json() == {"items": []}
    for path in (f"/v1/corpora/{corpus['id']}", "/v1/corpora/laws/content"):
        assert code(await api["other"].get(path), 404) == "corpus_not_found"
    assert (await post(api["other"])).json()["id"] != corpus["id"]
    digest = corpus["files"][0]["sha256"]
    assert {f"tenants/{tenant}/corpus_files/{digest}" for tenant in ("default", "other")} <= set(store.keys("tenants/"))


async def test_a_repeated_upload_is_told_from_another(api):
    sent = {"Idempotency-Key": "k1"}
    first = await post(api["train"], **sent)
    assert (await post(api["train"], **sent)).json() == first.json()
    assert code(await post(api["train"], b"other", **sent), 422) == "idempotency_key_reused"


async def test_what_corpora_take_counts_against_the_tenants_room(settings, tokens):
    small = settings.model_copy(update={"max_stored_mib": 1})
    async with serving(small) as (_, url), client_of(url, tokens["train"]) as client:
        assert code(await post(client, bytes(2 << 20)), 413) == "storage_full"
        assert (await post(client, bytes(1 << 19))).status_code == 201
        assert code(await post(client, bytes((1 << 19) + 1), file="b.txt"), 413) == "storage_full"


async def test_both_clients_add_list_save_and_delete(api, tokens, tmp_path, registry):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n'))

    def plain():
        with Signalbox(api["url"], tokens["train"]) as client:
            corpus = client.add_corpus_file(tmp_path / "a.jsonl.gz", "laws")
            assert [file["name"] for file in corpus.files] == ["a.jsonl"]
            assert client.corpora() == [client.corpus("laws")] == [corpus]
            assert client.save_corpus("laws", tmp_path / "out").read_bytes() == b'{"text": "x"}\n'
            made_of(registry, corpus.id, tmp_path)
            with pytest.raises(ConflictError, match="add them under another name"):
                client.add_corpus_file("b.txt", "laws", content=b"x")
            client.delete_corpus("laws")

    await asyncio.to_thread(plain)
    async with AsyncSignalbox(api["url"], tokens["train"]) as client:
        assert [corpus.name for corpus in await client.corpora()] == ["clean"]
        saved = await client.save_corpus("clean", tmp_path / "out")
        assert json.loads(saved.read_text())["text"] == "x"
        with pytest.raises(NotFoundError, match="no corpus 'laws'"):
            await client.save_corpus("laws", tmp_path / "none")
        assert not list(tmp_path.glob("*none*"))


async def test_the_command_line_adds_shows_gets_and_removes(api, command, tmp_path, registry):
    (tmp_path / "a.txt").write_bytes(LAW)
    (tmp_path / "b.txt").write_bytes(LAW)

    async def said(*words, status=0):
        process = command(*words)
        out, err = await asyncio.to_thread(process.communicate)
        assert process.returncode == status, err
        return out + err

    assert "a.txt, b.txt" in await said("corpora", "add", "a.txt", "b.txt", "--name", "laws")
    assert "laws" in await said("corpora", "list")
    raw = json.loads(await said("corpora", "show", "laws", "--json"))
    made_of(registry, raw["id"], tmp_path)
    assert "wrote clean.jsonl" in await said("corpora", "get", "clean")
    assert json.loads((tmp_path / "clean.jsonl").read_text())["text"] == "x"
    queued = await said("train", "clean", "laws", "--name", "new", "--without", "quality_filter", "--json")
    job = (await api["train"].get(f"/v1/training/jobs/{json.loads(queued)['id']}")).json()
    assert job["trains"]["kind"] == "corpus.clean"
    assert "wait for its end, or cancel it" in await said("corpora", "rm", "laws", status=1)
    assert "deleted clean" in await said("corpora", "rm", "clean")
