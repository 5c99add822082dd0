"""Drift in simulated traffic of CLINC150: shifts that are found, and alarms where nothing changes.

`benchmarks/traffic_data.py` says what windows, shifts, months, findings and alarms are. The selector is a light one;
all that the tests see of a request is its text and what the selector made of it. The screen shows each shift with the
kinds of findings in the two windows after it.
"""

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.selector_data import DATA, need_data
from benchmarks.selector_outside import selected, trained
from benchmarks.traffic_data import (
    FIRST_WINDOWS,
    MONTHS,
    MUST_FIND,
    SIZES,
    WINDOW,
    WINDOWS_A_MONTH,
    WINDOWS_TO_FIND,
    Population,
    Rows,
    Shift,
    drawn,
    rows,
    shifts,
    usual,
)
from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.traffic.drift import Finding, findings
from services.trainer.traffic.vectors import NgramSpace
from services.trainer.traffic.window import Reference, Request, Window, reference_of, window_of
from shared.model.features import Floats

FALSE_REJECTS = 0.05
GOALS = {"drift_found": 0.95, "drift_false_alarms": 1.0}


class Reader:
    """What the selector makes of each text, and its vector; each text is read once."""

    def __init__(self, known: Rows) -> None:
        self._selector, self._score = trained(known.learnt, known.validation, CalibrationTarget(FALSE_REJECTS))
        self._space = NgramSpace([text for own in known.learnt.values() for text in own])
        self._read: dict[str, tuple[Request | None, Floats]] = {}

    def window(self, texts: Sequence[str]) -> Window:
        new = [text for text in dict.fromkeys(texts) if text not in self._read]
        if new:
            requests = selected(new, self._selector, self._score)
            self._read |= zip(new, zip(requests, self._space.vectors(new), strict=True), strict=True)
        read = [self._read[text] for text in texts]
        return window_of([request for request, _ in read], np.array([vector for _, vector in read]))


class Stream:
    """Windows of a population after its reference was drawn, one after the other, and what they show."""

    def __init__(self, reader: Reader, validation: Window, before: Population, seed: str) -> None:
        self._reader = reader
        self._chance = random.Random(seed)
        self._reference: Reference = reference_of(validation, [self._window(before) for _ in range(FIRST_WINDOWS)])
        self._last: list[Finding] = []
        self._at = 0

    def _window(self, population: Population) -> Window:
        return self._reader.window(drawn(population, WINDOW, self._chance))

    def news(self, population: Population) -> list[Finding]:
        """The findings of the next window that the one before it does not have."""
        self._at += 1
        known = {one.kind for one in self._last}
        window = self._window(population)
        self._last = findings(
            self._reference, window, str(self._at), self._last, windows_a_month=WINDOWS_A_MONTH, seed=self._at
        )
        return [one for one in self._last if one.kind not in known]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--months", type=int, default=MONTHS)
    args = parser.parse_args()
    need_data(args.data)
    started = time.process_time()
    known = rows(args.data)
    reader = Reader(known)
    validation = reader.window([text for text, _ in known.validation])
    print(f"selector fitted after {time.process_time() - started:.0f} CPU s", flush=True)
    made = found_rows(reader, validation, shifts(known, args.data))
    made += alarm_rows(reader, validation, known, args.months)
    made.append(row("drift_cpu_seconds", time.process_time() - started, "CPU s"))
    print_table(made)
    write_results("drift", made)


def found_rows(reader: Reader, validation: Window, planted: Sequence[Shift]) -> list[Row]:
    found = [first_findings(reader, validation, shift) for shift in planted]
    for shift, kinds in zip(planted, found, strict=True):
        print(f"{shift.kind:9} {shift.name:13} {shift.size}  {' | '.join(' '.join(one) or '-' for one in kinds)}")
    pairs = [(shift, any(kinds)) for shift, kinds in zip(planted, found, strict=True)]
    made = [share_row("drift_found", [hit for shift, hit in pairs if shift.size >= MUST_FIND])]
    for size in SIZES:
        for kind in ("label", "outside", "reworded"):
            hits = [hit for shift, hit in pairs if (shift.kind, shift.size) == (kind, size)]
            made.append(share_row(f"drift_found_{kind}_{size}", hits))
    return made


def first_findings(reader: Reader, validation: Window, shift: Shift) -> list[list[str]]:
    """The kinds that are new in each of the windows after the shift."""
    stream = Stream(reader, validation, shift.before, f"{shift.kind} {shift.name} {shift.size}")
    stream.news(shift.before)
    return [[one.kind for one in stream.news(shift.after)] for _ in range(WINDOWS_TO_FIND)]


def share_row(key: str, hits: Sequence[bool]) -> Row:
    return row(key, float(np.mean(hits)), "share", spread=f"{sum(hits)} of {len(hits)}", goal=GOALS.get(key))


def alarm_rows(reader: Reader, validation: Window, known: Rows, months: int) -> list[Row]:
    alarms: list[int] = []
    kinds: list[str] = []
    for month in range(months):
        population = usual(known, random.Random(f"month {month}"))
        stream = Stream(reader, validation, population, f"month {month}")
        news = [stream.news(population) for _ in range(WINDOWS_A_MONTH)]
        alarms.append(sum(map(len, news)))
        kinds += [one.kind for own in news for one in own]
        print(f"month {month}: {alarms[-1]} alarms", flush=True)
    spread = f"{min(alarms)} to {max(alarms)}, n={months}; {counted(kinds)}"
    goal = {"goal": GOALS["drift_false_alarms"], "at_least": False}
    return [row("drift_false_alarms", float(np.mean(alarms)), "a month", spread=spread, **goal)]


def counted(kinds: Sequence[str]) -> str:
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))


if __name__ == "__main__":
    main()
