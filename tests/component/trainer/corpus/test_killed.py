"""A trainer that is killed outright loses one part; nothing that it started outlives it."""

import json
import subprocess
import sys
from pathlib import Path

import psutil

from services.trainer.corpus import first_pass as passes
from services.trainer.corpus.first_pass import Job, first_pass
from services.trainer.corpus.parts import Parts
from services.trainer.corpus.second_pass import joined, second_pass
from shared.contracts.corpora import CorpusFile
from shared.contracts.corpus_clean import CorpusClean
from shared.registry.store import FolderStore
from tests.support.corpora import ARTICLES
from tests.support.eventually import eventually

TEXTS = [f"{text} ({number})" for number in range(30) for text in ARTICLES] * 2


def job_at(root, folder, report):
    """A job on a corpus of two files below `root`, in a folder of its own."""
    folder.mkdir()
    names = ["a.jsonl", "b.jsonl"]
    files = tuple(CorpusFile(name=name, sha256="", size_bytes=(root / name).stat().st_size) for name in names)
    body = CorpusClean(corpus="laws", quality_filter=None)
    return Job(body, files, lambda file, path: path.write_bytes((root / file.name).read_bytes()), folder, bool, report)


def cleaned(root, name, report=lambda *_, **__: None):
    """Do the whole job, or go on with it; returns the cleaned file."""
    passes.PART_BYTES, passes._BATCH_DOCUMENTS, passes._POOLED_BYTES = 8000, 16, 1
    job = job_at(root, root / name, report)
    read, kept = (Parts(FolderStore(root / "store"), "job", stage, job.folder) for stage in ("read", "kept"))
    first = first_pass(job, read)
    second_pass(job, range(len(first)), read, kept, None)
    joined(range(len(first)), kept, job.folder / "cleaned")
    return job.folder / "cleaned"


def run(root, name, stage):
    """What the process does that is killed: it waits, and says so, after the second part of a stage."""

    def report(told, part=0, **_):
        if (told, part) == (stage, 2):
            sys.stdout.write("now\n")
            sys.stdout.flush()
            sys.stdin.read()

    cleaned(Path(root), name, report)


def killed_at(root, stage):
    """Go on with the job in a process that is killed; what it had started ends, too."""
    program = f"from {__name__} import run; run({str(root)!r}, {stage!r}, {stage!r})"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) as process:
        assert process.stdout.readline() == "now\n"
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert started or stage != "reading_corpus"
    eventually(lambda: not any(child.is_running() for child in started), "what the killed process started ends")


def test_a_killed_cleaning_goes_on_and_makes_the_same_file(tmp_path, monkeypatch):
    for name in ("PART_BYTES", "_BATCH_DOCUMENTS", "_POOLED_BYTES"):
        monkeypatch.setattr(passes, name, getattr(passes, name))  # what `cleaned` sets is taken back
    lines = [json.dumps({"text": text}) + "\n" for text in TEXTS]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for root in (whole, broken):
        root.mkdir()
        (root / "a.jsonl").write_text("".join(lines[:250]))
        (root / "b.jsonl").write_text("".join(lines[250:]))
    killed_at(broken, "reading_corpus")
    killed_at(broken, "comparing_documents")
    assert cleaned(broken, "last").read_bytes() == cleaned(whole, "only").read_bytes()
