"""One scoring pass over the labels against free generation of the label: same selector, same rows, paired.

Both compute in the precision that the service scores in: bfloat16 where the processor has it in hardware (the scorer
looks at near-ties again in float32), else float32. The light selector in front of both is timed beside them.
"""

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.common import median_row, print_table, row, write_results
from benchmarks.system import demo_system
from services.cli.evaluate.selector import current_selector
from services.trainer.evaluation.generate import generate_greedily
from shared.contracts.labels import parse_label
from shared.contracts.prompts import selector_answer
from shared.model.base import load_tokenizer, resolve_base_model
from shared.model.hardware import computes_bfloat16
from shared.model.light import LightSelector
from shared.model.merge import merged_selector
from shared.model.scoring import LabelScorer, load_scorer
from shared.model.tokens import encode_text, end_id
from shared.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with demo_system() as running:
        registry, selector = current_selector(running.supervisor.settings)
        folder = registry.weights.fetch(selector.llm)
        light = LightSelector.load(registry.weights.fetch_light(selector.light))
        held_out = [r for r in running.data.held_out() if r.label in selector.labels]
    held_out = held_out[:: max(1, len(held_out) // args.rows)][: args.rows]
    base = resolve_base_model(Settings())
    tokenizer = load_tokenizer(base)
    labels = [parse_label(label) for label in selector.labels]
    scorer = load_scorer(base, folder, tokenizer, labels, max_tokens=512, dtype="float32")
    model = merged_selector(base, folder, "bfloat16" if computes_bfloat16("cpu") else "float32")
    prompts = LabelScorer(model, tokenizer, labels, 512)
    longest = max(len(encode_text(tokenizer, selector_answer(label))) for label in labels) + 1

    def scored(text: str) -> str:
        return str(labels[int(scorer.score([text])[0].argmax())])

    def generated(text: str) -> str:
        prompt = prompts.prompt_ids(text)
        return generate_greedily(model, tokenizer, [prompt], longest, end_id(tokenizer))[0].strip()

    def lightly(text: str) -> str:
        return light.labels[int(light.score([text])[0].argmax())]

    answers = {str(label): selector_answer(label) for label in labels}
    texts = [r.text for r in held_out]
    scored_ms, generated_ms, light_ms, ratios = [], [], [], []
    for _ in range(args.runs + 1):
        one, by_score = timed(scored, texts)
        other, by_text = timed(generated, texts)
        light_ms.append(timed(lightly, texts)[0])
        scored_ms.append(one)
        generated_ms.append(other)
        ratios.append(other / one)
    right_by_score = sum(a == r.label for a, r in zip(by_score, held_out, strict=True)) / len(held_out)
    right_by_text = sum(a == answers[r.label] for a, r in zip(by_text, held_out, strict=True)) / len(held_out)
    rows = [
        median_row("score_vs_generate_x", ratios[1:], "x", goal=3),
        median_row("score_ms", scored_ms[1:], "ms"),
        median_row("light_score_ms", light_ms[1:], "ms"),
        median_row("generate_label_ms", generated_ms[1:], "ms"),
        row("score_accuracy", right_by_score, "share", spread=f"n={len(texts)}"),
        row("generate_label_accuracy", right_by_text, "share", spread=f"n={len(texts)}"),
    ]
    print_table(rows)
    write_results("selector_score", rows)


def timed(answer: Callable[[str], str], texts: list[str]) -> tuple[float, list[str]]:
    """Milliseconds a request, and the answers."""
    started = time.perf_counter()
    answers = [answer(text) for text in texts]
    return (time.perf_counter() - started) * 1000 / len(texts), answers


if __name__ == "__main__":
    main()
