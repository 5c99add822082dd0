"""How often each task is drawn when several train together, and which rows: the same at every attempt.

Paper: "Deploying Multi-task Online Server with Large Language Model", equations 1 to 4; UniMax: Chung et al. 2023.
"""

import math
import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from shared.contracts.multitask import Sampler


class Sampling(NamedTuple):
    """A sampler with its numbers."""

    sampler: Sampler
    tau: float = 1.0
    cap: float = math.inf
    """K: rows of a task that count, at most."""
    epoch_cap: int = 1
    """N of UniMax: how often a row is shown at most."""

    def probabilities(self, sizes: Sequence[int], draws: int) -> list[float]:
        """Return the probability of each task, from its rows; `draws` is the budget that UniMax shares out."""
        match self.sampler:
            case "instance":
                return temperature(sizes, 1.0)
            case "class":
                return temperature(sizes, math.inf)
            case "temperature":
                return temperature(sizes, self.tau)
            case "capped-temperature":
                return temperature([min(size, self.cap) for size in sizes], self.tau)
            case "unimax":
                return unimax(sizes, draws, self.epoch_cap)


def temperature(sizes: Sequence[float], tau: float) -> list[float]:
    """Return q_l = p_l^(1/tau) / sum of p^(1/tau), where p_l is the task's share of the rows (equations 1, 2 and 4).

    With a tau of 1 it is p, with one of infinity all tasks are drawn alike.
    """
    largest = max(sizes)  # powers of ratios to it are at most 1
    weights = [(size / largest) ** (1 / tau) for size in sizes]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def unimax(sizes: Sequence[int], draws: int, epoch_cap: int) -> list[float]:
    """Share `draws` out equally, to no task more than `epoch_cap` epochs of it, smallest first (Chung et al., alg. 1).

    Where every task is at its cap, fewer draws are given than there are; the probabilities are of those.
    """
    left, given = Fraction(draws), [Fraction(0)] * len(sizes)
    for behind, task in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        given[task] = min(left / (len(sizes) - behind), Fraction(sizes[task] * epoch_cap))
        left -= given[task]
    total = sum(given)
    return [float(share / total) for share in given]


def drawn_rows(probabilities: Sequence[float], sizes: Sequence[int], draws: int, seed: int) -> list[int]:
    """Return the rows of a run, numbered over all tasks in their order.

    A task is drawn by its probability; it gives its rows in a shuffled order, and shuffles anew when each was given.
    The same arguments give the same rows, and fewer draws the beginning of them: a step's rows follow from its number.
    """
    dice = random.Random(f"{seed}:tasks")  # noqa: S311
    bounds = list(accumulate(probabilities))[:-1]  # what rounding leaves belongs to the last
    firsts = accumulate(sizes[:-1], initial=0)
    rows = [
        _endless(first, size, f"{seed}:{task}") for task, (first, size) in enumerate(zip(firsts, sizes, strict=True))
    ]
    return [next(rows[bisect(bounds, dice.random())]) for _ in range(draws)]


def _endless(first: int, size: int, seed: str) -> Iterator[int]:
    """The rows of a task, epoch after epoch."""
    dice, order = random.Random(seed), list(range(first, first + size))  # noqa: S311
    while True:
        dice.shuffle(order)
        yield from order
