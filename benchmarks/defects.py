"""The accuracy that three faults of the paper's program cost on the 12 tasks, against the same training without each.

- padding: the mean of a text's embeddings, by which rows are chosen, includes its padding to 512 tokens.
- one answer: the training files of fin.ha and fin.sa as published, whose rows all have the same answer.
- cut: a training prompt that is too long loses its end (the list of tasks and the label) instead of part of its input.

The first two are measured with the light selector only, over seeds. The last needs the language model, the only one
with a prompt: `--cut` trains two of them, some minutes each, kept in `--folder`. Only this file has the faults. Figures
are points of accuracy on test rows, right minus faulty; input only.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Row, median_row, print_table, write_results
from benchmarks.selector_data import Benchmark, Pairs, Texts, as12, need_data, read
from services.trainer.data.embedders import embedder
from services.trainer.data.representation import mixed, representation_set
from services.trainer.evaluation.selector import score_rows
from services.trainer.training.light import fit_light
from services.trainer.training.loop import Callbacks, Trainable, run
from services.trainer.training.peft_folder import save_adapter, with_lora
from services.trainer.training.sequences import Example, selector_examples
from shared.contracts.labels import Label, parse_label
from shared.contracts.prompts import selector_answer, selector_prompt
from shared.contracts.training_settings import LoraSettings, RepresentationSettings
from shared.model.base import base_model_id, load_model, load_tokenizer, resolve_base_model
from shared.model.features import EmbeddingTable, Floats
from shared.model.scoring import load_scorer
from shared.model.text_vectors import Embed
from shared.model.tokens import encode, encode_text, end_id
from shared.settings import Settings

ALL_ROWS = 1_000_000
ROWS_PER_LABEL = 100
PADDED_TO = 512
MEAN = RepresentationSettings(rows_per_label=ROWS_PER_LABEL, pooling="mean")
SUM = RepresentationSettings(rows_per_label=ROWS_PER_LABEL)
PUBLISHED = ("fin.ha", "fin.sa")
CUT = LoraSettings(learning_rate=1e-3, epochs=2, max_length=512, precision="bfloat16", checkpoint_steps=10_000)
CUT_ROWS, CUT_TEST_ROWS = 8, 15
"""Of each task."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cut", action="store_true", help="measure the cut prompt, too")
    parser.add_argument("--folder", type=Path, default=Path(".data/benchmarks/defects"), help="trained selectors")
    args = parser.parse_args()
    need_data()
    torch.set_num_threads(1)
    benchmark = as12(ALL_ROWS)
    rows = [*padding_rows(benchmark, args.seeds), *published_rows(benchmark, args.seeds)]
    if args.cut:
        rows += cut_rows(benchmark, args.folder)
    print_table(rows)
    write_results("defects", rows)


def padding_rows(benchmark: Benchmark, seeds: int) -> list[Row]:
    """Rows chosen by the mean over real tokens against the mean that includes padding; and by the sum, our default."""
    base = resolve_base_model(Settings())
    tokenizer = load_tokenizer(base)
    table = EmbeddingTable.from_folder(base)
    ways: dict[str, Embed] = {
        "masked": embedder(MEAN, base, tokenizer),
        "padded": lambda texts: padded_means(table, tokenizer, texts),
        "sum": embedder(SUM, base, tokenizer),
    }
    found = {
        name: [100 * words_accuracy(chosen(benchmark.train, embed, seed), benchmark.test) for seed in range(seeds)]
        for name, embed in ways.items()
    }
    by_sum = median_row("defect_padding_sum_acc", found["sum"], "%")
    return [*side_by_side("padding", found["masked"], found["padded"]), by_sum]


def padded_means(table: EmbeddingTable, tokenizer: Any, texts: Sequence[str]) -> Floats:
    """`[n, hidden]`: the mean over `PADDED_TO` tokens, most of them padding."""
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    cut = [encode_text(tokenizer, text)[:PADDED_TO] for text in texts]
    return table.vectors([[*ids, *[padding] * (PADDED_TO - len(ids))] for ids in cut], "mean")


