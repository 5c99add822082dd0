"""A corpus is cleaned by five modules, the same at every attempt, and what is wrong with it is said in a sentence."""

import json
import zlib

import pytest

from services.trainer.corpus import first_pass
from services.trainer.handlers import train
from shared.contracts.jobs import JobState
from tests.support.corpora import ARTICLES, add_corpus, locked, pdf, scan

HEADER = "CÓDIGO CIVIL FEDERAL"
CHINESE = [
    "第一条 为了保护民事主体的合法权益，调整民事关系，维护社会和经济秩序，适应中国特色社会主义发展要求，制定本法。",
    "第二条 民法调整平等主体的自然人、法人和非法人组织之间的人身关系和财产关系。",
]
PLAIN = {"quality_filter": None}


@pytest.fixture
def corpus(clients, tmp_path):
    """Stores a corpus of these files by the name `laws`."""

    def add(files, name="laws"):
        return add_corpus(clients.registry, "t", name, files, tmp_path / "files")

    return add


@pytest.fixture
def clean(run, jobs):
    def to_end(**body):
        return run(jobs.new_training(kind="corpus.clean", corpus="laws", **body))

    return to_end


@pytest.fixture
def lines(clients):
    """The objects of a cleaned corpus."""

    def read(ref):
        manifest = clients.registry.corpora.get("t", ref)
        content = b"".join(clients.registry.corpora.pieces(manifest, manifest.files[0]))
        return [json.loads(line) for line in content.splitlines()]

    return read


def json_lines(texts, **fields):
    return "".join(json.dumps({"text": text, **fields}, ensure_ascii=False) + "\n" for text in texts).encode()


def refused(job):
    assert job.state is JobState.FAILED, job.result
    return job.error["code"], job.error["detail"]


def test_every_form_of_file_becomes_lines_that_say_where_they_come_from(corpus, clean, lines, clients):
    raw = corpus({
        "civil.pdf": pdf(*(f"{HEADER}\n{text}\n{number} de 3" for number, text in enumerate(ARTICLES[:3], 1))),
        "trabajo.txt": ARTICLES[3].encode("utf-16"),
        "fiscal.jsonl": json_lines(ARTICLES[4:6], law="Fiscal", year=1981),
        "civil.zh.json": json.dumps([{"text": text} for text in CHINESE]).encode(),
    })  # fmt: skip
    job = clean(**PLAIN)
    assert job.state is JobState.SUCCEEDED, job.error
    found = lines("laws-clean")
    by_file = {}
    for line in found:
        by_file.setdefault(line["source"]["file"], []).append(line)
    assert [line["text"] for line in by_file["civil.zh.json"]] == CHINESE
    assert [line["source"]["element"] for line in by_file["civil.zh.json"]] == [1, 2]
    assert [(line["text"], line["source"]["page"]) for line in by_file["civil.pdf"]] == [
        (text, number) for number, text in enumerate(ARTICLES[:3], 1)
    ]
    assert [line["text"] for line in by_file["trabajo.txt"]] == [ARTICLES[3]]
    assert by_file["fiscal.jsonl"][1]["source"] == {
        "file": "fiscal.jsonl",
        "line": 2,
        "fields": {"law": "Fiscal", "year": 1981},
    }
    manifest = clients.registry.corpora.get("t", job.result["corpus"])
    assert (manifest.made_from, manifest.made_by, manifest.documents) == (raw.id, job.id, 8)
    assert list(manifest.modules) == [
        "document_filter",
        "line_correction",
        "exact_deduplication",
        "fuzzy_deduplication",
    ]
    assert job.result["modules"]["line_correction"]["taken"] == {"page lines": 6}


def test_each_module_says_what_it_took_and_passes_the_rest_on(corpus, clean):
    near = ARTICLES[0].replace("particulares", "extranjeros")
    files = {
        "a.jsonl": json_lines([*ARTICLES, ARTICLES[0].upper(), near, "** -- ## //", "", "a b"]),
    }
    corpus(files)
    job = clean(**PLAIN)
    modules = job.result["modules"]
    assert modules["document_filter"]["taken"] == {"too few letters": 1, "no text": 1, "too short": 1}
    assert modules["exact_deduplication"]["taken"] == {"equal to one before": 1}
    assert modules["fuzzy_deduplication"]["taken"] == {"nearly another": 1}
    assert "line 1 of the result" in modules["fuzzy_deduplication"]["samples"][0]["text"]
    counts = [(one["documents_in"], one["documents_out"]) for one in modules.values()]
    assert counts == [(13, 10), (10, 10), (10, 9), (9, 8)]
    assert job.result["documents"] == 8
    for before, after in zip(list(modules.values()), list(modules.values())[1:], strict=False):
        assert before["bytes_out"] == after["bytes_in"]


def test_the_quality_filter_learns_what_is_good_and_takes_what_is_damaged(corpus, clean, lines):
    good = [f"{text} Esto vale en el año {year}." for year in range(1990, 1998) for text in ARTICLES]
    broken = [text.translate(str.maketrans("aeinrs", "@3|^~5")) for text in ARTICLES[:2]]
    corpus({"a.jsonl": json_lines([*good, *broken])})
    job = clean(fuzzy_deduplication=None)
    taken = job.result["modules"]["quality_filter"]
    assert taken["documents_in"] - taken["documents_out"] == 2
    assert all(sample["why"] == "poor" for sample in taken["samples"])
    assert [line["text"] for line in lines(job.result["corpus"])] == good


