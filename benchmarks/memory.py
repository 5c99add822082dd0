"""Memory of a selector and a trainer of the 135M model; and how many labels change with the precision.

Real processes on real servers; the workers are the echo engine's and hold no model. A cascade is trained and promoted,
then a label is added and that release promoted, with requests in flight each time. Memory is PSS: a process's private
memory, and its share of shared mappings. Labels are of the public test sets, whose heads `benchmarks.selectors` trains.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from signalbox import Signalbox

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.selector_data import DATA, Benchmark, as12, clinc150
from benchmarks.selectors import SETTINGS, trained_head
from services.cli.demo.data import DemoData
from services.cli.local.prepare import prepare_base_model
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from services.cli.progress import follow_training
from services.trainer.evaluation.selector import score_rows
from shared.contracts.labels import parse_label
from shared.contracts.manifests import AdapterManifest
from shared.model.base import base_model_id, load_tokenizer, resolve_base_model
from shared.model.hardware import computes_bfloat16
from shared.model.head import HeadScorer
from shared.model.merge import merged_selector
from shared.model.scoring import Scorer, load_scorer
from shared.names import DEFAULT_TENANT
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.settings import Settings

SAMPLE_SECONDS = 0.1
SETTLED_SECONDS = 5.0
CLIENTS = 8
SMALL = {
    "settings": {"rank": 16, "alpha": 32, "dropout": 0.0, "top_layers": 18, "learning_rate": 0.002, "batch_size": 4,
                 "max_length": 128, "precision": "bfloat16", "epochs": 1},
    "selection": {"rows_per_label": 12, "validation_share": 0.1},
    "min_llm_share": 1.0,
}  # fmt: skip
"""The demo's settings on few of its rows: memory is the same, and every request reaches the language model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500, help="training rows for each of the 12 tasks")
    parser.add_argument("--llm-rows", type=int, default=300, help="as many of them for the language model")
    parser.add_argument("--test-rows", type=int, default=100_000, help="of each test set, at even distances")
    parser.add_argument("--folder", type=Path, default=Path(".data/benchmarks/selectors"), help="trained heads")
    args = parser.parse_args()
    rows = memory_rows()
    print_table(rows)
    torch.set_num_threads(1)
    if not DATA.is_dir():
        print(f"labels skipped: {DATA} is not there")
    elif not computes_bfloat16("cpu"):
        print("labels skipped: this processor computes in float32 only")
    else:
        rows += label_rows([clinc150(), as12(args.rows)], args)
    print_table(rows)
    write_results("memory", rows)


class Watch:
    """Samples a process's PSS many times a second and keeps the highest, with the peak of resident memory."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak = self.peak_resident = 0.0
        self._stop = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak_resident = _mib(Path(f"/proc/{self.pid}/status"), "VmHWM:")

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, pss_mib(self.pid))

    def rest(self) -> float:
        """PSS in MiB once it has been stable for some seconds."""
        last, since = pss_mib(self.pid), time.monotonic()
        while time.monotonic() - since < SETTLED_SECONDS:
            time.sleep(0.5)  # between two looks
            if abs((now := pss_mib(self.pid)) - last) > 1:
                last, since = now, time.monotonic()
        return last


def pss_mib(pid: int) -> float:
    return _mib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def _mib(file: Path, name: str) -> float:
    kib = next(line.split()[1] for line in file.read_text().splitlines() if line.startswith(name))
    return int(kib) / 1024


def memory_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, system(Path(folder)) as (supervisor, client, data):
        selector, trainer = (Watch(pid_of(supervisor, name)) for name in ("selector-1", "trainer-1"))
        with selector, trainer:
            idle = selector.rest()
            train_and_promote(client, data.selector_job())
            trained = trainer.rest()
            send_requests(client, data)
            with ThreadPoolExecutor(1) as beside:  # jobs of the first release are in flight when the second one comes
                requests = beside.submit(send_requests, client, data)
                train_and_promote(client, data.add_job())
                requests.result()
            send_requests(client, data)
            rests = selector.rest(), trainer.rest()
    return [
        row("selector_rss_mib", rests[0], "MiB", spread=f"PSS, {idle:.0f} without a model", goal=700, at_least=False),
        row("selector_peak_mib", selector.peak, "MiB", spread=peak_note(selector), goal=1200, at_least=False),
        row("trainer_rest_mib", rests[1], "MiB", spread=f"PSS, {trained:.0f} after the first job", goal=600,
            at_least=False),
        row("trainer_peak_mib", trainer.peak, "MiB", spread=peak_note(trainer)),
    ]  # fmt: skip


@contextmanager
def system(folder: Path) -> Iterator[tuple[Supervisor, Signalbox, DemoData]]:
    """API, selector, trainer and one worker, with a dummy adapter for each of the demo's labels."""
    prepare_base_model(Settings())
    base = resolve_base_model(Settings())
    settings = Settings(data_dir=folder, base_model=str(base), engine="echo", groups="base")
    supervisor = Supervisor(settings, ["bank,travel,base"])
    data = DemoData()
    try:
        supervisor.start()
        client = Signalbox(supervisor.api_url, announce(supervisor))
        supervisor.wait_ready()
        registry = Registry(supervisor.ledger, S3Store(supervisor.settings), supervisor.settings.cache_dir)
        for label in data.labels:
            store_adapter(registry, folder / label, label, base_model_id(base))
        data.upload(client)
        yield supervisor, client, data
    finally:
        supervisor.stop()


