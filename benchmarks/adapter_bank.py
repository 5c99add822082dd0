"""What an adapter costs when it comes, and what all the others cost that are only there."""

import argparse
import tempfile
import time
from itertools import cycle
from pathlib import Path

import torch

from benchmarks.adapters_kit import copies, engine, make_adapters, make_requests, paired, run_engine
from benchmarks.common import Row, median_row, print_table, write_results
from services.adapter_worker.infra.engines.transformers import TransformersEngine

IN_BATCH = 12
SLOTS = {"few": 32, "many": 128}
REGISTERED = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        (first,) = make_adapters(Path(folder) / "made", 1).values()
        adapters = copies(first, Path(folder) / "copies", SLOTS["many"])
        rows = [*load_times(adapters, args.runs), *growth(adapters, args)]
    print_table(rows)
    print(write_results("adapter_bank", rows))


def load_times(adapters: dict[str, Path], runs: int) -> list[Row]:
    """Time from a file on disk to a slot that may join a batch, evictions included, and of the canary apart."""
    with engine(slots=4) as made:
        proofs: list[float] = []
        prove = made._runner.prove

        def timed(digest: str) -> None:
            started = time.perf_counter()
            prove(digest)
            proofs.append((time.perf_counter() - started) * 1000)

        made._runner.prove = timed  # type: ignore[method-assign]
        whole = [timed_load(made, name, folder) for name, folder in list(adapters.items())[: runs * 4]]
    loads = [total - proof for total, proof in zip(whole, proofs, strict=True)]
    return [
        median_row("adapter_load_disk_ms", loads, "ms", goal=10, at_least=False),
        median_row("adapter_canary_ms", proofs, "ms"),
    ]


def timed_load(made: TransformersEngine, name: str, folder: Path) -> float:
    started = time.perf_counter()
    made.load_adapter(name, folder)
    return (time.perf_counter() - started) * 1000


def growth(adapters: dict[str, Path], args: argparse.Namespace) -> list[Row]:
    """The same mixed batch with 12 adapters in memory, with 128, and over 1,000 names that share 32 slots."""
    names = list(adapters)
    requests = make_requests(names[:IN_BATCH], args.requests, args.tokens)
    registered = cycle(range(REGISTERED))
    with engine(slots=SLOTS["few"]) as few, engine(slots=SLOTS["few"]) as thousand, engine(slots=SLOTS["many"]) as many:
        for made in (few, many, thousand):
            made._runner.prove = lambda _digest: None  # type: ignore[method-assign]  # measured apart
        for name in names[:IN_BATCH]:
            few.load_adapter(name, adapters[name])
        for name in names:
            many.load_adapter(name, adapters[name])

        def next_of_thousand() -> int:
            """As if no adapter of the batch had been asked for lately: each is loaded, and another one evicted."""
            mine = [f"registered-{next(registered)}" for _ in range(IN_BATCH)]
            for n, name in enumerate(mine):
                thousand.load_adapter(name, adapters[names[n]])
            return run_engine(thousand, make_requests(mine, args.requests, args.tokens))

        runs = {
            "few": lambda: run_engine(few, requests),
            "many": lambda: run_engine(many, requests),
            "thousand": next_of_thousand,
        }
        pairs = [paired(runs) for _ in range(args.runs + 1)][1:]

    def drops(name: str) -> list[float]:
        return [1 - pair[name][0] / pair["few"][0] for pair in pairs]

    return [
        median_row("growth_128_drop", drops("many"), "share", goal=0.05, at_least=False),
        median_row("growth_1000_drop", drops("thousand"), "share", goal=0.10, at_least=False),
        *(median_row(f"{name}_tokens_per_cpu_s", [pair[name][0] for pair in pairs], "tokens/CPU s") for name in runs),
    ]


if __name__ == "__main__":
    main()
