"""Selectors on public data: the light selector, a language model's head, and both in a cascade; accuracy against cost.

The heads are trained by the trainer's own code and kept in `--folder`: the first run takes an hour or two of one core.
Thresholds and weights are chosen on validation rows; all figures are of test rows. Costs are the CPU time of sequential
requests, in the precision of the service.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.selector_data import Benchmark, Pairs, as12, clinc150, need_data
from services.trainer.data.representation import mixed
from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.fit_calibration import calibrate
from services.trainer.evaluation.generate import generate_greedily
from services.trainer.evaluation.selector import SelectorScores, calibrated_probabilities, selections
from services.trainer.training.light import fit_light
from services.trainer.training.loop import Callbacks, Progress
from services.trainer.training.lora import train_selector
from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.prompts import selector_answer, selector_prompt
from shared.contracts.routing import Routed, calibration_error
from shared.contracts.training_settings import LoraSettings
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.model.hardware import computes_bfloat16
from shared.model.scoring import Scorer, load_scorer
from shared.model.tokens import encode, encode_text, end_id
from shared.settings import Settings

FALSE_REJECTS = 0.05
LLM_SHARE = 0.10
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PRECISION = "bfloat16" if computes_bfloat16("cpu") else "float32"
SETTINGS = {
    "clinc": LoraSettings(
        rank=16, alpha=32, dropout=0.1, target_modules=ALL_LINEAR, learning_rate=1e-3, warmup_share=0.06,
        weight_decay=0.01, epochs=4, batch_size=32, max_length=64, precision=PRECISION, checkpoint_steps=10_000,
    ),
    "as12": LoraSettings(
        rank=16, alpha=32, dropout=0.1, target_modules=ALL_LINEAR, learning_rate=1e-3, warmup_share=0.06,
        weight_decay=0.01, epochs=2, batch_size=16, max_length=96, precision=PRECISION, checkpoint_steps=10_000,
    ),
}  # fmt: skip
GENERATED = 40
"""Rows whose label is generated freely, for its cost."""


class Measured(NamedTuple):
    """Log-probabilities `[rows, labels]` and CPU milliseconds of each row."""

    scores: NDArray[np.float32]
    ms: NDArray[np.float64]


class Judged(NamedTuple):
    """A calibrated selector's label probabilities for the test rows, its confidence, and which part answered."""

    labels: list[str]
    found: NDArray[np.float64]
    confidence: NDArray[np.float64]
    rejected: NDArray[np.bool_]
    asked_llm: NDArray[np.bool_]
    floor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["clinc", "as12"])
    parser.add_argument("--rows", type=int, default=500, help="training rows for each of the 12 tasks")
    parser.add_argument("--llm-rows", type=int, default=300, help="as many of them for the language model")
    parser.add_argument("--folder", type=Path, default=Path(".data/benchmarks/selectors"), help="trained heads")
    args = parser.parse_args()
    need_data()
    torch.set_num_threads(1)
    datasets = [benchmark for benchmark in (clinc150(), as12(args.rows)) if args.only in (None, benchmark.name)]
    rows = []
    for benchmark in datasets:
        rows += measure(benchmark, trained_head(benchmark, args.llm_rows, args.folder))
        print_table(rows)
    if not args.only:
        write_results("selectors", rows)


def trained_head(benchmark: Benchmark, most: int, folder: Path, **changes: Any) -> Path:
    """The PEFT folder of a head over the benchmark's labels, trained unless it exists; `changes` of its settings."""
    settings = SETTINGS[benchmark.name].model_copy(update=changes)
    texts = {label: own[:most] for label, own in benchmark.train.items()}
    work = folder / f"{benchmark.name}-{most}-{settings.epochs}-{settings.max_length}"
    if not (work / "adapter").is_dir():
        base = resolve_base_model(Settings())
        train_selector(
            base,
            load_tokenizer(base),
            mixed(texts, settings.seed),
            labels=[parse_label(label) for label in sorted(texts)],
            config=settings,
            work_dir=work,
            head=True,
            callbacks=Callbacks(on_progress=lambda progress: print_progress(benchmark.name, progress)),
        )
    return work / "adapter"


