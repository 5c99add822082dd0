# ruff: noqa: RUF001
"""A task's forms are found from its rows, each with its reason, and decide with which others it may share."""

import pytest

from services.trainer.multitask.taxonomy import Task, groups_of, task_of
from shared.contracts.multitask import TaskOverride
from shared.contracts.rows import Row


def rows_of(inputs, answers, count=40):
    return [Row(input=inputs.format(n=n), output=answers[n % len(answers)].format(n=n)) for n in range(count)]


@pytest.mark.parametrize(
    ("inputs", "form"),
    [
        ("句子一：花呗怎么还款{n}\n句子二：花呗能延期吗{n}", "pair"),
        ("Sentence 1: it rains {n}\nSentence 2: the sun shines {n}", "pair"),
        ("Clause: we keep data {n}\nQuestion: how is it used?\n\nAnswer with yes or no.", "pair"),
        ("How long is it?\nOption A: {n} days\nOption B: a year\n\nAgreement: the text says {n}", "pair"),
        ("first line {n}\nsecond line", "pair"),
        ("句子：张三说他很高兴{n}。\n代词：他（第{n}字）\n名词短语：张三（第0字）", "single"),
        ("Question: what is {n}?\nA. one\nB. two\nC. three", "single"),
        ("my card number {n} was declined", "single"),
        ("Note: nothing but this {n}", "single"),
    ],
)
def test_two_marked_parts_are_a_pair_but_mentions_and_options_are_none(inputs, form):
    task = task_of(rows_of(inputs, ["yes", "no"]))
    assert task.input == form, task.reasons
    assert task.reasons[1].startswith(f"{form}: ")


@pytest.mark.parametrize(
    ("answers", "kind", "output"),
    [
        (["yes", "no"], "classification", "binary"),
        (["1", "2", "3", "4"], "classification", "ordinal"),
        (["Negative", "neutral", "positive"], "classification", "ordinal"),
        (["差", "中", "好"], "classification", "ordinal"),
        (["蕴含", "中立", "矛盾"], "classification", "multi-class"),
        (["sport", "news", "games"], "classification", "multi-class"),
        (["answer {n}"], "generation", "text"),
    ],
)
def test_few_answers_each_repeated_are_classification_and_ordered_ones_ordinal(answers, kind, output):
    task = task_of(rows_of("text {n}", answers))
    assert (task.kind, task.output) == (kind, output)
    assert len(task.reasons) == 3


def test_what_is_said_of_a_task_stands():
    said = TaskOverride(kind="generation", input="pair", output="text")
    task = task_of(rows_of("text {n}", ["yes", "no"]), said)
    assert (task.kind, task.input, task.output) == ("generation", "pair", "text")
    assert task.reasons == tuple(f"{form}: said in the overrides" for form in ("generation", "pair", "text"))


def test_classification_and_generation_never_share_and_a_split_keeps_more_apart():
    tasks = {
        "a.cwsc": Task("classification", "single", "binary", ()),
        "a.tnews": Task("classification", "single", "multi-class", ()),
        "a.afqmc": Task("classification", "pair", "binary", ()),
        "a.cmrc": Task("generation", "pair", "text", ()),
    }
    assert groups_of(tasks, "none", {}) == {
        "classification": ["a.cwsc", "a.tnews", "a.afqmc"],
        "generation": ["a.cmrc"],
    }
    assert len(groups_of(tasks, "input", {})) == 3
    assert len(groups_of(tasks, "output", {})) == 3
    assert len(groups_of(tasks, "both", {})) == 4
    own = {"a.tnews": TaskOverride(group="mine"), "a.cmrc": TaskOverride(group="mine")}
    assert groups_of(tasks, "both", own)["mine"] == ["a.tnews", "a.cmrc"]
