"""What a vLLM server takes of a card's memory, and what processes take of their machine's; all in bytes.

The formulas are read off vLLM's source (`vllm/lora/layers`) and our own loading; nothing here was measured on a card.
"""

from collections.abc import Mapping
from math import ceil
from typing import Any, NamedTuple, Self

GIB = 1 << 30
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` takes."""
UTILIZATION = 0.90
"""The share of a card that a server takes by vLLM's default."""
MOST_SLOTS = 64
_NUMBER = 2  # bytes of a bfloat16
_RUNTIME = 3 * GIB  # CUDA's context, activations and graphs of a server: estimated
_RUNTIME_OF_HELPER = GIB
_KEPT_RELEASES = 2  # of a selector: the current one and the one before it
_TRAINED_SHARE, _TRAINED = 1.25, 6 * GIB  # gradients, states and activations of a LoRA in training: estimated
_UNKNOWN_SHARE = 1.3
_FUSED = ("qkv_proj", "query_key_value")

Shapes = Mapping[str, tuple[int, int]]


class BaseSize(NamedTuple):
    """What a base model takes: its weights, one adapter slot of rank 1, keys and values of one token (0: not known)."""

    name: str
    weights: int
    rank_bytes: int
    token_bytes: int
    context_length: int
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """Read the API's answer about a base model."""
        shapes = {name: (int(out), int(into)) for name, (out, into) in manifest["shapes"].items()}
        rows = int(manifest.get("vocabulary_size") or 0) or max((out for out, _ in shapes.values()), default=0)
        counted = _NUMBER * (sum(out * into for out, into in shapes.values()) + rows * _width(shapes))
        weights = int(manifest.get("weight_bytes") or 0)
        return cls(
            name=str(manifest.get("name") or manifest["id"]),
            weights=weights or counted,
            rank_bytes=_rank_bytes(shapes, rows),
            token_bytes=token_bytes(shapes),
            context_length=int(manifest.get("context_length") or 0),
            notes=tuple(_remarks(weights, counted, token_bytes(shapes))),
        )

    def slot(self, rank: int) -> int:
        """Bytes of one adapter slot on the card, whatever the adapter in it changes."""
        return self.rank_bytes * rank


class Fit(NamedTuple):
    """How a server divides what it has of each of its cards."""

    slots: int
    rank: int
    slot_bytes: int
    cache_bytes: int
    cache_tokens: int
    """Of all its cards together; 0 where a token's size is not known."""


def rank_for(rank: int) -> int | None:
    """Return the smallest `--max-lora-rank` that takes an adapter of this rank; None where there is none."""
    return next((known for known in RANKS if rank <= known), None)


def token_bytes(shapes: Shapes) -> int:
    """Return the bytes of one token's keys and values; 0 where the layers' names do not tell."""
    total = 0
    for name, (out, _) in shapes.items():
        parent, _, last = name.rpartition(".")
        if last in ("k_proj", "v_proj"):
            total += out
        elif last in _FUSED:
            _, heads = shapes.get(f"{parent}.o_proj") or shapes.get(f"{parent}.dense") or (0, out)
            total += out - heads
    return _NUMBER * total


def fit(base: BaseSize, room: int, *, adapters: int, rank: int, cards: int, longest: int) -> Fit | None:
    """Divide `room` bytes of each of a server's cards among slots and cache; None where not even one slot fits.

    Half of what the weights leave is the cache's, and at least one sequence of `longest` tokens.
    """
    rest = room - _RUNTIME - base.weights // cards
    least = longest * base.token_bytes // cards
    slot = max(1, base.slot(rank))
    slots = min(max(1, adapters), MOST_SLOTS, (rest - max(least, rest // 2)) // slot)
    slots = max(slots, min(1, (rest - least) // slot))
    if slots < 1:
        return None
    cache = rest - slots * slot
    tokens = cache * cards // base.token_bytes if base.token_bytes else 0
    return Fit(slots, rank, slots * slot, cache, tokens)


def cards_for(base: BaseSize, card: int, *, rank: int, longest: int) -> int:
    """Return the smallest power of two of cards over which a server of this base model fits."""
    count = 1
    while not fit(base, int(card * UTILIZATION), adapters=1, rank=rank, cards=count, longest=longest) and count < 1024:
        count *= 2
    return count


def selector_bytes(base: BaseSize) -> int:
    """Bytes on a card of a selector that reads with the base model."""
    return _KEPT_RELEASES * base.weights + _RUNTIME_OF_HELPER


def trainer_bytes(base: BaseSize) -> int:
    """Bytes on a card of a training in bfloat16 with gradient checkpoints."""
    return int(_TRAINED_SHARE * base.weights) + _TRAINED + _RUNTIME_OF_HELPER


def host_gib(process: str, weights: int, adapters: int = 0) -> int:
    """Return the memory limit of a process on its machine, in GiB, for weights of so many bytes in bfloat16.

    `adapters` are the bytes of the adapters that it keeps there. A server's weights pass through its memory; a selector
    and a trainer read them one by one onto their card; our own engine loads bfloat16.
    """
    times, more = {"server": (1, 8), "worker": (2, 3), "selector": (1, 4), "trainer": (1, 8)}[process]
    return more + ceil((times * weights + adapters) / GIB)


def _width(shapes: Shapes) -> int:
    """The model's hidden size: what most layers read."""
    widths = [into for _, into in shapes.values()]
    return max(set(widths), key=widths.count, default=0)


def _rank_bytes(shapes: Shapes, rows: int) -> int:
    """What A and B of every layer take for each rank: a server makes room in all, embedding and head included."""
    layers = sum(out + into for name, (out, into) in shapes.items() if name != "lm_head")
    return _NUMBER * (layers + 2 * (rows + _width(shapes)))


def _remarks(weights: int, counted: int, of_token: int) -> list[str]:
    remarks = []
    if not weights:
        remarks.append("the size of the weights is estimated from the layers: restart a worker or trainer to have it")
    elif weights > _UNKNOWN_SHARE * counted:
        remarks.append("some weights are in no linear layer (experts?): what vLLM's slots for them take is not counted")
    if not of_token:
        remarks.append("what a token takes of the cache is not known for this family: look at the server's log")
    return remarks
