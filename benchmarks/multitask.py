"""Several tasks in one adapter, by four ways to draw them: how many keep 99 % of what their own adapter answers.

Each task's own adapter gets `--epochs` epochs, each shared one as many of all tasks together: the steps are the same
for every sampler, the seeds too. A task counts where its own adapter beats its commonest answer by 5 points, the
interval above 0; where fewer than four of CLUE do, run it with `--tasks as12 --rows 60`. What has been measured is kept
by task, seed and method: the same command goes on. The defaults are some 5,400 steps of 8 rows, for 150 minutes of 2
cores with a base model of 135 million weights; nothing new is begun after `--minutes`.
"""

import argparse
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.common import RESULTS, print_table, row, write_results
from benchmarks.common import Row as Figure
from benchmarks.selector_data import DATA, need_data
from lab.reproduce.multitask_run import Kept
from services.cli.evaluate.labelled_rows import read_plain
from services.trainer.data.split import same_text, split_by_text
from services.trainer.data.task_rows import as_training
from services.trainer.evaluation.answers import exact_matches
from services.trainer.evaluation.bootstrap import estimate
from services.trainer.evaluation.generate import answer_rows
from services.trainer.evaluation.template_scores import Scored
from services.trainer.multitask.samplers import drawn_rows
from services.trainer.multitask.stages import resource_of, stages_of
from services.trainer.training import lora
from services.trainer.training.loop import Callbacks
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.multitask import MultitaskTrain, is_qualified, overhead, usual_prefix
from shared.contracts.rows import Row
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.model.merge import with_adapter
from shared.prompts.bound import BasePrompts
from shared.settings import Settings

CLUE = ("cluewsc", "tnews", "csl", "afqmc", "iflytek", "ocnli")
METHODS: Mapping[str, Mapping[str, Any]] = {
    "ours": {"sampler": "capped-temperature"},
    "instance": {"sampler": "instance", "two_stages": False},
    "class": {"sampler": "class", "two_stages": False},
    "unimax": {"sampler": "unimax", "two_stages": False},
}
MARGIN = 0.05
FEWEST = 4


class Task(NamedTuple):
    """A task's rows; those of validation are taken from its training file."""

    label: str
    train: list[Row]
    validation: list[Row]
    test: list[Row]


class Bench:
    """Trains and measures; every answer of every test row is kept."""

    def __init__(self, args: argparse.Namespace, tasks: Sequence[Task]) -> None:
        self._tasks, self._base = tasks, resolve_base_model(Settings())
        self._tokenizer = load_tokenizer(self._base)
        prompts = BasePrompts(self._tokenizer, self._base)
        self._template = prompts.bind(BUILT_IN[prompts.usual])
        self._settings = {
            "learning_rate": args.learning_rate, "epochs": args.epochs, "batch_size": 8, "accumulate": 1,
            "max_length": args.max_length, "precision": "float32", "template": prompts.usual,
        }  # fmt: skip
        self._made_by = {"base": self._base.name, "rows": args.rows, "tests": args.tests, **self._settings}
        self._kept = Kept(args.state)

    def single(self, task: Task, seed: int) -> dict[str, Any]:
        """A task's own adapter: its answers, and its validation loss after each epoch."""
        key = {**self._made_by, "task": task.label, "seed": seed, "method": "single"}
        return dict(self._kept.once(key, lambda: self._train_single(task, seed)))

    def shared(self, method: str, seed: int) -> dict[str, Any]:
        """All tasks in one adapter: the answers to each task's test rows."""
        high = [task.label for task in self._tasks if resource_of(self.single(task, seed)["losses"]) != "low"]
        named = [task.label for task in self._tasks]
        key = {**self._made_by, "tasks": named, "seed": seed, "method": method, "high": high}
        return dict(self._kept.once(key, lambda: self._train_shared(method, seed, high)))

    def _body(self, seed: int, **more: Any) -> MultitaskTrain:
        labels = {task.label: "rows" for task in self._tasks}
        return MultitaskTrain(labels=labels, settings={**self._settings, "seed": seed}, **more)

    def _train_single(self, task: Task, seed: int) -> dict[str, Any]:
        steps = max(1, round(len(task.train) / 8))
        config = self._body(seed, two_stages=False).settings.model_copy(update={"checkpoint_steps": steps})
        with tempfile.TemporaryDirectory() as folder:
            epochs: list[Path] = []

            def keep(checkpoint: Path, step: int) -> None:
                epochs.append(Path(folder) / f"step-{step}")
                epochs[-1].mkdir()
                for name in (CONFIG_NAME, WEIGHTS_NAME):
                    shutil.copy(checkpoint / name, epochs[-1])

            made = lora.train_adapter(
                self._base, self._tokenizer, as_training(task.train), config=config, work_dir=Path(folder) / "run",
                callbacks=Callbacks(on_checkpoint=keep), template=self._template, cut_answers=True,
            )  # fmt: skip
            losses = [self._loss(task, epoch) for epoch in epochs]
            return {"losses": losses, "hits": self._hits(made, task, "")}

    def _train_shared(self, method: str, seed: int, high: Sequence[str]) -> dict[str, Any]:
        more = {"high_resource": high} if method == "ours" else {}
        body = self._body(seed, **METHODS[method], **more)
        own = {task.label: task for task in self._tasks}
        with tempfile.TemporaryDirectory() as folder:
            start: Path | None = None
            for stage in stages_of({label: len(task.train) for label, task in own.items()}, high, body):

                def draw(sizes: Sequence[int], stage: Any = stage) -> list[int]:
                    draws = stage.draws(body)
                    return drawn_rows(stage.sampling.probabilities(sizes, draws), sizes, draws, seed)

                rows = [as_training(own[label].train, usual_prefix(label)) for label in stage.labels]
                start = lora.train_drawn(
                    self._base, self._tokenizer, rows, draw, config=body.settings, work_dir=Path(folder) / stage.name,
                    start_from=start, template=self._template, cut_answers=True,
                )  # fmt: skip
            assert start is not None
            return {"hits": {label: self._hits(start, task, usual_prefix(label)) for label, task in own.items()}}

    def _hits(self, adapter: Path, task: Task, prefix: str) -> list[float]:
        model = with_adapter(load_model(self._base, "float32"), adapter)
        answers = answer_rows(
            model, self._tokenizer, as_training(task.test, prefix), template=self._template,
            max_tokens=int(self._settings["max_length"]),
        )  # fmt: skip
        return exact_matches(answers, [one.output for one in task.test])

    def _loss(self, task: Task, adapter: Path) -> float:
        model = with_adapter(load_model(self._base, "float32"), adapter)
        rows = as_training(task.validation)
        scored = Scored(model, self._tokenizer, rows, max_length=int(self._settings["max_length"]))
        (score,) = scored.scores({"usual": self._template}, answers=False)
        return score.loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", choices=("clue", "as12"), default="clue")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=120, help="training rows of each task")
    parser.add_argument("--tests", type=int, default=100, help="test rows of each task")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=150)
    parser.add_argument("--state", type=Path, default=RESULTS / "multitask_runs.json")
    args = parser.parse_args()
    need_data(args.data)
    tasks, seeds = list(_tasks(args)), range(args.seeds)
    bench, ends = Bench(args, tasks), time.monotonic() + 60 * args.minutes
    for seed in seeds:
        for one in [partial(bench.single, task) for task in tasks] + [partial(bench.shared, name) for name in METHODS]:
            if time.monotonic() > ends:
                print("the time is over: the same command goes on")
                return
            one(seed)
    singles = {seed: {task.label: bench.single(task, seed) for task in tasks} for seed in seeds}
    counted = [task.label for task in tasks if _counts(task, singles)]
    print(f"tasks that count: {', '.join(counted) or 'none'}")
    if len(counted) < FEWEST:
        print("fewer than four tasks count, so that there is no figure: run it again with --tasks as12 --rows 60")
        return
    shared = {name: {seed: bench.shared(name, seed)["hits"] for seed in seeds} for name in METHODS}
    rows = _figures(counted, singles, shared)
    write_results("multitask", rows)
    print_table(rows)


