"""`signalbox reproduce multitask-table…`: the multi-task paper's tables as queued jobs; what has ended is kept."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab.reproduce import multitask_report
from lab.reproduce.multitask_paper import (
    FEW_SHOT,
    LABELS,
    OURS,
    SAMPLERS,
    SINGLE,
    TABLES,
    PaperTable,
    method_of,
    models_of,
)
from services.cli.evaluate.labelled_rows import read_plain
from services.trainer.data.examples import InstructionRow
from shared.contracts.rows import Row, dataset_id, dump_rows
from shared.errors import NotFound

Run = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Takes the body of a training; returns the result of the job that has ended."""
Answer = Callable[[Sequence[InstructionRow]], Sequence[str]]
"""The base model's greedy answers."""
SHOTS = 5


class Size(NamedTuple):
    """How much of the data a run takes, and its settings."""

    train_rows: int | None
    test_rows: int | None
    max_steps: int
    settings: Mapping[str, Any]

    @property
    def note(self) -> str:
        """What the report says of it."""
        rows = f"{self.train_rows or 'all'} training and {self.test_rows or 'all'} test rows a task"
        return f"{rows}, at most {self.max_steps} steps of every sampler, settings `{json.dumps(dict(self.settings))}`"


FULL = Size(None, None, 15_000, {"learning_rate": 3e-4, "max_length": 512})
"""The paper trains all weights; a LoRA takes a rate ten times as high."""
QUICK = Size(48, 16, 120, {"learning_rate": 1e-3, "max_length": 192, "epochs": 4})


class Samples:
    """The rows of the tasks: `<label>.train.jsonl.gz` and `<label>.test.jsonl.gz` in one folder."""

    def __init__(self, folder: Path, size: Size) -> None:
        self._folder, self._size = folder, size

    def rows(self, label: str, part: str) -> list[Row]:
        """The rows of a task's part, as many as the run takes; raises `NotFound`."""
        file = self._folder / f"{label}.{part}.jsonl.gz"
        if not file.is_file():
            raise NotFound("data_missing", f"{self._folder} lacks {file.name}: name the folder of CLUE with --data")
        return read_plain(file)[: self._size.train_rows if part == "train" else self._size.test_rows]

    def dataset(self, label: str, part: str) -> str:
        """The id that the API gives these rows."""
        return dataset_id(dump_rows(self.rows(label, part)))


