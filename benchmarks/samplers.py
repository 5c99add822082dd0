"""`sampler_formula_error`: each sampler's probabilities against its formula in 40 digits, and a million draws of each.

The sizes are those of the six classification tasks of CLUE, as the multi-task paper has them (table 7).
"""

import math
from collections import Counter
from decimal import Decimal, localcontext
from fractions import Fraction

from benchmarks.common import Row, print_table, row, write_results
from services.trainer.multitask.samplers import Sampling, drawn_rows

SIZES = (947, 49_726, 11_425, 19_836, 6_564, 50_437)
DRAWS = 1_000_000
BUDGET = 15_000 * 8
EPOCH_CAP = 10
SAMPLINGS = (
    Sampling("instance"),
    Sampling("class"),
    Sampling("temperature", tau=3.33),
    Sampling("capped-temperature", tau=2, cap=20_000),
    Sampling("unimax", epoch_cap=EPOCH_CAP),
)
ROUNDING = 4 * 2.0**-53
"""Rounding of a few operations on numbers below 1."""


def main() -> None:
    rows = [row("sampler_formula_error", max(map(_error, SAMPLINGS)) / ROUNDING, "of rounding", goal=1, at_least=False)]
    rows += [_drawn(sampling) for sampling in SAMPLINGS]
    write_results("samplers", rows)
    print_table(rows)


def _error(sampling: Sampling) -> float:
    """The largest difference of a probability from the formula."""
    found = sampling.probabilities(SIZES, BUDGET)
    return max(abs(own - formula) for own, formula in zip(found, _formula(sampling), strict=True))


def _formula(sampling: Sampling) -> list[float]:
    if sampling.sampler == "unimax":
        return _unimax()
    tau = {"instance": Decimal(1), "class": Decimal("Infinity")}.get(sampling.sampler, Decimal(str(sampling.tau)))
    cap = sampling.cap if sampling.sampler == "capped-temperature" else math.inf
    with localcontext(prec=40):
        sizes = [Decimal(int(min(size, cap))) for size in SIZES]
        weights = [(size / sum(sizes)) ** (1 / tau) for size in sizes]
        return [float(weight / sum(weights)) for weight in weights]


def _unimax() -> list[float]:
    """The level under which tasks lie at their cap and over which all have the same, found by trying each count."""
    caps = sorted(size * EPOCH_CAP for size in SIZES)
    for under in range(len(caps) + 1):
        level = Fraction(BUDGET - sum(caps[:under]), max(len(caps) - under, 1))
        if under == len(caps) or level <= caps[under]:
            break
    shares = [min(Fraction(size * EPOCH_CAP), level) if under < len(caps) else Fraction(size) for size in SIZES]
    return [float(share / sum(shares)) for share in shares]


def _drawn(sampling: Sampling) -> Row:
    """How far the draws are from the probabilities, in standard errors, at the task where they are farthest."""
    chances = sampling.probabilities(SIZES, BUDGET)
    counts = Counter(drawn_rows(chances, SIZES, DRAWS, seed=0))
    ends = [sum(SIZES[: n + 1]) for n in range(len(SIZES))]
    farthest = 0.0
    for end, size, chance in zip(ends, SIZES, chances, strict=True):
        seen = sum(counts[number] for number in range(end - size, end))
        farthest = max(farthest, abs(seen - DRAWS * chance) / math.sqrt(DRAWS * chance * (1 - chance)))
    return row(f"sampler_draws_{sampling.sampler}", farthest, "standard errors", goal=3, at_least=False)


if __name__ == "__main__":
    main()
