"""Adapters as others write them: public configs against what each must get, and generated ones against PEFT itself.

`foreign_configs_accepted` is the share of the public configs that get what they must with PEFT's logits within 1e-5.
"""

import argparse
import logging
import tempfile
from pathlib import Path

import torch

from benchmarks.common import print_table, row, write_results
from tests.support.generated_adapters import TOLERANCE, count_outcomes, tiny_llama
from tests.support.public_configs import FOLDER, KINDS, PublicConfig, given, judge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generated", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--configs", type=Path, default=FOLDER, help="folder with index.tsv")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    cases = given(args.configs) or KINDS
    with tempfile.TemporaryDirectory() as folder:
        right = [is_right(case, Path(folder) / f"public-{n}") for n, case in enumerate(cases)]
        counts, wrong = count_outcomes(tiny_llama(), Path(folder), args.generated, args.seed)
    print(wrong)
    rows = [
        row("foreign_configs_accepted", sum(right) / len(right), "share", spread=f"n={len(right)}", goal=1.0),
        row("foreign_generated", counts["all"], "configs", goal=0.9 * args.generated),
        row("foreign_generated_valid", counts["valid"] / counts["all"], "share", goal=0.3),
        row("foreign_false_accepts", counts["false_accepts"], "configs", goal=0, at_least=False),
        row("foreign_false_refusals", counts["false_refusals"] / counts["valid"], "share of valid", goal=0.01,
            at_least=False),
    ]  # fmt: skip
    print_table(rows)
    print(write_results("foreign_adapters", rows))


def is_right(case: PublicConfig, folder: Path) -> bool:
    outcome = judge(case, folder)
    if outcome.verdict != case.expected:
        print(case.number, case.expected, outcome)
    return outcome.verdict == case.expected and outcome.difference <= TOLERANCE


if __name__ == "__main__":
    main()