def _figures(
    counted: Sequence[str], singles: Mapping[int, Any], shared: Mapping[str, Mapping[int, Any]]
) -> list[Figure]:
    """The qualified tasks of each method, the median of the seeds; and the overhead of the best of ours."""
    found = {
        name: [_qualified(counted, singles[seed], own) for seed, own in by_seed.items()]
        for name, by_seed in shared.items()
    }
    others = max(median(counts) for name, counts in found.items() if name != "ours")
    rows = [
        row(
            f"multitask_qualified_{name}",
            median(counts),
            f"of {len(counted)} tasks",
            spread=f"{', '.join(map(str, counts))}, n={len(counts)}",
            goal=others if name == "ours" else None,
        )
        for name, counts in found.items()
    ]
    best = overhead(found["ours"])
    return rows if best is None else [*rows, row("multitask_overhead", best, "", goal=1 / 3, at_least=False)]


def _tasks(args: argparse.Namespace) -> Iterator[Task]:
    folder = args.data / args.tasks
    named = CLUE if args.tasks == "clue" else sorted(file.name[:-15] for file in folder.glob("*.train.jsonl.gz"))
    for label in named:
        rows = read_plain(folder / f"{label}.train.jsonl.gz")[: args.rows + args.rows // 4]
        split = split_by_text(rows, lambda one: one.input, 0.2, 0)
        tests = read_plain(folder / f"{label}.test.jsonl.gz")[: args.tests]
        yield Task(label, split.train[: args.rows], split.validation, tests)


def _counts(task: Task, singles: Mapping[int, Mapping[str, Any]]) -> bool:
    """Whether the task's own adapter beats its commonest answer by 5 points, the interval above 0."""
    commonest = Counter(same_text(one.output) for one in task.train).most_common(1)[0][0]
    plain = [float(same_text(one.output) == commonest) for one in task.test]
    gains = [hit - easy for own in singles.values() for hit, easy in zip(own[task.label]["hits"], plain, strict=True)]
    found = estimate([gains])
    return found.value >= MARGIN and found.low > 0


def _qualified(counted: Sequence[str], single: Mapping[str, Any], shared: Mapping[str, list[float]]) -> int:
    return sum(is_qualified(sum(shared[label]), sum(single[label]["hits"])) for label in counted)


if __name__ == "__main__":
    main()
