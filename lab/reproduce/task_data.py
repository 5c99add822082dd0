"""The rows of the paper's tasks: `<label>.train.jsonl.gz` for training, `<label>.test.jsonl.gz` for measuring."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from signalbox import Signalbox

from lab.reproduce.grid import Case
from services.cli.evaluate.labelled_rows import read_plain
from shared.contracts.rows import Row, dataset_id, dump_rows
from shared.errors import NotFound


class HeldOutRows(NamedTuple):
    """Test rows with their labels, and a digest that identifies them."""

    rows: list[Row]
    gold: list[str]

    @property
    def digest(self) -> str:
        """SHA-256 of rows and labels."""
        content = dump_rows(self.rows) + "\n".join(self.gold).encode()
        return hashlib.sha256(content).hexdigest()


class TaskRows:
    """The files of one folder; each is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, list[Row]] = {}

    def need(self, cases: Iterable[Case]) -> None:
        """Raise `NotFound` with every file that the cases need and the folder lacks."""
        stems = {stem for case in cases for stem in _stems(case)}
        missing = sorted(stem for stem in stems if self._file(stem) is None)
        if missing:
            names = ", ".join(f"{stem}.jsonl.gz" for stem in missing)
            raise NotFound("data_missing", f"{self._folder} lacks {names}: name the folder of the 12 tasks with --data")

    def upload(self, client: Signalbox, cases: Iterable[Case]) -> None:
        """Upload the data sets that the cases' jobs name, unless the system has these rows already."""
        known = {manifest["id"] for manifest in client.get("/v1/datasets")["items"]}
        wanted = {(stem, most) for case in cases for stem, most in _uploads(case)}
        for stem, most in sorted(wanted, key=str):
            if self.dataset(stem, most) not in known:
                client.post(
                    "/v1/datasets",
                    content=dump_rows(self._rows(stem)[:most]),
                    headers={"Content-Type": "application/x-ndjson"},
                    params={"name": stem if most is None else f"{stem}-{most}"},
                    timeout=300,
                )

    def body(self, case: Case) -> dict[str, Any]:
        """The case's job with ids of data sets in place of its labels."""
        job = dict(case.job)
        train = {label: self.dataset(f"{label}.train", case.train_rows) for label in _brought(case)}
        test = {label: self.dataset(f"{label}.test", case.test_rows) for label in _judged_on_test(case)}
        if case.condition.kind == "adapter.train":
            return {**job, "dataset": train[job["label"]], "validation": test[job["label"]]}
        if case.condition.kind == "comparison.train":
            return {**job, "labels": train, "evaluation": test, "evaluate_rows": len(self.test(case).rows)}
        return {**job, "labels": train} if train else job

    def test(self, case: Case) -> HeldOutRows:
        """The rows that the case is measured on."""
        return self.test_of(case.labels, case)

    def test_of(self, labels: Sequence[str], case: Case) -> HeldOutRows:
        """The test rows of some labels, up to `test_rows` of each."""
        own = {label: self._rows(f"{label}.test")[: case.test_rows] for label in labels}
        return HeldOutRows([row for rows in own.values() for row in rows], [x for x, rows in own.items() for _ in rows])

    def outputs(self, case: Case) -> dict[str, list[str]]:
        """All expected answers in the training rows of the labels that the case is measured on."""
        return {label: [row.output for row in self._rows(f"{label}.train")] for label in case.labels}

    def dataset(self, stem: str, most: int | None = None) -> str:
        """The id that the API gives these rows (the first `most` of them), a hash of their content."""
        return dataset_id(dump_rows(self._rows(stem)[:most]))

    def _rows(self, stem: str) -> list[Row]:
        if stem not in self._read:
            self._read[stem] = read_plain(self._existing(stem))
        return self._read[stem]

    def _existing(self, stem: str) -> Path:
        file = self._file(stem)
        if file is None:
            raise NotFound("data_missing", f"{self._folder} lacks {stem}.jsonl.gz")
        return file

    def _file(self, stem: str) -> Path | None:
        found = (self._folder / f"{stem}{ending}" for ending in (".jsonl.gz", ".jsonl"))
        return next((file for file in found if file.is_file()), None)


def _brought(case: Case) -> list[str]:
    """The labels whose data the job uploads; an update without new labels trains on no new data."""
    if case.condition.kind == "adapter.train":
        return [case.job["label"]]
    brings = case.condition.kind in ("selector.train", "selector.add", "comparison.train")
    return list(case.job["labels"]) if brings else []


def _judged_on_test(case: Case) -> list[str]:
    """The labels whose test rows the job itself evaluates on, so that it trains on all training rows."""
    return _brought(case) if case.condition.kind in ("adapter.train", "comparison.train") else []


def _uploads(case: Case) -> Iterator[tuple[str, int | None]]:
    """Files to upload, without their extension, and the number of rows of each."""
    for label in _brought(case):
        yield f"{label}.train", case.train_rows
    for label in _judged_on_test(case):
        yield f"{label}.test", case.test_rows


def _stems(case: Case) -> Iterator[str]:
    """All files that a case reads."""
    yield from (stem for stem, _ in _uploads(case))
    yield from (f"{label}.test" for label in case.labels)
    yield from (f"{label}.train" for label in case.labels if case.condition.adapters)
    yield from (f"{label}.test" for label in (case.job["labels"] if case.condition.kind == "selector.delete" else ()))
