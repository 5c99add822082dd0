"""Data selection on the paper's 12 tasks: its clustering against scikit-learn's k-means++, and the whole selection.

Vectors are those of the embedding layer. Both ways cluster the same 10,000 of them on one thread, one after the other,
and are compared in CPU time. The whole, k = 1000 for each task, runs in a process of its own from texts to chosen rows;
its seconds are of the wall clock, on `--threads` threads.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.common import Row, median_row, print_table, write_results
from benchmarks.selector_data import Texts, as12, need_data
from services.trainer.data.embedders import embedder
from services.trainer.data.kmeans import cluster
from services.trainer.data.representation import representation_set
from shared.contracts.training_settings import RepresentationSettings
from shared.model.base import load_tokenizer, resolve_base_model
from shared.model.features import Floats, normalised
from shared.model.text_vectors import Embed
from shared.settings import Settings

ROWS, CENTROIDS = 10_000, 1000
ALL_ROWS = 1_000_000
SPACES = {"": RepresentationSettings(), "_cos": RepresentationSettings(distance="cos")}
"""Summed vectors as they are, and at length 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of the selection as a whole")
    parser.add_argument("--once", action="store_true", help="choose rows once, print seconds and memory")
    args = parser.parse_args()
    need_data()
    if args.once:
        print(json.dumps(select_once()))
        return
    rows = [*clustering_rows(args.runs), *selection_rows(args.runs, args.threads)]
    print_table(rows)
    write_results("data_selection", rows)


def embed_with(selection: RepresentationSettings) -> Embed:
    base = resolve_base_model(Settings())
    return embedder(selection, base, load_tokenizer(base))


def task_texts() -> Texts:
    """Every distinct input of each task's training part, those for validation left out."""
    return as12(ALL_ROWS).train


def clustering_rows(runs: int) -> list[Row]:
    texts = sorted({text for own in task_texts().values() for text in own})
    vectors = embed_with(RepresentationSettings())(random.Random(0).sample(texts, ROWS))
    rows = []
    for suffix, selection in SPACES.items():
        space = normalised(vectors) if selection.distance == "cos" else vectors
        pairs = [pair(space, selection, seed) for seed in range(runs)]
        rows += [
            median_row(
                f"cluster_inertia_ratio{suffix}", [one["inertia"] for one in pairs], "x", goal=1.03, at_least=False
            ),
            median_row(f"cluster_time_ratio{suffix}", [one["time"] for one in pairs], "x", goal=0.2, at_least=False),
            median_row(f"cluster_cpu_seconds{suffix}", [one["ours"] for one in pairs], "CPU s"),
            median_row(f"cluster_cpu_seconds_sklearn{suffix}", [one["sklearn"] for one in pairs], "CPU s"),
        ]
    return rows


def pair(space: Floats, selection: RepresentationSettings, seed: int) -> dict[str, float]:
    """Both clusterings with one seed; our inertia and time relative to scikit-learn's."""
    with threadpool_limits(1):
        faiss.omp_set_num_threads(1)
        ours, our_seconds = timed(lambda: cluster(space, CENTROIDS, selection.distance, seed=seed))
        sklearn, sklearn_seconds = timed(lambda: sklearn_centroids(space, seed))
    return {
        "inertia": inertia(space, ours) / inertia(space, sklearn),
        "time": our_seconds / sklearn_seconds,
        "ours": our_seconds,
        "sklearn": sklearn_seconds,
    }


def sklearn_centroids(space: Floats, seed: int) -> Floats:
    from sklearn.cluster import KMeans

    return KMeans(CENTROIDS, init="k-means++", n_init=1, random_state=seed).fit(space).cluster_centers_


def timed(work: Callable[[], Floats]) -> tuple[Floats, float]:
    started = time.process_time()
    return work(), time.process_time() - started


def inertia(space: Floats, centroids: Floats) -> float:
    index = faiss.IndexFlatL2(space.shape[1])
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    return float(index.search(space, 1)[0].sum(dtype=np.float64))


def selection_rows(runs: int, threads: int) -> list[Row]:
    command = [sys.executable, "-m", "benchmarks.data_selection", "--once"]
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    found = [
        json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        for _ in range(runs)
    ]
    return [
        median_row("select_seconds", [one["seconds"] for one in found], "s", goal=60, at_least=False),
        median_row("select_rss_mib", [one["rss_mib"] for one in found], "MiB", goal=1536, at_least=False),
        median_row("select_cpu_seconds", [one["cpu_seconds"] for one in found], "CPU s"),
    ]


def select_once() -> dict[str, float]:
    """Choose k = 1000 rows of each task, the reading of the embedding table included."""
    texts = task_texts()
    started, started_cpu = time.perf_counter(), time.process_time()
    selection = RepresentationSettings(rows_per_label=CENTROIDS)
    chosen = representation_set(texts, embed_with(selection), selection)
    assert all(len(own) == min(CENTROIDS, len(texts[label])) for label, own in chosen.items())
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - started_cpu,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