def store_adapter(registry: Registry, folder: Path, label: str, base_model: str) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(label.encode())
    manifest = AdapterManifest(tenant_id=DEFAULT_TENANT, label=label, version=0, digest="", base_model=base_model)
    registry.adapters.add(folder, manifest)


def pid_of(supervisor: Supervisor, name: str) -> int:
    return next(child.process.pid for child in supervisor.children if child.name == name and child.process)


def train_and_promote(client: Signalbox, job: dict[str, Any]) -> None:
    """Train and promote, ignoring the gate, because accuracy does not matter here."""
    job_id = client.post("/v1/training/jobs", job | SMALL | {"promote": False})["id"]
    ended = follow_training(client, job_id, quiet=True)
    client.post(f"/v1/releases/{ended['result']['release']}/promote", {"force": True})


def send_requests(client: Signalbox, data: DemoData) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda each: client.post("/v1/select", {"input": each.text}), data.held_out()[::5]))


def peak_note(watch: Watch) -> str:
    return f"PSS; {watch.peak_resident:.0f} of resident memory"


def label_rows(datasets: Sequence[Benchmark], args: argparse.Namespace) -> list[Row]:
    """How many labels of a float32 model change in bfloat16, without and with near ties computed in float32."""
    changes: dict[str, list[Change]] = {"one_precision": [], "as_served": []}
    for benchmark in datasets:
        for way, change in changed_labels(benchmark, args).items():
            changes[way].append(change)
    return [line for way, found in changes.items() for line in change_rows(way, found, has_goal=way == "as_served")]


class Change(NamedTuple):
    """For one test set: whether each row's label differs from float32, and whether each of the two is right."""

    name: str
    changed: NDArray[np.bool_]
    right: NDArray[np.bool_]
    right_in_float32: NDArray[np.bool_]


def changed_labels(benchmark: Benchmark, args: argparse.Namespace) -> dict[str, Change]:
    base = resolve_base_model(Settings())
    tokenizer, head = load_tokenizer(base), trained_head(benchmark, args.llm_rows, args.folder)
    labels = [parse_label(label) for label in sorted(benchmark.train)]
    max_tokens = SETTINGS[benchmark.name].max_length
    test = benchmark.test[:: max(1, len(benchmark.test) // args.test_rows)]
    texts, gold = [text for text, _ in test], np.array([label for _, label in test])

    def named(scorer: Scorer) -> NDArray[np.str_]:
        return np.array([str(labels[column]) for column in score_rows(scorer, texts).argmax(axis=1)])

    exact = named(HeadScorer(merged_selector(base, head, "float32"), tokenizer, labels, max_tokens))
    ways = {
        "one_precision": named(HeadScorer(merged_selector(base, head, "bfloat16"), tokenizer, labels, max_tokens)),
        "as_served": named(load_scorer(base, head, tokenizer, labels, max_tokens=max_tokens, dtype="float32")),
    }
    return {way: Change(benchmark.name, found != exact, found == gold, exact == gold) for way, found in ways.items()}


def change_rows(way: str, found: Sequence[Change], *, has_goal: bool) -> list[Row]:
    changed = np.concatenate([change.changed for change in found])
    points = [100 * float(change.right.mean() - change.right_in_float32.mean()) for change in found]
    of_each = ", ".join(f"{change.name} {100 * change.changed.mean():.2f}" for change in found)
    goal = 0.2 if has_goal else None
    return [
        row(f"{way}_label_changes", 100 * float(changed.mean()), "%", spread=f"n={len(changed)}: {of_each}", goal=goal,
            at_least=False),
        row(f"{way}_accuracy_points", max(map(abs, points)), "points", spread=", ".join(f"{p:+.2f}" for p in points),
            goal=goal, at_least=False),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
