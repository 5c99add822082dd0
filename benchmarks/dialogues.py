"""Routing of dialogues on public rows: CLINC150 and the 12 tasks, by words and language model or by words alone.

Dialogues of 2 to 6 turns are made of test rows with a fixed seed (`services.trainer.evaluation.dialogues`): they stay
with a label, switch to another for the last turns, or end in an elliptic turn, which is one of the list below or the
last words of another row of the label. A third of them holds what harnesses write into user turns: reminders with a
row of another label, tool results, file dumps, and turns that hold nothing else. Selector, thresholds and reading are
fitted on training and validation rows by the trainer's own code, with other elliptic turns. Beside each figure stands
what the last user turn alone gives, as it is. The heads are trained once and kept in `--folder`.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import selector_data
from benchmarks.common import Row, print_table, row, write_results
from benchmarks.selector_data import Benchmark, Pairs, Texts, as12, by_label, clinc150, need_data
from benchmarks.selectors import FALSE_REJECTS, SETTINGS, trained_head
from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.dialogues import Dialogue, make_dialogues
from services.trainer.evaluation.fit_calibration import calibrate
from services.trainer.evaluation.fit_reading import fit_reading
from services.trainer.evaluation.selector import SelectorScores, score_rows
from services.trainer.training.light import fit_light
from shared.contracts.conversation import Message, message
from shared.contracts.dialogue import Kept, Parts, select_turn, turns_read
from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.reading import RequestReading
from shared.contracts.selection import Selection, select
from shared.model.base import load_tokenizer, resolve_base_model
from shared.model.hardware import computes_bfloat16
from shared.model.light import LightSelector
from shared.model.scoring import load_scorer
from shared.settings import Settings

SEED = 71
DIALOGUES = 300
"""Of each kind and data set."""
GOALS = {"stay": 0.97, "switch": 0.90, "elliptic": 0.90}
HEADS = {"clinc": (40, 3), "as12": (100, 2)}
"""Rows of a label and epochs that the language model is trained on."""
VALIDATED = 10
"""Validation rows of each label that a cascade is calibrated on; of the 12 tasks five times as many."""
ELLIPTIC_TURNS = (
    "and for business accounts?", "yes, do it", "commit it", "continue", "and tomorrow?", "the first one", "ok",
    "no, the other one", "what about my wife?", "explain", "do it again please", "and then", "and in euros?",
    "how come?", "that one", "please do", "next", "and the second question?", "shorter please",
    "can you check again?", "sure", "why?", "继续", "可以", "还有吗",
)  # fmt: skip
"""None of them is among those that the trainer calibrates on."""


class Trained(NamedTuple):
    """A calibrated selector with its reading, and what scores texts for it."""

    selector: ReleaseSelector
    reading: RequestReading
    parts: Parts


class Judged(NamedTuple):
    """What became of one dialogue: the label by the dialogue, by its last turn alone, and by turns with an id."""

    kind: str
    is_noisy: bool
    by: str
    is_right: bool
    alone_is_right: bool
    by_id_is_right: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=selector_data.DATA)
    parser.add_argument("--only", choices=["clinc", "as12"])
    parser.add_argument("--words", action="store_true", help="words alone, without a language model")
    parser.add_argument("--dialogues", type=int, default=DIALOGUES)
    parser.add_argument("--folder", type=Path, default=Path(".data/benchmarks/dialogues"), help="trained heads")
    parser.add_argument("--threads", type=int, default=1, help="two on a quiet machine halve the hours")
    args = parser.parse_args()
    selector_data.DATA = args.data
    need_data()
    torch.set_num_threads(args.threads)
    judged: dict[str, list[Judged]] = {}
    rows: list[Row] = []
    for benchmark in (clinc150(), as12(500)):
        if args.only in (None, benchmark.name):
            trained = trained_on(benchmark, None if args.words else head_of(benchmark, args.folder))
            print(benchmark.name, trained.reading, flush=True)
            judged[benchmark.name] = judge(benchmark, trained, args.dialogues)
            rows += rows_of(f"_{benchmark.name}", judged[benchmark.name])
            rows.append(same_alone(benchmark, trained))
            print_table(rows)
    rows = rows_of("", [one for own in judged.values() for one in own], GOALS) + rows
    print_table(rows)
    if not (args.only or args.words):
        write_results("dialogues", rows)


def head_of(benchmark: Benchmark, folder: Path) -> Path:
    """The PEFT folder of the benchmark's head."""
    most, epochs = HEADS[benchmark.name]
    return trained_head(benchmark, most, folder, epochs=epochs)


def trained_on(benchmark: Benchmark, head: Path | None) -> Trained:
    """Fit words, calibrate the selector on validation rows, and fit its reading on dialogues of these."""
    light = fit_light(benchmark.train)
    draft = ReleaseSelector(labels=tuple(light.labels), light="benchmark", llm="benchmark" if head else "")
    validation = thinned(benchmark.validation, benchmark.name) if head else benchmark.validation
    texts = [text for text, _ in validation]
    score_llm = llm_of(benchmark, light, head) if head else None
    scores = SelectorScores(light.score(texts), score_llm(texts) if score_llm else None)
    target = CalibrationTarget(FALSE_REJECTS if BACKGROUND in light.labels else 0.0)
    selector, _ = calibrate(draft, scores, [label for _, label in validation], target)

    @cache
    def one_light(text: str) -> list[float]:
        return [float(score) for score in light.score([text])[0]]

    @cache
    def one_llm(text: str) -> list[float]:
        assert score_llm is not None
        return [float(score) for score in score_llm([text])[0]]

    rows, usual = by_label(benchmark.validation), RequestReading(mode="dialogue")
    parts = Parts(one_light, one_llm)
    return Trained(selector, fit_reading(selector, usual, rows, parts, SEED + 1), parts)


