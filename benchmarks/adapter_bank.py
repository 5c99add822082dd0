"""The cost of loading an adapter, and of adapters that are loaded but unused."""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import torch

from benchmarks.adapters_kit import copies, engine, make_adapters, make_requests, paired, run_engine
from benchmarks.common import Row, median_row, print_table, write_results
from services.adapter_worker.adapters.disk_cache import DiskCache
from services.adapter_worker.engine.native.engine import NativeEngine
from services.cli.local.servers import free_ports, s3_server
from shared.ledger import Ledger
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.settings import Settings

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
        with engine(slots=4) as made:
            rows = [*load_times(made, adapters, args.runs), store_times(made, first, Path(folder) / "s3", args.runs)]
        rows += growth(adapters, args)
    print_table(rows)
    print(write_results("adapter_bank", rows))


def load_times(made: NativeEngine, adapters: dict[str, Path], runs: int) -> list[Row]:
    """Time from a file on disk to a usable slot, evictions included; the canary is timed separately."""
    with canaries(made) as canary_times:
        few = list(adapters.items())[: runs * 4]
        whole = [timed(lambda name=name, folder=folder: made.load_adapter(name, folder)) for name, folder in few]
    loads = [total - canary for total, canary in zip(whole, canary_times, strict=True)]
    return [
        median_row("adapter_load_disk_ms", loads, "ms", goal=10, at_least=False),
        median_row("adapter_canary_ms", canary_times, "ms"),
    ]


def store_times(made: NativeEngine, adapter: Path, folder: Path, runs: int) -> Row:
    """The same from an S3 server on loopback: download, digest, disk cache and slot, without the canary."""
    with s3_registry(folder) as (registry, cache):
        digest = registry.weights.put(adapter)
        disk = DiskCache(registry.weights.fetch, cache / "adapters", max_bytes=1 << 30)
        whole = []
        with canaries(made) as canary_times:
            for n in range(runs * 4 + 1):
                shutil.rmtree(cache / "adapters", ignore_errors=True)
                whole.append(timed(lambda n=n: made.load_adapter(f"stored-{n}", disk.fetch(digest))))
    loads = [total - canary for total, canary in zip(whole, canary_times, strict=True)][1:]  # the first one connects
    return median_row("adapter_load_s3_ms", loads, "ms", goal=60, at_least=False)


@contextmanager
def s3_registry(folder: Path) -> Iterator[tuple[Registry, Path]]:
    """A registry over an S3 server of its own, and its cache folder; it uses no Redis."""
    settings = Settings(s3_url=f"http://127.0.0.1:{free_ports(1)[0]}", data_dir=folder / "data")
    server = s3_server(settings, folder / "server")
    server.start()
    try:
        yield Registry(Ledger(settings.redis_url), S3Store(settings), settings.cache_dir), settings.cache_dir
    finally:
        server.stop()


@contextmanager
def canaries(made: NativeEngine) -> Iterator[list[float]]:
    """Record the milliseconds of every canary in the meantime."""
    validate_adapter, times = made._runner.validate_adapter, []
    made._runner.validate_adapter = lambda digest: times.append(timed(lambda: validate_adapter(digest)))  # type: ignore[method-assign]
    yield times
    made._runner.validate_adapter = validate_adapter  # type: ignore[method-assign]


def timed(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def growth(adapters: dict[str, Path], args: argparse.Namespace) -> list[Row]:
    """The same mixed batch with 12 adapters in memory, with 128, and over 1,000 names that share 32 slots."""
    names = list(adapters)
    requests = make_requests(names[:IN_BATCH], args.requests, args.tokens)
    registered = cycle(range(REGISTERED))
    with engine(slots=SLOTS["few"]) as few, engine(slots=SLOTS["few"]) as thousand, engine(slots=SLOTS["many"]) as many:
        for name in names[:IN_BATCH]:
            few.load_adapter(name, adapters[name])
        for name in names:
            many.load_adapter(name, adapters[name])

        def load_next() -> str:
            number = next(registered)
            thousand.load_adapter(f"registered-{number}", adapters[names[number % len(names)]])
            return f"registered-{number}"

        for _ in range(REGISTERED):  # each has its canary now, once in a worker's life
            load_next()

        def next_of_thousand() -> int:
            """The worst case: every adapter of the batch must be loaded, and another one evicted."""
            return run_engine(
                thousand, make_requests([load_next() for _ in range(IN_BATCH)], args.requests, args.tokens)
            )

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
