"""The demo's data sets, labels and training settings, from `examples/` of the repository."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from signalbox import Signalbox

from shared.contracts.labels import BACKGROUND
from shared.errors import NotFound

HELD_OUT_ROWS = 49
HELD_OUT_BACKGROUND = 60
EXAMPLES = Path(__file__).parents[3] / "examples"


class DemoRow(NamedTuple):
    """A text and its label; `none.none` is background."""

    text: str
    label: str


class DemoData:
    """Files `<label>.<part>.jsonl`, parts train, validation, test; settings in `demo.json`."""

    def __init__(self, folder: Path = EXAMPLES, precision: str = "float32") -> None:
        """`precision` is that of the trainings."""
        if not (folder / "demo.json").is_file():
            raise NotFound("examples_missing", f"no demo data in {folder}: run the demo from a clone of the repository")
        self._data = folder / "data"
        plan = json.loads((folder / "demo.json").read_text())
        self.first_labels: list[str] = plan["labels"]
        self.added_label: str = plan["added_label"]
        self._adapter: dict[str, Any] = _in_precision(plan["adapter.train"], precision)
        self._selector: dict[str, Any] = _in_precision(plan["selector.train"], precision)
        self._add: dict[str, Any] = _in_precision(plan["selector.add"], precision)

    @property
    def max_loss(self) -> float:
        """What a kept label may lose: validation sets of the demo are small, so a row counts several points."""
        return float(self._add["max_loss"])

    @property
    def labels(self) -> list[str]:
        """All labels, the added one last."""
        return [*self.first_labels, self.added_label]

    def upload(self, client: Signalbox) -> None:
        """Upload the data sets that the system does not have yet."""
        known = {dataset.name for dataset in client.datasets()}
        for label, part in itertools.product([*self.labels, BACKGROUND], ("train", "test")):
            name = f"{label}.{part}"
            if name not in known:
                client.upload_dataset(self._data / f"{name}.jsonl", name)

    def adapter_job(self, label: str) -> dict[str, Any]:
        """Body of `adapter.train`; it is measured on the test rows."""
        return {
            "kind": "adapter.train",
            "label": label,
            "dataset": f"{label}.train",
            "validation": f"{label}.test",
            **self._adapter,
        }

    def selector_job(self) -> dict[str, Any]:
        """Body of `selector.train` over the first labels."""
        sets = {label: f"{label}.train" for label in self.first_labels}
        return {
            "kind": "selector.train",
            "labels": sets,
            "background": f"{BACKGROUND}.train",
            "promote": True,
            **self._selector,
        }

    def add_job(self) -> dict[str, Any]:
        """Body of `selector.add` for the added label."""
        sets = {self.added_label: f"{self.added_label}.train"}
        return {"kind": "selector.add", "labels": sets, "promote": True, **self._add}

    def held_out(self) -> list[DemoRow]:
        """Test rows of every label, and background rows."""
        counts = dict.fromkeys(self.labels, HELD_OUT_ROWS) | {BACKGROUND: HELD_OUT_BACKGROUND}
        return [DemoRow(text, label) for label, n in counts.items() for text in _spread(self.texts(label, "test"), n)]

    def stream(self) -> Iterator[DemoRow]:
        """An endless mixture of test rows: the labels in turn, with background rows among them."""
        shuffled = random.Random(0)  # noqa: S311
        pools = {label: self.texts(label, "test") for label in [*self.labels, BACKGROUND]}
        for texts in pools.values():
            shuffled.shuffle(texts)
        endless = {label: itertools.cycle(texts) for label, texts in pools.items()}
        order = [*self.first_labels, BACKGROUND, self.added_label]
        return (DemoRow(next(endless[label]), label) for label in itertools.cycle(order))

    def texts(self, label: str, part: str) -> list[str]:
        """The inputs of one file."""
        lines = (self._data / f"{label}.{part}.jsonl").read_bytes().splitlines()
        return [json.loads(line)["input"] for line in lines if line.strip()]


def _in_precision(job: dict[str, Any], precision: str) -> dict[str, Any]:
    return {**job, "settings": {**job["settings"], "precision": precision}}


def _spread(texts: list[str], count: int) -> list[str]:
    """`count` texts at even distances, because the files are ordered by intent."""
    return [texts[at * len(texts) // count] for at in range(min(count, len(texts)))]