def published_rows(benchmark: Benchmark, seeds: int) -> list[Row]:
    """The repaired training files against the published ones, as many rows of both."""
    published = {label: inputs(f"as12/{label}.train_as_published.jsonl.gz") for label in PUBLISHED}
    tests = [(text, label) for text, label in benchmark.test if label in PUBLISHED]
    right_all, faulty_all, right_both, faulty_both = [], [], [], []
    for seed in range(seeds):
        embed = embedder(SUM, base := resolve_base_model(Settings()), load_tokenizer(base))
        right = chosen(benchmark.train, embed, seed)
        wrong = chosen({**benchmark.train, **published}, embed, seed)
        right_all.append(100 * words_accuracy(right, benchmark.test))
        faulty_all.append(100 * words_accuracy(wrong, benchmark.test))
        right_both.append(100 * words_accuracy(right, tests))
        faulty_both.append(100 * words_accuracy(wrong, tests))
    return side_by_side("one_answer", right_all, faulty_all) + side_by_side(
        "one_answer_fin_ha_sa", right_both, faulty_both
    )


def inputs(name: str) -> list[str]:
    return list(dict.fromkeys(item["input"] for item in read(name)))


def chosen(texts: Texts, embed: Embed, seed: int) -> Texts:
    return representation_set(texts, embed, SUM, seed=seed)


def words_accuracy(texts: Texts, test: Pairs) -> float:
    """Joint accuracy of the light selector trained on these texts."""
    light = fit_light(texts)
    best = light.score([text for text, _ in test]).argmax(axis=1)
    return sum(light.labels[at] == label for at, (_, label) in zip(best, test, strict=True)) / len(test)


def cut_rows(benchmark: Benchmark, folder: Path) -> list[Row]:
    """Training with a shortened input against a prompt cut at its end; both are tested with whole prompts."""
    accuracies = {
        name: 100 * llm_accuracy(benchmark, trained(benchmark, make, folder / name))
        for name, make in {"shortened": selector_examples, "cut": cut_examples}.items()
    }
    return side_by_side("cut", [accuracies["shortened"]], [accuracies["cut"]])


def cut_examples(tokenizer: Any, rows: Sequence[Any], labels: Sequence[Label], max_length: int) -> list[Example]:
    """Prompts with their answers, cut at `max_length`; a row that lost its whole answer is dropped."""
    end, found = end_id(tokenizer), []
    for made in rows:
        prompt = encode(tokenizer, selector_prompt(made.text, labels), ALL_ROWS)[:max_length]
        answer = [*encode_text(tokenizer, selector_answer(made.label)), end][: max_length - len(prompt)]
        if answer:
            found.append(Example(prompt, answer))
    return found


def trained(benchmark: Benchmark, make: Callable[..., list[Example]], folder: Path) -> Path:
    """The PEFT folder of a selector by label names, trained unless it exists."""
    if not (folder / "adapter").is_dir():
        base = resolve_base_model(Settings())
        rng = random.Random(0)
        texts = {label: rng.sample(own, CUT_ROWS) for label, own in benchmark.train.items()}
        labels = [parse_label(label) for label in sorted(texts)]
        examples = make(load_tokenizer(base), mixed(texts, CUT.seed), labels, CUT.max_length)
        print(f"{folder.name}: {len(examples)} of {CUT_ROWS * len(texts)} rows have an answer", flush=True)
        model = with_lora(load_model(base, "float32"), CUT)
        trainable = Trainable(model, lambda into: save_adapter(model, into, base_model_id(base)))
        run(trainable, examples, CUT, folder / "run", callbacks=Callbacks(), resume_from=None)
        trainable.save(folder / "adapter")
    return folder / "adapter"


def llm_accuracy(benchmark: Benchmark, weights: Path) -> float:
    base = resolve_base_model(Settings())
    labels = [parse_label(label) for label in sorted(benchmark.train)]
    own: dict[str, list[str]] = {}
    for text, label in benchmark.test:
        own.setdefault(label, []).append(text)
    test = [(text, label) for label, texts in own.items() for text in texts[:CUT_TEST_ROWS]]
    scorer = load_scorer(base, weights, load_tokenizer(base), labels, max_tokens=CUT.max_length, dtype="bfloat16")
    best = score_rows(scorer, [text for text, _ in test]).argmax(axis=1)
    return sum(str(labels[at]) == label for at, (_, label) in zip(best, test, strict=True)) / len(test)


def side_by_side(fault: str, right: list[float], faulty: list[float]) -> list[Row]:
    """Accuracy without and with the fault, and the points between, seed by seed."""
    points = [own - other for own, other in zip(right, faulty, strict=True)]
    return [
        median_row(f"defect_{fault}_right_acc", right, "%"),
        median_row(f"defect_{fault}_faulty_acc", faulty, "%"),
        median_row(f"defect_{fault}_points", points, "points"),
    ]


if __name__ == "__main__":
    main()
