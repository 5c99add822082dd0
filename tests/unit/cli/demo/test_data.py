import json
from pathlib import Path

import pytest

from services.cli.demo.data import DemoData
from services.trainer.data.split import same_text
from shared.contracts.labels import BACKGROUND
from shared.contracts.training_settings import LoraSettings, RepresentationSettings

EXAMPLES = Path(__file__).parents[4] / "examples"
DEMO = json.loads((EXAMPLES / "demo.json").read_text())
LABELS = [*DEMO["labels"], DEMO["added_label"]]


def rows(label, part):
    lines = (EXAMPLES / "data" / f"{label}.{part}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def texts(part):
    return [same_text(row["input"]) for label in [*LABELS, BACKGROUND] for row in rows(label, part)]


def test_no_text_of_the_test_is_in_the_training():
    assert not set(texts("test")) & (set(texts("train")) | set(texts("validation")))


@pytest.mark.parametrize("part", ["train", "test"])
def test_no_text_has_two_labels(part):
    assert len(set(texts(part))) == len(texts(part))


@pytest.mark.parametrize("label", LABELS)
def test_every_answer_is_an_option_of_its_one_instruction(label):
    every = rows(label, "train") + rows(label, "test")

    (instruction,) = {row["instruction"] for row in every}
    options = instruction.split("one of: ")[1].removesuffix(".").split(", ")
    assert {row["output"] for row in every} == set(options)


@pytest.mark.parametrize("kind", ["adapter.train", "selector.train", "selector.add"])
def test_the_demo_trains_with_settings_that_a_job_accepts(kind):
    LoraSettings.model_validate(DEMO[kind]["settings"])
    RepresentationSettings.model_validate(DEMO[kind].get("selection", {}))


def test_two_labels_of_each_first_domain_are_there_from_the_start():
    domains = [label.split(".")[0] for label in DEMO["labels"]]

    assert all(domains.count(domain) == 2 for domain in domains)


def test_every_training_of_the_demo_is_in_the_precision_of_this_machine():
    data = DemoData(precision="bfloat16")
    jobs = [data.adapter_job(data.added_label), data.selector_job(), data.add_job()]
    assert {job["settings"]["precision"] for job in jobs} == {"bfloat16"}
    assert all(job["settings"].keys() > {"epochs", "precision"} for job in jobs)
