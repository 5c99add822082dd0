"""What each module took in, gave out and took away, added up over parts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from shared.contracts.corpus_clean import MAX_SAMPLES, CleanSample, ModuleReport

_SHOWN_CHARS = 200
_COUNTS = ("documents_in", "documents_out", "bytes_in", "bytes_out")


class Tally:
    """Counts of one part of the work."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = tuple(modules)
        self.notes: list[str] = []
        self.unreadable: list[str] = []
        self._counts = {module: [0, 0, 0, 0] for module in modules}
        self._taken = {module: Counter[str]() for module in modules}
        self._samples: dict[str, list[CleanSample]] = {module: [] for module in modules}

    def passed(self, module: str, bytes_in: int, bytes_out: int | None = None) -> None:
        """Count a document that a module let through."""
        if counts := self._counts.get(module):
            counts[0] += 1
            counts[1] += 1
            counts[2] += bytes_in
            counts[3] += bytes_in if bytes_out is None else bytes_out

    def took(self, module: str, bytes_in: int, reason: str, source: Mapping[str, Any], text: str) -> None:
        """Count a document that a module took out, and keep it as a sample while there are few."""
        self._counts[module][0] += 1
        self._counts[module][2] += bytes_in
        self.mended(module, {reason: 1}, source, text)

    def mended(self, module: str, changes: Mapping[str, int], source: Mapping[str, Any], text: str) -> None:
        """Count what a module changed or took out."""
        self._taken[module].update(changes)
        if len(self._samples[module]) < MAX_SAMPLES:
            why = ", ".join(changes)
            self._samples[module].append(CleanSample(source=dict(source), why=why, text=text[:_SHOWN_CHARS]))

    def report(self) -> dict[str, Any]:
        """Return all of it, as JSON holds it."""
        reports = {
            module: ModuleReport(
                **dict(zip(_COUNTS, self._counts[module], strict=True)),
                taken=dict(self._taken[module]),
                samples=tuple(samples),
            )
            for module, samples in self._samples.items()
        }
        modules = {module: report.model_dump(mode="json") for module, report in reports.items()}
        return {"modules": modules, "notes": self.notes, "unreadable": self.unreadable}


def together(reports: Sequence[Mapping[str, Any]]) -> dict[str, ModuleReport]:
    """Add up what parts reported, module by module."""
    joined: dict[str, ModuleReport] = {}
    for module, more in ((name, one) for report in reports for name, one in report["modules"].items()):
        new = ModuleReport.model_validate(more)
        joined[module] = _sum(joined[module], new) if module in joined else new
    return joined


def _sum(first: ModuleReport, second: ModuleReport) -> ModuleReport:
    return ModuleReport(
        **{name: getattr(first, name) + getattr(second, name) for name in _COUNTS},
        taken=dict(Counter(first.taken) + Counter(second.taken)),
        samples=(first.samples + second.samples)[:MAX_SAMPLES],
    )