class Kept:
    """Results by what made them, in one file, so that a second run goes on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}

    def once(self, made_by: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """Return the result that is kept, or make and keep it."""
        key = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:24]
        if key not in self._known:
            self._known[key] = make()
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(self._known, indent=1))
            part.replace(self._file)
        return self._known[key]


class Tables:
    """Makes the lines of a table, one after the other."""

    def __init__(self, samples: Samples, size: Size, kept: Kept, run: Run, answer: Answer) -> None:
        self._samples, self._size, self._kept, self._run, self._answer = samples, size, kept, run, answer

    def lines(self, table: PaperTable) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield each line's scores by the paper's names of the tasks, as soon as they are known."""
        for line in table.lines:
            scores: dict[str, float] = {}
            for tasks in models_of(table, line):
                scores |= self._scores(method_of(line), tasks)
            yield line, scores

    def _scores(self, method: str, tasks: Sequence[str]) -> dict[str, float]:
        if method == FEW_SHOT:
            return {task: self._few_shot(LABELS[task]) for task in tasks}
        if method == SINGLE:
            return {task: self._trained(self._single(LABELS[task]))["adapter_exact_match"] for task in tasks}
        found = self._trained(self._shared(method, tasks))["exact_match"]
        return {task: found[LABELS[task]] for task in tasks}

    def _trained(self, body: dict[str, Any]) -> Mapping[str, Any]:
        result: Mapping[str, Any] = self._kept.once(body, lambda: dict(self._run(body)))
        return result

    def _single(self, label: str) -> dict[str, Any]:
        from shared.contracts.multitask import MultitaskSettings

        settings = MultitaskSettings.model_validate(self._size.settings).model_dump(mode="json", exclude={"template"})
        return {
            "kind": "adapter.train",
            "label": label,
            "dataset": self._samples.dataset(label, "train"),
            "validation": self._samples.dataset(label, "test"),
            "evaluate_rows": 10_000,
            "settings": settings,
        }

    def _shared(self, method: str, tasks: Sequence[str]) -> dict[str, Any]:
        labels = {LABELS[task]: self._samples.dataset(LABELS[task], "train") for task in tasks}
        body: dict[str, Any] = {
            "kind": "multitask.train",
            "labels": labels,
            "validation": {label: self._samples.dataset(label, "test") for label in labels},
            "evaluate_rows": 10_000,
            "sampler": SAMPLERS.get(method, "capped-temperature"),
            "max_steps": self._size.max_steps,
            "settings": dict(self._size.settings),
        }
        if method != OURS:
            return {**body, "two_stages": False}
        high = [label for label, task in self._planned(labels).items() if task["resource"] == "high"]
        return {**body, "high_resource": high}

    def _planned(self, labels: Mapping[str, str]) -> dict[str, Any]:
        """What a plan says of each label, one plan for each, with any second one: another table's tasks are others."""
        return {label: self._planned_with(label, labels) for label in sorted(labels)}

    def _planned_with(self, label: str, labels: Mapping[str, str]) -> Any:
        other = next(one for one in sorted(labels) if one != label)
        settings = dict(self._size.settings)
        body = {
            "kind": "multitask.plan",
            "labels": {name: labels[name] for name in (label, other)},
            "overrides": {other: {"resource": "low"}},
            "settings": settings,
        }
        key = {"plan": label, "dataset": labels[label], "settings": settings}
        return self._kept.once(key, lambda: self._run(body)["tasks"][label])

    def _few_shot(self, label: str) -> float:
        """Exact match of the base model after five random training rows (section 5.1.1)."""
        from services.trainer.evaluation.generate import exact_match

        key = {"few-shot": label, "rows": [self._samples.dataset(label, part) for part in ("train", "test")]}

        def measured() -> float:
            shown = random.Random(label).sample(self._samples.rows(label, "train"), SHOTS)  # noqa: S311
            rows = [few_shot_row(row, shown) for row in self._samples.rows(label, "test")]
            return round(exact_match(self._answer(rows), rows), 4)

        return float(self._kept.once(key, measured))


def few_shot_row(row: Row, shown: Sequence[Row]) -> InstructionRow:
    """Return a row whose instruction shows examples, in the form of the paper's appendix F."""
    examples = [f"示例{number}: {{{one.input}}} -> {one.output}" for number, one in enumerate(shown, 1)]
    return InstructionRow("\n".join([row.instruction, *examples, "以下输入:"]), row.input, row.output)


def reproduce(table: str, base: str, data: Path, folder: Path, *, quick: bool) -> int:
    """Make a table on the running system, and write it after each line; returns the exit code."""
    from lab.reproduce.multitask_system import System
    from services.cli.output import err, out

    if table not in TABLES:
        err.print(f"{table!r} is no table of the multi-task paper: name one of {', '.join(TABLES)}", markup=False)
        return 1
    size = QUICK if quick else FULL
    samples = Samples(data, size)
    system = System(base, samples, folder)
    system.upload([LABELS[task] for task in TABLES[table].tasks])
    kept = Kept(folder / "multitask.json")
    found: dict[str, dict[str, float]] = {}
    files: list[Path] = []
    for line, scores in Tables(samples, size, kept, system.run, system.answer).lines(TABLES[table]):
        found[line] = scores
        name = f"{table}-quick" if quick else table
        notes = [f"base model {system.base}", size.note, *system.notes]
        files = multitask_report.write(name, TABLES[table], found, notes, folder)
    for file in files:
        out.print(str(file), markup=False)
    return 0
