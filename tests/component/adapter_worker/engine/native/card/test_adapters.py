"""The kernels that apply adapters on a card, interpreted on a CPU, give what the formulas give."""

import pytest
import torch
from torch import nn

pytest.importorskip("triton", reason="the kernels for a card need Triton")

from services.adapter_worker.engine.native.card.adapters import AdapterTiles, BatchTiles, CardAdapters
from services.adapter_worker.engine.native.card.launching import Workspace
from services.adapter_worker.engine.native.lora.bank import AdapterBank
from services.adapter_worker.engine.native.lora.layers import SharedInput
from services.adapter_worker.engine.native.lora.segments import AdapterSegments, BatchSegments
from services.adapter_worker.engine.native.lora.weights import AdapterWeights, LowRank

CPU = torch.device("cpu")
INTO, WIDTHS = 136, {"q": 144, "k": 16, "v": 40}
OUTS = {**WIDTHS, "elsewhere": 16}


class Group:
    """Three layers with one input and a layer elsewhere, and their adapters on a card."""

    def __init__(self, dtype, slots=40):
        torch.manual_seed(1)
        self.linears = {name: nn.Linear(INTO, out, bias=True).to(dtype) for name, out in WIDTHS.items()}
        weights = {
            name: (layer.weight.detach().clone(), layer.bias.detach().clone()) for name, layer in self.linears.items()
        }
        self.base = {name: [tensor.double() for tensor in pair] for name, pair in weights.items()}
        self.tiles = BatchTiles()
        batch = BatchSegments()
        shared = SharedInput(list(self.linears.values()), slots, batch, is_head=False)
        elsewhere = SharedInput([nn.Linear(INTO, 16).to(dtype)], slots, batch, is_head=False)
        for group in (shared, elsewhere):
            group.use_card(
                CardAdapters(group.a, group.b, group.bounds, batch=self.tiles, is_head=False, workspace=Workspace(CPU))
            )
        layers = {name: (shared, index) for index, name in enumerate(WIDTHS)}
        self.bank = AdapterBank({**layers, "elsewhere": (elsewhere, 0)}, slots)
        self.adapters = {}

    def load(self, name, rank, modules=tuple(WIDTHS), *, is_dora=False):
        weights = {
            module: LowRank(
                torch.randn(rank, INTO), torch.randn(OUTS[module], rank) / rank**0.5,
                torch.rand(OUTS[module]) + 0.5 if is_dora else None, 0.5,
            )
            for module in modules
        }  # fmt: skip
        self.bank.reserve(name, AdapterWeights(weights))
        self.bank.fill(name, AdapterWeights(weights))
        self.adapters[name] = weights

    @torch.no_grad()
    def run(self, x, names):
        """The layers' outputs for rows of these adapters, side by side."""
        segments = AdapterSegments.of(name and self.bank.use(name) for name in names)
        self.tiles.tokens = AdapterTiles.of(segments, len(names))
        return torch.cat([layer(x[None]) for layer in self.linears.values()], dim=-1)[0]

    def expected(self, x, names):
        """The same in float64, row by row, by the formulas of LoRA and DoRA."""
        return torch.stack([
            torch.cat([self._of_row(row.double(), low.get(module), module) for module in WIDTHS])
            for row, low in zip(x, (self.adapters.get(name, {}) for name in names), strict=True)
        ])  # fmt: skip

    def _of_row(self, row, low, module):
        weight, bias = self.base[module]
        if low is None:
            return weight @ row + bias
        merged = weight + low.scaling * low.b.double() @ low.a.double()
        if low.magnitude is not None:
            merged *= (low.magnitude.double() / merged.norm(dim=1))[:, None]
        return merged @ row + bias


@pytest.mark.parametrize(
    ("dtype", "error", "ranks"),
    [(torch.float32, 1e-5, [1, 8, 9, 20]), (torch.bfloat16, 2e-2, [3, 20])],
    ids=["float32", "bfloat16"],
)
def test_rows_of_all_ranks_and_kinds_are_as_the_formulas_say(dtype, error, ranks):
    group = Group(dtype)
    for rank in ranks:
        group.load(f"r{rank}", rank, is_dora=rank in {1, 20})
    group.load("some", 4, ["q", "v"])
    group.load("none of these", 8, ["elsewhere"])
    names = [None, "some", "none of these", *(f"r{rank}" for rank in ranks), "r20", "some", None]
    x = torch.randn(len(names), INTO).to(dtype)
    found, expected = group.run(x, names), group.expected(x, names)
    assert torch.allclose(found.double(), expected, rtol=error, atol=error * expected.abs().max())
    base = group.run(x, [None] * len(names))
    for n in (0, 2, -1):  # rows that no adapter changes are the base model's to the last bit
        assert torch.equal(found[n], base[n])


def test_long_segments_beside_short_ones():
    group = Group(torch.float32)
    group.load("long", 64, is_dora=True)
    group.load("short", 3)
    names = ["long"] * 34 + [None, "short"]
    x = torch.randn(len(names), INTO)
    assert torch.allclose(group.run(x, names).double(), group.expected(x, names), rtol=1e-5, atol=1e-4)


def test_a_row_is_the_same_to_the_last_bit_alone_and_in_company():
    group = Group(torch.float32)
    for name, rank in (("a", 8), ("b", 20), ("c", 2)):
        group.load(name, rank)
    x, y = torch.randn(4, INTO), [torch.zeros(1, rows, sum(WIDTHS.values())) for rows in (4, 1)]
    adapters = group.bank._groups[0]._on_card
    for rows, names, out in ((x, ["a", "b", "b", "c"], y[0]), (x[2:3], ["b"], y[1])):
        group.tiles.tokens = AdapterTiles.of(AdapterSegments.of(map(group.bank.use, names)), len(names))
        adapters.apply(rows[None], out)
    assert torch.equal(y[0][0, 2], y[1][0, 0])


def test_what_leaves_its_slots_leaves_nothing_behind():
    group = Group(torch.float32, slots=2)
    group.load("dora", 16, is_dora=True)
    group.bank.unload("dora")
    group.load("q alone", 3, ["q"])
    group.load("k alone", 3, ["k"])
    names = ["q alone", "k alone", None]
    x = torch.randn(3, INTO)
    assert torch.allclose(group.run(x, names).double(), group.expected(x, names), rtol=1e-5, atol=1e-5)
