"""The multi-task tables, made by real jobs on a tiny model and few rows; a second run makes nothing again."""

import gzip
import json
import random

import pytest

from lab.reproduce.multitask_paper import FEW_SHOT, LABELS, OURS, SINGLE, TABLES, PaperTable
from lab.reproduce.multitask_report import write
from lab.reproduce.multitask_run import Kept, Samples, Size, Tables
from services.trainer.evaluation.generate import answer_rows
from shared.contracts.jobs import JobState
from shared.model.base import load_model

SIZE = Size(
    12, 4, 8, {"learning_rate": 0.01, "max_length": 400, "epochs": 4, "rank": 2, "batch_size": 4, "accumulate": 1}
)


@pytest.fixture
def samples(tmp_path, clients):
    made = Samples(tmp_path, SIZE)
    for label in map(LABELS.get, TASKS):
        for part, count in (("train", 16), ("test", 6)):
            dice = random.Random(f"{label}{part}")
            rows = [
                {"instruction": "ok?", "input": f"{label} {dice.random():.4f} {n}", "output": "是" if n % 2 else "否"}
                for n in range(count)
            ]
            with gzip.open(tmp_path / f"{label}.{part}.jsonl.gz", "wt") as file:
                file.write("\n".join(map(json.dumps, rows)))
            clients.registry.datasets.add("t", f"{label}-{part}", made.rows(label, part))
    return made


TASKS = ("CWSC", "TNEWS")
PAPER = TABLES["multitask-table1"].lines
TABLE = PaperTable("two tasks", TASKS, {line: PAPER[line] for line in (SINGLE, FEW_SHOT, "UniMax", OURS)}, {})


def test_a_table_is_made_once_of_real_jobs(samples, run, jobs, clients, tmp_path):
    asked, model = [], load_model(clients.base_folder, "float32")

    def run_job(body):
        asked.append(body["kind"])
        job = run(jobs.new_training(**body))
        assert job.state is JobState.SUCCEEDED, job.error
        return job.result

    def answer(rows):
        return answer_rows(model, clients.tokenizer, rows, template="chatml", max_tokens=800)

    def made():
        return dict(Tables(samples, SIZE, Kept(tmp_path / "kept.json"), run_job, answer).lines(TABLE))

    found = made()
    assert all(set(scores) == set(TASKS) for scores in found.values())
    assert all(0 <= score <= 1 for scores in found.values() for score in scores.values())
    kinds = ["adapter.train"] * 2 + ["multitask.train", *["multitask.plan"] * 2, "multitask.train"]
    assert asked == kinds  # a plan for each task, before the line that needs it
    assert made() == found
    assert asked == kinds
    text, _ = write("two", TABLE, found, [SIZE.note], tmp_path)
    assert "| UniMax | " in text.read_text()


def test_few_shot_shows_five_training_rows_and_is_asked_once(samples, clients, tmp_path):
    seen = []

    def answer(rows):
        seen.append(rows)
        return ["是"] * len(rows)

    tables = Tables(samples, SIZE, Kept(tmp_path / "kept.json"), None, answer)
    assert tables._few_shot("tnews") == 0.5
    assert tables._few_shot("tnews") == 0.5
    (rows,) = seen
    assert rows[0].instruction.count("示例") == 5
    assert rows[0].input.startswith("tnews")