def print_progress(name: str, progress: Progress) -> None:
    """Print progress every 50 steps."""
    if progress.step % 50 == 0:
        print(f"{name}: step {progress.step} of {progress.steps}, loss {progress.loss:.3f}, "
              f"{progress.seconds_left / 60:.0f} minutes left", flush=True)  # fmt: skip


def measure(benchmark: Benchmark, head: Path) -> list[Row]:
    base = resolve_base_model(Settings())
    tokenizer = load_tokenizer(base)
    light = fit_light(benchmark.train)
    labels = [parse_label(label) for label in light.labels]
    scorer = load_scorer(base, head, tokenizer, labels, max_tokens=SETTINGS[benchmark.name].max_length, dtype="float32")
    parts: dict[str, Callable[[str], Any]] = {
        "light": lambda text: light.score([text])[0],
        "llm": lambda text: scorer.score([text])[0],
    }
    seen = {name: one_by_one(score, benchmark.validation) for name, score in parts.items()}
    test = {name: one_by_one(score, benchmark.test) for name, score in parts.items()}
    generate_ms = generation_cost(benchmark, base, tokenizer, scorer)

    def judged(target: CalibrationTarget, *names: str) -> Judged:
        draft = ReleaseSelector(labels=tuple(light.labels), **dict.fromkeys(names, "benchmark"))
        chosen = [
            SelectorScores(*(part[n].scores if n in names else None for n in ("light", "llm"))) for part in (seen, test)
        ]
        selector, _ = calibrate(draft, chosen[0], [label for _, label in benchmark.validation], target)
        return judge(selector, chosen[1])

    # The 12 tasks have no background, so nothing may be rejected and no threshold is chosen.
    target = CalibrationTarget(0.0) if benchmark.name == "as12" else CalibrationTarget(FALSE_REJECTS)
    bound = target._replace(max_llm_share=LLM_SHARE) if benchmark.name == "as12" else target
    kinds = {"light": judged(target, "light"), "llm": judged(target, "llm"), "cascade": judged(bound, "light", "llm")}
    if benchmark.name == "as12":
        kinds["cascade_35"] = judged(target._replace(max_llm_share=0.35), "light", "llm")
    rows = []
    for kind, found in kinds.items():
        cost = float((test["light"].ms * (kind != "llm") + test["llm"].ms * found.asked_llm).mean())
        rows += kind_rows(benchmark, kind, found, cost, generate_ms)
    best = max(accuracy(kinds[kind], benchmark.test) for kind in ("light", "llm"))
    kept = accuracy(kinds["cascade"], benchmark.test) / best
    suffix = "" if benchmark.name == "as12" else f"_{benchmark.name}"
    rows.append(row(f"cascade_keep{suffix}", kept, "x", spread=f"best alone {best:.3f}", goal=1.0))
    if "cascade_35" in kinds:
        rows.append(row("cascade_35_keep", accuracy(kinds["cascade_35"], benchmark.test) / best, "x"))
    rows.append(row(f"generate_label_ms_{benchmark.name}", generate_ms, "CPU ms", spread=f"n={GENERATED}"))
    return rows + final_rows(benchmark, kinds["cascade"])


def one_by_one(score: Callable[[str], Any], pairs: Pairs) -> Measured:
    """Score rows one after the other, like requests to an idle service."""
    scores, ms = [], []
    for text, _ in pairs:
        started = time.process_time()
        scores.append(score(text))
        ms.append((time.process_time() - started) * 1000)
    return Measured(np.stack(scores), np.array(ms))