def test_equal_corpora_give_equal_bytes_however_often_the_trainer_was_killed(
    corpus, clean, clients, jobs, attempts, run, monkeypatch
):
    monkeypatch.setattr(first_pass, "PART_BYTES", 4000)
    monkeypatch.setattr(first_pass, "_BATCH_DOCUMENTS", 8)
    texts = [f"{text} ({number})" for number in range(12) for text in ARTICLES]
    corpus({"a.jsonl": json_lines(texts[:50]), "b.pdf": pdf(*texts[50:60]), "c.jsonl": json_lines(texts[40:])})
    whole = clean().result
    job_id = jobs.new_training(kind="corpus.clean", corpus="laws", name="again")
    for killed_at in (2, 1, 4):
        attempts.run("train", lambda attempt, at=killed_at: _killed(attempt, clients, at))
        assert jobs.get(job_id).state is JobState.QUEUED
    job = run(job_id)
    assert job.state is JobState.SUCCEEDED, job.error
    first, second = (clients.registry.corpora.get("t", name) for name in ("laws-clean", "again"))
    assert first.files[0].sha256 == second.files[0].sha256
    assert first.modules == second.modules
    assert whole["modules"] == job.result["modules"]
    assert whole["notes"] == job.result["notes"]
    assert clients.store.keys(f"checkpoints/{job_id}/") == []


def _killed(attempt, clients, at):
    """Work until so many parts are reported, then lose the lease as a killed trainer does."""
    emit, told = attempt.emit, []

    def note(kind, data):
        emit(kind, data)
        told.append(data)
        if len(told) == at:
            attempt.lease.stop("drain")

    attempt.emit = note
    train(attempt, clients)


def test_a_large_corpus_is_cleaned_in_processes_with_the_same_result(corpus, clean, clients, monkeypatch):
    corpus({"a.jsonl": json_lines([f"{text} ({number})" for number in range(40) for text in ARTICLES])})
    alone = clean(name="alone").result
    monkeypatch.setattr(first_pass, "_POOLED_BYTES", 1)
    monkeypatch.setattr(first_pass, "_BATCH_DOCUMENTS", 16)
    beside = clean(name="beside").result
    first, second = (clients.registry.corpora.get("t", name) for name in ("alone", "beside"))
    assert first.files[0].sha256 == second.files[0].sha256
    assert alone["modules"] == beside["modules"]


@pytest.mark.parametrize(
    ("files", "code", "says"),
    [
        ({"scan.pdf": scan(3)}, "corpus_unreadable", "scan.pdf has no text on its 3 pages, as a scan: OCR it first"),
        ({"a.pdf": locked(pdf("Artículo 1"))}, "corpus_unreadable", "a.pdf is protected by a password: save"),
        ({"a.pdf": pdf(*ARTICLES)[:700]}, "corpus_unreadable", "a.pdf is broken"),
        ({"a.txt": "ley ñ".encode() * 9 + b" \xf1and\xfa"}, "corpus_unreadable", "save all of it as UTF-8"),
        ({"a.jsonl": b'{"body": "x"}\n'}, "corpus_unreadable", "name the one that has by `field`"),
        ({"a.jsonl": b'{"text": "x"}\n{"text": '}, "corpus_unreadable", "line 2 is no JSON"),
        ({"a.json": b'[{"text": "x"}'}, "corpus_unreadable", "the file was cut"),
        ({"a.docx": b"PK"}, "corpus_unreadable", "ends in none of .pdf, .txt"),
        ({"a.txt": b"\n \n"}, "corpus_empty", "add files that hold text"),
        ({"a.txt": b"** ++ -- // ##"}, "corpus_filtered_away", "document_filter took 1 (1 too few letters)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_nothing_is_published(corpus, clean, clients, files, code, says):
    corpus(files)
    found = refused(clean())
    assert found[0] == code
    assert says in found[1]
    assert [one.name for one in clients.registry.corpora.list_all("t")] == ["laws"]


def test_a_stream_that_unpacks_to_gigabytes_ends_its_reader_alone(corpus, clean):
    bomb = zlib.compress(b" " * (200 << 20), 9)
    corpus({"bomb.pdf": pdf("x", stream=(bomb, b"/Filter/FlateDecode"))})
    code, detail = refused(clean())
    assert code == "corpus_unreadable"
    assert "bomb.pdf unpacks to more than 16 MiB in one stream" in detail


def test_files_that_cannot_be_read_are_left_out_where_that_is_asked_for(corpus, clean, lines):
    corpus({"a.jsonl": json_lines(ARTICLES[:2]) + b"{", "b.pdf": scan(2), "c.txt": ARTICLES[3].encode("cp1252")})
    job = clean(unreadable="leave_out", **PLAIN)
    assert [line["text"] for line in lines(job.result["corpus"])] == [*ARTICLES[:2], ARTICLES[3]]
    notes = "\n".join(job.result["notes"])
    assert "left out: a.jsonl line 3 is no JSON" in notes
    assert "left out: b.pdf has no text" in notes
    assert "c.txt was read as cp1252" in notes


def test_good_texts_may_come_from_another_corpus_that_was_cleaned(corpus, clean, run, jobs):
    corpus({"a.jsonl": json_lines(ARTICLES)})
    corpus({"a.jsonl": json_lines(f"{text} ({year})" for year in range(4) for text in ARTICLES)}, "good")
    raw = refused(clean(quality_filter={"good_corpus": "good"}))
    assert raw == ("corpus_raw", "good texts come from a cleaned corpus and 'good' is none: clean it first")
    run(jobs.new_training(kind="corpus.clean", corpus="good", fuzzy_deduplication=None, **PLAIN))
    job = clean(quality_filter={"good_corpus": "good-clean"})
    assert job.state is JobState.SUCCEEDED, job.error
    assert "fitted on 64 texts" in job.result["notes"][-1]
