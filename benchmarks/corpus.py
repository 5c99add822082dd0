"""Cleaning a corpus: how fast, in how much memory, and how well near-duplicates are found.

Corpora are Mexican laws (`leyes_mx`), multiplied by changing words at random from a seed. Speed and memory are those of
the first three modules, from files to stored parts, in this process and those that it starts (two).
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.common import Row, median_row, print_table, row, write_results
from services.trainer.corpus.first_pass import Job, first_pass
from services.trainer.corpus.fuzzy import Near
from services.trainer.corpus.parts import Parts
from shared.contracts.corpora import CorpusFile
from shared.contracts.corpus_clean import CorpusClean, FuzzyDeduplication
from shared.registry.store import FolderStore

DATA = Path(__file__).parents[2] / "shared" / "data" / "leyes_mx"
FIRST_THREE = CorpusClean(corpus="laws", quality_filter=None, fuzzy_deduplication=None)
SHARES = (0.05, 0.1, 0.15, 0.2)
"""Of a near-duplicate's words, those that are edited."""
FILES = 4


class Run(NamedTuple):
    """One cleaning."""

    mb_per_s: float
    cpu_mb_per_s: float
    rss_mib: float
    """Peak of this process and those that it started, above what this one had before."""


class Found(NamedTuple):
    """Near-duplicates: of the pairs that are, those that were found; of those found, those that are."""

    near: int
    found: int
    claimed: int
    right: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--small-mb", type=int, default=30)
    parser.add_argument("--large-mb", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3, help="of the small corpus")
    parser.add_argument("--originals", type=int, default=2000, help="laws of which near-duplicates are planted")
    parser.add_argument("--out", type=Path, help="where the figures go; by default the benchmark's own file")
    args = parser.parse_args()
    with gzip.open(args.data / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        laws = [json.loads(line) for line in lines]
    # The processes of a trainer do not import its main module again, as it is a package's: those of this one need not.
    own: Any = sys.modules["__main__"]
    own.__spec__, own.__file__ = None, None
    rows = figures(args, laws)
    print_table(rows)
    write_results("corpus", rows, args.out)


def figures(args: argparse.Namespace, laws: list[dict[str, str]]) -> list[Row]:
    small = [cleaned(laws, args.small_mb) for _ in range(args.runs)]
    large = cleaned(laws, args.large_mb)
    found = planted([law["text"] for law in laws], args.originals)
    sizes = f"{args.small_mb} and {args.large_mb} MB"
    return [
        median_row("clean_mb_per_s", [one.mb_per_s for one in small], "MB/s", goal=10),
        median_row("clean_mb_per_cpu_s", [one.cpu_mb_per_s for one in small], "MB/CPU s"),
        row("clean_mb_per_s_large", large.mb_per_s, "MB/s"),
        row(
            "clean_rss_mib",
            max(large.rss_mib, *(one.rss_mib for one in small)),
            "MiB",
            spread=f"{statistics.median(one.rss_mib for one in small):.0f} and {large.rss_mib:.0f} at {sizes}",
            goal=500,
            at_least=False,
        ),
        row("dedup_recall", found.found / found.near, "share", spread=f"of {found.near}", goal=0.95),
        row("dedup_precision", found.right / found.claimed, "share", spread=f"of {found.claimed}", goal=0.98),
    ]


def cleaned(laws: list[dict[str, str]], mb: int) -> Run:
    """Clean a corpus of so many megabytes and measure it."""
    with tempfile.TemporaryDirectory() as folder:
        made = [corpus_file(laws, Path(folder), number, mb * 1_000_000 // FILES) for number in range(FILES)]
        parts = Parts(FolderStore(Path(folder) / "store"), "bench", "read", Path(folder))

        def fetch(file: CorpusFile, path: Path) -> None:
            path.unlink(missing_ok=True)
            os.link(Path(folder) / file.name, path)

        job = Job(FIRST_THREE, tuple(made), fetch, Path(folder), lambda: None, lambda *_, **__: None)
        seconds, cpu_seconds, rss_mib = measured(lambda: first_pass(job, parts))
        size = sum(file.size_bytes for file in made) / 1e6
        return Run(size / seconds, size / cpu_seconds, rss_mib)


def corpus_file(laws: list[dict[str, str]], folder: Path, number: int, size: int) -> CorpusFile:
    """Write one file of a corpus: laws in an order of its own, each with a word in fifty changed."""
    chance = random.Random(f"corpus {number}")
    path = folder / f"{number}.jsonl"
    written, digest = 0, hashlib.sha256()
    with path.open("wb") as out:
        while written < size:
            law = chance.choice(laws)
            line = json.dumps({**law, "text": edited(law["text"], 0.02, chance)}, ensure_ascii=False) + "\n"
            written += out.write(line.encode())
            digest.update(line.encode())
    return CorpusFile(name=path.name, sha256=digest.hexdigest(), size_bytes=written)


def measured(work: Callable[[], object]) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds of all processes, and the peak of their memory above that of before."""
    process, peak, is_over = psutil.Process(), [0], threading.Event()
    before, cpu_before = process.memory_info().rss, cpu_of(process)
    cpu = [0.0]

    def watch() -> None:
        while not is_over.wait(0.5):
            family = [process, *process.children(recursive=True)]
            peak[0] = max(peak[0], sum(rss_of(one) for one in family))
            cpu[0] = max(cpu[0], sum(map(cpu_of, family)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    is_over.set()
    watcher.join()
    return seconds, cpu[0] - cpu_before, (peak[0] - before) / 2**20


def rss_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def cpu_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
        return float(times.user + times.system)
    except psutil.NoSuchProcess:
        return 0.0


def edited(text: str, share: float, chance: random.Random) -> str:
    """Change, drop or double this share of a text's words."""
    words = text.split(" ")
    for place in range(len(words)):
        if chance.random() < share:
            words[place] = chance.choice(["", f"{words[place]} {words[place]}", chance.choice(words), "otrosí"])
    return " ".join(words)


def planted(texts: list[str], count: int) -> Found:
    """Plant edited copies among laws and count what is found, against the exact Jaccard index."""
    chance = random.Random("planted")
    settings = FuzzyDeduplication()
    originals = chance.sample(texts, count)
    copies = [(edited(text, share, chance), number) for number, text in enumerate(originals) for share in SHARES]
    chance.shuffle(copies)
    with tempfile.TemporaryDirectory() as folder:
        near = Near(Path(folder) / "near", settings)
        kept = [text for text, found in zip(originals, near.add(originals), strict=True) if found < 0]
        sets = [shingles(text, settings.shingle) for text in kept]
        holders: dict[tuple[str, ...], list[int]] = {}
        for number, own in enumerate(sets):
            for one in own:
                holders.setdefault(one, []).append(number)
        return Found(*map(sum, zip(*(judged(text, near, sets, holders, settings) for text, _ in copies), strict=True)))


def judged(
    text: str,
    near: Near,
    sets: list[set[tuple[str, ...]]],
    holders: dict[tuple[str, ...], list[int]],
    settings: FuzzyDeduplication,
) -> tuple[int, int, int, int]:
    """Ask for one copy: whether it is near a kept text, and found; whether it was claimed, and rightly."""
    own = shingles(text, settings.shingle)
    rivals = {number for one in own for number in holders.get(one, ())}
    exact = {number: len(own & sets[number]) / len(own | sets[number]) for number in rivals}
    is_near = any(value >= settings.threshold for value in exact.values())
    (claimed,) = near.nearest([text])
    return is_near, is_near and claimed >= 0, claimed >= 0, claimed >= 0 and exact.get(claimed, 0) >= settings.threshold


def shingles(text: str, length: int) -> set[tuple[str, ...]]:
    """Runs of words, as words alone: what Signalbox hashes, made without it."""
    words = "".join(sign if sign.isalnum() else " " for sign in text.casefold()).split()
    length = min(length, len(words))
    return set(zip(*(words[start:] for start in range(length)), strict=False))


if __name__ == "__main__":
    main()