def thinned(pairs: Pairs, name: str) -> Pairs:
    """The first validation rows of each label."""
    most = VALIDATED if name == "clinc" else 5 * VALIDATED
    kept = {label: own if label == BACKGROUND else own[:most] for label, own in by_label(pairs).items()}
    return [(text, label) for label, own in kept.items() for text in own]


def llm_of(benchmark: Benchmark, light: LightSelector, head: Path) -> Callable[[Sequence[str]], Any]:
    """Scores `[texts, labels]` of the head, in the precision of the service."""
    base = resolve_base_model(Settings())
    labels = [parse_label(label) for label in light.labels]
    room, dtype = SETTINGS[benchmark.name].max_length, "bfloat16" if computes_bfloat16("cpu") else "float32"
    scorer = load_scorer(base, head, load_tokenizer(base), labels, max_tokens=room, dtype=dtype)
    return lambda texts: score_rows(scorer, texts)


def judge(benchmark: Benchmark, trained: Trained, count: int) -> list[Judged]:
    """Route dialogues of the test rows."""
    rows = by_label(benchmark.test)
    draw = random.Random(SEED)
    judged = []
    for number, dialogue in enumerate(make_dialogues(rows, ELLIPTIC_TURNS, count, SEED)):
        is_noisy = number % 3 == 0
        judged.append(judged_one(trained, dialogue, conversation(dialogue, rows, draw, is_noisy=is_noisy), is_noisy))
    return judged


def judged_one(trained: Trained, dialogue: Dialogue, messages: Sequence[Message], is_noisy: bool) -> Judged:
    selector, reading, parts = trained
    whole = select_turn(selector, reading, turns_read(messages, "", selector, reading), parts)
    last = messages[-1].text
    alone = select(selector, lambda: parts.light(last), lambda: parts.llm(last))
    by_id = with_id(trained, messages)
    gold = "" if dialogue.gold == BACKGROUND else dialogue.gold
    right = (found.label == gold for found in (whole, alone, by_id))
    return Judged(dialogue.kind, is_noisy, whole.by, *right)


def with_id(trained: Trained, messages: Sequence[Message]) -> Selection:
    """What a caller gets who sends each turn alone, with the conversation's id."""
    selector, reading, parts = trained
    kept: Kept | None = None
    for turn in messages:
        if turn.role == "user":
            found = select_turn(selector, reading, turns_read([turn], "", selector, reading), parts, kept)
            kept = Kept(found.label, found.best.probability) if found.label else kept
    return found


def conversation(dialogue: Dialogue, rows: Texts, draw: random.Random, *, is_noisy: bool) -> list[Message]:
    """The dialogue as messages, with answers between the turns, and noise in and between them."""
    messages = []
    for turn in dialogue.turns:
        if messages:
            messages.append(message("assistant", "Here is what I found."))
        if is_noisy and messages and draw.random() < 0.3:
            messages += [message("user", noise(rows, draw)), message("assistant", "Done.")]
        messages.append(message("user", noisy(turn, rows, draw) if is_noisy else turn))
    return messages


def noisy(turn: str, rows: Texts, draw: random.Random) -> str:
    pieces = [turn, noise(rows, draw)]
    draw.shuffle(pieces)
    return "\n".join(pieces)


def noise(rows: Texts, draw: random.Random) -> str:
    """What a program writes into a user turn; its words are those of any label."""
    other = draw.choice(rows[draw.choice(sorted(rows))])
    return draw.choice(
        [
            f"<system-reminder>\nThe user asked before: {other}\n</system-reminder>",
            f"<tool_result>{other}</tool_result>",
            f'<file path="notes.txt">\n{other}\n</file>',
            f"<environment_details>\n# Open tabs\n{other}\n</environment_details>",
            f"<local-command-stdout>{other} <b>done</b></local-command-stdout>",
        ]
    )


def same_alone(benchmark: Benchmark, trained: Trained) -> Row:
    """The share of single test rows that are selected as without a reading, bit for bit."""
    selector, reading, parts = trained
    same = []
    for text, _ in benchmark.test[::10]:
        turns = turns_read([message("user", text)], "", selector, reading)
        before = select(selector, lambda text=text: parts.light(text), lambda text=text: parts.llm(text))  # type: ignore[misc]
        same.append(select_turn(selector, reading, turns, parts) == before)
    return row(
        f"dialogue_single_same_{benchmark.name}", float(np.mean(same)), "share", spread=f"n={len(same)}", goal=1.0
    )


def rows_of(suffix: str, judged: Sequence[Judged], goals: dict[str, float] | None = None) -> list[Row]:
    return list(_rows_of(suffix, judged, goals or {}))


def _rows_of(suffix: str, judged: Sequence[Judged], goals: dict[str, float]) -> Iterator[Row]:
    for kind in dict.fromkeys(one.kind for one in judged):
        own = [one for one in judged if one.kind == kind]
        noisy_ones = [one.is_right for one in own if one.is_noisy]
        spread = f"n={len(own)}, with noise {np.mean(noisy_ones):.3f}"
        value = float(np.mean([one.is_right for one in own]))
        yield row(f"dialogue_acc_{kind}{suffix}", value, "share", spread=spread, goal=goals.get(kind))
        alone = [one.alone_is_right for one in own]
        without = [one.alone_is_right for one in own if not one.is_noisy]
        spread = f"without noise {np.mean(without):.3f}"
        yield row(f"dialogue_alone_{kind}{suffix}", float(np.mean(alone)), "share", spread=spread)
        by_id = float(np.mean([one.by_id_is_right for one in own]))
        yield row(f"dialogue_by_id_{kind}{suffix}", by_id, "share", spread="each turn sent alone with its id")


if __name__ == "__main__":
    main()
