"""The rows of the paper's tasks: files `<label>.train.jsonl.gz` to learn from, `<label>.test.jsonl.gz` to route."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from services.cli.client import Client
from services.cli.labelled import read_plain
from services.cli.reproduce.grid import Case
from shared.datasets import Row, dataset_id, dump_rows
from shared.errors import NotFound

_BRINGING = ("selector.train", "selector.add")


class HeldOutRows(NamedTuple):
    """Rows to route, with the label of each, and what names them."""

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
        """Raise `NotFound` that names every file the cases need and the folder lacks."""
        stems = {stem for case in cases for stem in (*_train_stems(case), *(f"{label}.test" for label in case.labels))}
        missing = sorted(stem for stem in stems if self._file(stem) is None)
        if missing:
            names = ", ".join(f"{stem}.jsonl.gz" for stem in missing)
            raise NotFound("data_missing", f"{self._folder} lacks {names}: name the folder of the 12 tasks with --data")

    def upload(self, client: Client, cases: Iterable[Case]) -> None:
        """Upload what the cases train on, unless the system has these rows already."""
        from services.cli.main import upload_dataset

        known = {manifest["id"] for manifest in client.get("/v1/datasets")["items"]}
        for stem in sorted({stem for case in cases for stem in _train_stems(case)}):
            if self.dataset(stem) not in known:
                upload_dataset(client, self._existing(stem), stem)

    def body(self, case: Case) -> dict[str, Any]:
        """The case's job with data sets in the place of the labels it brings."""
        if case.condition.kind not in _BRINGING:
            return dict(case.job)
        return {**case.job, "labels": {label: self.dataset(f"{label}.train") for label in case.job["labels"]}}

    def test(self, case: Case) -> HeldOutRows:
        """The rows that the case is measured on."""
        own = {label: self._rows(f"{label}.test")[: case.test_rows] for label in case.labels}
        return HeldOutRows([row for rows in own.values() for row in rows], [x for x, rows in own.items() for _ in rows])

    def dataset(self, stem: str) -> str:
        """The id that the API gives these rows: it is made of their content."""
        return dataset_id(dump_rows(self._rows(stem)))

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


def _train_stems(case: Case) -> list[str]:
    """Files without their ending; an update that brings no labels trains on none."""
    return [f"{label}.train" for label in case.job["labels"]] if case.condition.kind in _BRINGING else []