def generation_cost(benchmark: Benchmark, base: Path, tokenizer: Any, scorer: Scorer) -> float:
    """CPU milliseconds to generate a label freely after the paper's prompt, which lists all of them."""
    model = load_model(base, "bfloat16" if computes_bfloat16("cpu") else "float32")
    labels = scorer.labels
    room = 512 if benchmark.name == "as12" else 2048  # 150 labels alone fill a thousand tokens
    answers = [[*encode_text(tokenizer, selector_answer(label)), end_id(tokenizer)] for label in labels]
    length = round(float(np.mean([len(answer) for answer in answers])))
    texts = [text for text, _ in benchmark.test[:: len(benchmark.test) // GENERATED][:GENERATED]]
    prompts = [encode(tokenizer, selector_prompt(text, labels), room - length) for text in texts]
    generate_greedily(model, tokenizer, prompts[:1], length, end_id(tokenizer))
    started = time.process_time()
    for prompt in prompts:
        generate_greedily(model, tokenizer, [prompt], length, end_id(tokenizer))
    return (time.process_time() - started) * 1000 / len(prompts)


def judge(selector: ReleaseSelector, scores: SelectorScores) -> Judged:
    found = np.array([probabilities for probabilities, _ in calibrated_probabilities(selector, scores)])
    real = [column for column, label in enumerate(selector.labels) if label != BACKGROUND]
    selected = selections(selector, scores)
    return Judged(
        [selector.labels[column] for column in real],
        found[:, real],
        np.array([selection.confidence for selection in selected]),
        np.array([not selection.label for selection in selected]),
        np.array([selection.by != "light" for selection in selected]),
        selector.conformal_threshold,
    )


def accuracy(judged: Judged, test: Pairs) -> float:
    """Share of labelled rows whose best label is right, without rejection."""
    predicted = [judged.labels[column] for column in judged.found.argmax(axis=1)]
    inside = [a == label for a, (_, label) in zip(predicted, test, strict=True) if label != BACKGROUND]
    return sum(inside) / len(inside)


def kind_rows(benchmark: Benchmark, kind: str, judged: Judged, cost: float, generate_ms: float) -> list[Row]:
    name, share = f"{kind}_{benchmark.name}", float(judged.asked_llm.mean())
    rows = [
        row(f"{name}_acc", accuracy(judged, benchmark.test), "share", spread=f"language model asked about {share:.3f}"),
        row(f"{name}_ms", cost, "CPU ms", spread=f"{generate_ms / cost:.0f} x less than free generation"),
        *(
            []
            if BACKGROUND not in dict.fromkeys(label for _, label in benchmark.test)
            else rejection(name, judged, benchmark.test)
        ),
    ]
    if kind == "cascade" and benchmark.name == "as12":
        rows.append(row("cascade_cost_x", generate_ms / cost, "x", goal=50))
        rows.append(row("cascade_llm_share", share, "share", goal=LLM_SHARE, at_least=False))
    return rows


def rejection(name: str, judged: Judged, test: Pairs, *, goals: Sequence[float | None] = (None, None)) -> list[Row]:
    """How well the best label's confidence separates out-of-scope rows."""
    is_inside = np.array([label != BACKGROUND for _, label in test])
    inside, outside = judged.rejected[is_inside].mean(), judged.rejected[~is_inside].mean()
    spread = f"false rejects {inside:.3f}, line chosen on validation rows for {FALSE_REJECTS}"
    return [
        row(f"{name}_auroc", float(roc_auc_score(is_inside, judged.confidence)), "", goal=goals[0]),
        row(f"{name}_oos_recall", float(outside), "share", spread=spread, goal=goals[1]),
    ]


def final_rows(benchmark: Benchmark, judged: Judged) -> list[Row]:
    """Calibration, label sets and accuracy of the cascade, which is what users get."""
    inside = [n for n, (_, label) in enumerate(benchmark.test) if label != BACKGROUND]
    gold = [benchmark.test[n][1] for n in inside]
    found = judged.found[inside]
    routed = [
        Routed(g, judged.labels[int(line.argmax())], float(line.max())) for g, line in zip(gold, found, strict=True)
    ]
    sets = found >= judged.floor
    sets[np.arange(len(gold)), found.argmax(axis=1)] |= ~judged.rejected[inside]
    held = float(np.mean([sets[n, judged.labels.index(g)] for n, g in enumerate(gold)]))
    name, size = benchmark.name, f"n={len(gold)}"
    rows = [
        row(f"ece_{name}", calibration_error(routed), "", spread=size, goal=0.03, at_least=False),
        row(f"conformal_coverage_{name}", held, "share", spread="stated 0.95"),
        row(f"conformal_gap_{name}", abs(held - 0.95), "share", spread=size, goal=0.01, at_least=False),
        row(f"conformal_mean_size_{name}", float(sets.sum(1).mean()), "labels", goal=benchmark.max_set, at_least=False),
    ]
    if name != "clinc":
        return rows
    first = row("clinc_acc", accuracy(judged, benchmark.test), "share", spread=size, goal=0.96)
    return [first, *rejection("clinc", judged, benchmark.test, goals=(0.975, 0.88)), *rows]


if __name__ == "__main__":
    main()
