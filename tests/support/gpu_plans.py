"""Base models and adapters of which plans for cards are made."""

from services.cli.gpu.memory import GIB, BaseSize
from services.cli.gpu.plan import Cards, Need

DOMAINS = ("bank", "fin", "hr", "it", "law", "med", "shop", "travel")


def manifest(*, layers=28, hidden=3584, heads=512, inner=18944, rows=152064, **fields):
    """What the API says of a base model; by default one with Qwen2-7B's shapes."""
    shapes = {}
    for number in range(layers):
        attention, mlp = f"model.layers.{number}.self_attn", f"model.layers.{number}.mlp"
        shapes |= {f"{attention}.{name}": (hidden, hidden) for name in ("q_proj", "o_proj")}
        shapes |= {f"{attention}.{name}": (heads, hidden) for name in ("k_proj", "v_proj")}
        shapes |= {f"{mlp}.gate_proj": (inner, hidden), f"{mlp}.up_proj": (inner, hidden)}
        shapes[f"{mlp}.down_proj"] = (hidden, inner)
    shapes["lm_head"] = (rows, hidden)
    known = {"id": "pin", "name": "qwen2-7b", "shapes": shapes, "vocabulary_size": rows, "context_length": 32768}
    return known | {"weight_bytes": 15_231_233_024} | fields


def base(**fields):
    return BaseSize.of(manifest(**fields))


def needs(count=40, *, groups=DOMAINS, rank=16, method="lora"):
    return [Need(f"{groups[n % len(groups)]}.t{n}@1", groups[n % len(groups)], rank, method) for n in range(count)]


def cards(count=4, gib=80, **fields):
    return Cards(count, gib * GIB, **fields)
