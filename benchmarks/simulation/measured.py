"""The service times that other benchmarks measured."""

import json
import math
from typing import Any, NamedTuple

from benchmarks.common import RESULTS

CPU_SPLIT_MS = {"api": 1.05, "selector": 1.25, "worker": 1.15, "ledger": 0.65, "broker": 0.13}
"""A job's CPU time by part, from the row "after" in `docs/performance.md`; scaled to `routed_per_cpu_s`."""
SCRIPT_US, SCRIPT_COMMANDS, LEDGER_CALLS = 250, 50, 5
"""A job's ledger scripts, their commands and their number: `docs/performance.md`, "What the profile showed"."""
SLOTS = 8  # worker_slots
TOKENS = 32


class Measured(NamedTuple):
    """Service times in seconds, from the results of other benchmarks."""

    step_s: float
    """The fixed part of an engine step: `mixed_batch.json`, from batches of 8 and of 32."""
    row_s: float
    """The time that each row adds to a step, prefill of short prompts included."""
    cpu_s: dict[str, float]
    """A job's CPU time by part: `routed.json` `routed_per_cpu_s`, shared as `CPU_SPLIT_MS`."""
    accept_p50_s: float
    light_s: float
    llm_s: float
    llm_share: float
    load_s: float
    """An adapter from the disk into a slot: the engine's thread does nothing else meanwhile."""
    fetch_s: float
    canary_s: float
    start_s: float
    """A worker from its start to its first token."""
    fsync_s: float = 0.0
    """An fsync of the ledger; fitted to the accept's median."""

    @classmethod
    def read(cls) -> "Measured":
        """All but the fsync time, which `road.fitted` finds."""
        eight, many = (
            SLOTS * TOKENS / figure("mixed_batch", "mixed8_tokens_per_s"),
            32 * TOKENS / figure("mixed_batch", "mixed_tokens_per_s"),
        )
        per_row = (many - eight) / (32 - SLOTS)
        scale = 1 / figure("routed", "routed_per_cpu_s") / sum(CPU_SPLIT_MS.values())
        return cls(
            step_s=(eight - SLOTS * per_row) / TOKENS,
            row_s=per_row / TOKENS,
            cpu_s={part: ms * scale for part, ms in CPU_SPLIT_MS.items()},
            accept_p50_s=note(figure("accept", "accept_p99_ms", "spread"), "p50 ") / 1000,
            light_s=figure("selector_score", "light_score_ms") / 1000,
            llm_s=figure("selector_score", "score_ms") / 1000,
            llm_share=figure("selectors", "cascade_llm_share"),
            load_s=figure("adapter_bank", "adapter_load_disk_ms") / 1000,
            fetch_s=figure("adapter_bank", "adapter_load_s3_ms") / 1000,
            canary_s=figure("adapter_bank", "adapter_canary_ms") / 1000,
            start_s=figure("worker_start", "worker_first_token_s"),
        )

    @property
    def call_s(self) -> float:
        """The ledger's CPU for one call."""
        return self.cpu_s["ledger"] / LEDGER_CALLS

    @property
    def piece_s(self) -> float:
        """The ledger's CPU for a piece of streamed text: three commands of a script (is it owned, two streams)."""
        return 3 * SCRIPT_US / SCRIPT_COMMANDS / 1e6

    def tokens_per_s(self, batch: int) -> float:
        return batch / (self.step_s + batch * self.row_s)


def figure(benchmark: str, key: str, column: str = "value") -> Any:
    """A figure of another benchmark, as it was last measured."""
    found = json.loads((RESULTS / f"{benchmark}.json").read_text())["rows"]
    return next(line[column] for line in found if line["key"] == key)


def note(spread: str, what: str) -> float:
    """A number out of a spread, `p50 2.6, max 21.5`."""
    return float(spread.partition(what)[2].partition(",")[0])


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else math.nan
