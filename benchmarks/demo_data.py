"""The demo's rows, and texts near them that belong to no label; all of them lie in the repository."""

import json
from pathlib import Path

from benchmarks.selector_data import Pairs, Texts
from services.trainer.data.split import split_by_text
from services.trainer.evaluation.calibration import CalibrationTarget
from shared.contracts.labels import BACKGROUND

EXAMPLES = Path(__file__).parents[1] / "examples" / "data"
CASES = Path(__file__).parent / "cases"
LABELS = ("bank.accounts", "bank.cards", "travel.dining", "travel.driving", "travel.trips", BACKGROUND)


def rows(part: str) -> Pairs:
    """The rows of every label and of background: `train`, `validation` or `test`."""
    return [(text, label) for label in LABELS for text in inputs(EXAMPLES / f"{label}.{part}.jsonl", "input")]


def split(seed: int, validation_share: float = 0.1) -> tuple[Texts, Pairs]:
    """The training rows as a training job would split them: for training by label, and for validation."""
    train: Texts = {}
    validation: Pairs = []
    for label in LABELS:
        parts = split_by_text(
            inputs(EXAMPLES / f"{label}.train.jsonl", "input"), lambda text: text, validation_share, seed
        )
        train[label] = parts.train
        validation += [(text, label) for text in parts.validation]
    return train, validation


def target() -> CalibrationTarget:
    """What the demo's job asks of its thresholds."""
    job = json.loads((EXAMPLES.parent / "demo.json").read_text())["selector.train"]
    return CalibrationTarget(job["max_false_reject"], job["background_reject"])


def cases(name: str) -> list[str]:
    """Texts of one file of `cases`."""
    return inputs(CASES / f"{name}.jsonl", "text")


def inputs(file: Path, field: str) -> list[str]:
    return [json.loads(line)[field] for line in file.read_text().splitlines()]
