"""What a training will take: its work in floating-point operations, at the speed of former trainings.

The work counts the base model's matrix products, which take nearly all of the time: 2 operations for each weight and
token in the forward pass, 2 more in the backward pass, which ends at the lowest layer that learns.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.durations import in_words
from shared.contracts.times import utc_now
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid

FACTOR = 3.0
"""A training takes between a third and three times its estimate, on a machine with as much else to do as before."""
BYTES_A_TOKEN = 3.5
TEMPLATE_TOKENS = 12
START_SECONDS = 20.0
"""What a training takes besides its steps: processes, loading the base model to train and to judge."""

_PRECISIONS = ("float32", "bfloat16")
Shapes = Mapping[str, tuple[int, int]]


class Rows(NamedTuple):
    """A number of rows, and the mean length of what a model reads of one, in bytes of UTF-8."""

    number: int
    bytes_each: float

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Count texts."""
        return cls(len(texts), sum(len(text.encode()) for text in texts) / max(len(texts), 1))

    def part(self, count: float) -> Self:
        """Return at most `count` of them."""
        return self._replace(number=min(self.number, math.ceil(count)))

    def tokens(self, max_length: int, prompt_bytes: int = 0) -> float:
        """Return about how many tokens all of them are, each beside a prompt."""
        each = TEMPLATE_TOKENS + (self.bytes_each + prompt_bytes) / BYTES_A_TOKEN
        return self.number * min(each, max_length)


def together(parts: Iterable[Rows]) -> Rows:
    """Return all rows, with the mean of their lengths."""
    parts = list(parts)
    count = sum(rows.number for rows in parts)
    return Rows(count, sum(rows.number * rows.bytes_each for rows in parts) / max(count, 1))


class Work(NamedTuple):
    """What a training does with a language model; all zero where it trains none."""

    steps: int = 0
    tokens: float = 0
    """Tokens trained on, over all epochs."""
    read_tokens: float = 0
    """Tokens of the rows that the result is judged on."""
    rows: int = 0
    """Rows of an epoch."""
    only_reads: bool = False
    """Whether rows are only answered, and nothing is trained."""


class Speed(BaseModel):
    """How fast a training ran."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pace: str
    """See `pace_of`."""
    step_flops: float = Field(gt=0)
    """Operations of one step: small steps are slower, operation by operation."""
    flops_per_second: float = Field(gt=0)
    is_probe: bool = False
    """Whether no training was measured, only products of the base model's size."""
    auto: Literal["float32", "bfloat16"] = "float32"
    """The precision that `auto` stands for where this was measured."""
    measured_at: str = Field(default_factory=utc_now)


class Estimate(BaseModel):
    """What the language model's part of a training will take."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    steps: int
    tokens: int
    basis: str
    """`measured`: from the speed of former trainings; `probed`: from that of matrix products alone."""


def work_of(settings: LoraSettings, trained: Rows, read: Rows, *, prompt_bytes: int = 0) -> Work:
    """Return the work of training on some rows and judging the result on others."""
    batches = math.ceil(trained.number / settings.batch_size) * settings.epochs
    return Work(
        steps=math.ceil(batches / settings.accumulate),
        tokens=settings.epochs * trained.tokens(settings.max_length, prompt_bytes),
        read_tokens=read.tokens(settings.max_length, prompt_bytes),
        rows=trained.number,
    )


def forward_flops(shapes: Shapes) -> float:
    """Return the operations of one token's forward pass through the layers."""
    return 2.0 * sum(out * into for name, (out, into) in shapes.items() if layer_of(name))


def training_flops(shapes: Shapes, settings: LoraSettings) -> float:
    """Return the operations of one token in a training step."""
    layers = len({layer_of(name) for name in shapes} - {""})
    learning = min(1.0, (settings.top_layers or layers) / max(layers, 1))
    return forward_flops(shapes) * (1 + learning * (2 if settings.gradient_checkpointing is True else 1))


def pace_of(settings: LoraSettings) -> str:
    """Return what decides the speed of an operation: the precision, and methods that compute more than plain LoRA."""
    return settings.precision + (f" {settings.method}" if settings.method in ("dora", "qlora") else "")


def settled(settings: LoraSettings, speeds: Sequence[Speed]) -> LoraSettings:
    """Return the settings with what `auto` stands for on the trainer that was measured last; float32 without one."""
    if settings.precision != "auto":
        return settings
    return settings.model_copy(update={"precision": speeds[-1].auto if speeds else "float32"})


def estimate(shapes: Shapes, settings: LoraSettings, work: Work, speeds: Sequence[Speed]) -> Estimate | None:
    """Return what the work will take; None where no speed is known yet, or there is no work."""
    if not (work.tokens or work.only_reads) or not speeds:
        return None
    settings = settled(settings, speeds)
    flops = work.tokens * training_flops(shapes, settings)
    step = (flops or work.read_tokens * forward_flops(shapes)) / max(work.steps, 1)
    speed = _nearest(speeds, pace_of(settings), step)
    # A selector is judged in the precision that the hardware multiplies faster.
    reading = max(_nearest(speeds, pace, step).flops_per_second for pace in _PRECISIONS)
    seconds = flops / speed.flops_per_second + work.read_tokens * forward_flops(shapes) / reading
    return Estimate(
        seconds=round(START_SECONDS + seconds, 1),
        steps=work.steps,
        tokens=round(work.tokens),
        basis="probed" if speed.is_probe else "measured",
    )


def check_cost(found: Estimate | None, limit_seconds: float, kind: str, *, confirmed: bool) -> None:
    """Raise `Invalid` `training_costly` where the estimate for a kind of job is above the limit and not confirmed.

    A limit of 0 asks for no confirmation.
    """
    if found is None or confirmed or not limit_seconds or found.seconds <= limit_seconds:
        return
    raise Invalid(
        "training_costly",
        f"the language model would train for about {in_words(found.seconds)} ({found.steps} steps, {found.tokens} "
        f"tokens), above the limit of {in_words(limit_seconds)} (SIGNALBOX_CONFIRM_TRAINING_SECONDS): confirm it with "
        f"`confirm_cost: true` (`--confirm-cost`), or take {_cheaper(kind)}",
    )


def _cheaper(kind: str) -> str:
    fewer = "fewer rows or `epochs`, or precision bfloat16 where the hardware computes it"
    if kind == "adapter.compose":
        return "fewer `evaluate_rows` or parts"
    if not kind.startswith("selector."):
        return fewer
    return f"words alone (`selector: light`, `--kind light`), a smaller `rows_per_label` or `retention`, or {fewer}"


def _nearest(speeds: Sequence[Speed], pace: str, step_flops: float) -> Speed:
    """Return the measurement that is most alike: in pace, then in the size of a step; of several, the newest."""

    def distance(speed: Speed) -> tuple[bool, bool, bool, float]:
        other_precision = speed.pace.split()[0] != pace.split(maxsplit=1)[0]
        return (speed.pace != pace, other_precision, speed.is_probe, abs(math.log(speed.step_flops / step_flops)))

    return min(reversed(speeds), key=distance)


def layer_of(module: str) -> str:
    """Return the number of the module's layer; empty for a module outside of the layers."""
    return next((part for part in reversed(module.split(".")) if part.isdecimal()), "")
