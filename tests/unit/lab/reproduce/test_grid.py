"""The grids that ship, and what is refused in one."""

import pytest

from lab.reproduce.grid import cases_of, grid_names, load_grid, merged, parse_grid
from shared.contracts.training import SelectorTrain, parse_training
from shared.errors import Invalid
from tests.support.reproduce_samples import GRID, YAML, case_of

TABLES = ["figure2", "figure4", "goals", "table1", "table1-answers", "table2", "table3", "table4"]


def body(case):
    """The case's job as the API would get it."""
    kind = case.condition.kind
    brings = kind in ("selector.train", "selector.add", "comparison.train")
    more = {"labels": dict.fromkeys(case.job["labels"], "ds_1")} if brings else {}
    return parse_training({**case.job, **more, **({"dataset": "ds_1"} if kind == "adapter.train" else {})})


def test_every_table_and_figure_of_the_paper_has_a_grid():
    assert grid_names() == TABLES


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("quick", [False, True])
def test_every_case_is_a_training_job_that_the_api_takes(name, quick):
    grid = load_grid(name)
    cases = cases_of(grid, quick=quick)
    assert cases
    for case in cases:
        assert body(case).kind == case.condition.kind
        assert set(case.labels) <= set(grid.labels)
    assert len({case.name for case in cases}) == len(cases)


@pytest.mark.parametrize(("name", "tasks", "conditions"), [("table1", 6, 15), ("table2", 12, 15), ("figure4", 12, 16)])
def test_the_full_grids_have_the_papers_lines_and_settings(name, tasks, conditions):
    cases = [case for case in cases_of(load_grid(name), quick=False) if case.text == "input"]
    assert len(cases) == conditions
    for case in cases:
        job = body(case)
        assert isinstance(job, SelectorTrain)
        assert len(job.labels) == tasks
        assert job.readout == "names"
        settings = job.settings
        assert (settings.dropout, settings.learning_rate, settings.epochs, settings.max_length) == (0.05, 4e-4, 5, 512)


def test_table_1_tells_the_papers_best_line_and_its_last_three_are_a_grid_of_their_own():
    grid = load_grid("table1")
    best = next(condition for condition in grid.conditions if condition.id == "14")
    assert best.paper == (0.989, 0.999, 1, 0.999, 0.999, 0.966, 0.973)
    answers = [condition.id for condition in load_grid("table1-answers").conditions if condition.paper]
    assert answers == ["MFTCoder", "MoE LoRA", "adapters behind selector 14"]


def test_the_three_answering_models_learn_from_the_same_rows_with_the_same_lora():
    for quick in (False, True):
        cases = cases_of(load_grid("table1-answers"), quick=quick)
        trained = [case for case in cases if case.condition.kind != "selector.train"]
        assert len({(case.train_rows, str(body(case).settings)) for case in trained}) == 1


def test_table_3_stands_under_the_right_labels():
    grid = load_grid("table3")
    origin = next(condition for condition in grid.conditions if condition.id == "add origin")
    selector_13 = next(condition for condition in load_grid("table1").conditions if condition.id == "13")
    mine = dict(zip(["accuracy", *grid.labels], origin.paper, strict=True))
    theirs = dict(zip(["accuracy", *load_grid("table1").labels], selector_13.paper, strict=True))
    assert {label: value for label, value in mine.items() if value is not None} == pytest.approx(theirs, abs=2e-3)


def test_quick_keeps_two_embedders_two_distances_and_all_tasks_of_the_tables():
    for name in ("table1", "table2"):
        jobs = [body(case) for case in cases_of(load_grid(name), quick=True)]
        assert {job.selection.embedder for job in jobs} == {"embedding-layer", "sentence-transformers"}
        assert {job.selection.distance for job in jobs} == {"l2", "cos"}
        assert {len(job.labels) for job in jobs} == {len(load_grid(name).labels)}
        assert {job.text for job in jobs} == {"input", "instruction+input"}


def test_a_condition_takes_the_words_of_its_kind_then_its_own_then_quicks():
    full, quick = case_of("2"), case_of("2", quick=True)
    assert full.job["settings"] == {"rank": 8, "epochs": 5}
    assert quick.job["settings"] == {"rank": 8, "epochs": 1}
    assert (full.job["selector"], quick.job["selector"]) == ("cascade", "light")
    assert (full.test_rows, quick.test_rows) == (None, 2)
    assert case_of("1", "instruction+input").job["text"] == "instruction+input"
    assert merged({"a": {"b": 1}, "c": 2}, {"a": {"d": 3}, "c": 4}) == {"a": {"b": 1, "d": 3}, "c": 4}


def test_an_update_comes_after_its_parent_and_reads_what_that_reads():
    names = [case.name for case in cases_of(GRID, quick=False)]
    assert names.index(("gone", "input")) > names.index(("1", "input"))
    assert names.index(("answering", "input")) > names.index(("adapter", "input"))
    assert ("adapter", "instruction+input") not in names
    assert "text" not in case_of("gone").job
    assert case_of("gone").labels == ("fin.sa",)


def test_only_brings_the_parents_along_and_knows_every_name():
    assert {case.condition.id for case in cases_of(GRID, quick=False, only=["gone"])} == {"gone", "1"}
    with pytest.raises(Invalid, match="no condition 7"):
        cases_of(GRID, quick=False, only=["7"])
    with pytest.raises(Invalid, match="no condition gone"):
        cases_of(GRID, quick=True, only=["gone"])


def test_an_unknown_table_is_told_which_there_are():
    with pytest.raises(Invalid, match="name one of figure2, figure4, goals, table1,"):
        load_grid("table9")
    with pytest.raises(Invalid, match="there is no grid"):
        load_grid("../grids/table1")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[0.9, 0.95, null]", "[0.9, 0.95]", "not 3 numbers of the paper: 1"),
        ('parent: "1"', "parent: nobody", "no condition is called nobody"),
        ('- {id: "2", show', '- {id: "1", show', "two conditions"),
        (
            '[{id: "1"}, {id: "2", job: {selector: light}}, {id: adapter}, {id: theirs}]',
            "[{id: gone}]",
            "quick leaves out what these need: gone",
        ),
        ("{id: adapter, texts: [input]", "{id: adapter, texts: [instruction+input]", "not run under all .*: answering"),
        ("adapters: [adapter]", "adapters: [gone]", "may need none itself"),
        ("source: section 5", "origin: section 5", "source"),
        ("title: A table", "title: [", "no YAML"),
    ],
)
def test_a_grid_that_is_wrong_says_where(old, new, says):
    assert old in YAML
    with pytest.raises(Invalid, match=says) as error:
        parse_grid(YAML.replace(old, new), "sample")
    assert error.value.code == "grid_malformed"
