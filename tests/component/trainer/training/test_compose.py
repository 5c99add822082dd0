"""Adapters made one: the exact sum against PEFT with all of them active, merged ones against PEFT's own."""

import json
from itertools import combinations

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from services.adapter_worker.engine.native.lora.weights import map_adapter
from services.trainer.training.compose import Part, distance, merge, stack
from shared.adapter_files import AdapterLimits, BaseShapes, adapter_digest, check_adapter
from shared.contracts.compose import AdapterCompose
from shared.model.base import load_model
from shared.model.merge import with_adapter
from tests.support.composition import KINDS, both_active, logits, random_adapter

EXACT = 1e-5


@pytest.fixture(scope="module")
def base(tiny_folder):
    return BaseShapes.from_folder(tiny_folder)


@pytest.fixture(scope="module")
def adapters(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: random_adapter(tiny_folder, folder / name.replace(" ", "-"), seed, **config)
        for seed, (name, config) in enumerate(KINDS.items())
    }


def answers(tiny_folder, folder):
    return logits(with_adapter(load_model(tiny_folder, "float32", "cpu"), folder))


@pytest.mark.parametrize("names", [*combinations(KINDS, 2), tuple(KINDS)], ids=" + ".join)
def test_a_stack_answers_as_all_its_parts_at_once(tiny_folder, adapters, base, tmp_path, names):
    made = stack([Part(adapters[name]) for name in names], base, "tiny", tmp_path / "made")
    expected = logits(both_active(tiny_folder, *(adapters[name] for name in names)))
    assert (answers(tiny_folder, made) - expected).abs().max() < EXACT
    alone = answers(tiny_folder, adapters[names[0]])
    assert (alone - expected).abs().max() > 100 * EXACT  # the other parts say something
    info = check_adapter(made, base, AdapterLimits())  # the store would take it
    assert info.rank == map_adapter(made).rank


def test_ranks_of_a_stack_are_the_sums_by_module(adapters, base, tmp_path):
    made = map_adapter(stack([Part(adapters["plain"]), Part(adapters["wide"])], base, "tiny", tmp_path / "made"))
    ranks = {name.rpartition(".")[2]: low.a.shape[0] for name, low in made.modules.items()}
    assert ranks == {"q_proj": 10, "v_proj": 10, "gate_proj": 6, "down_proj": 6}
    assert {low.scaling for low in made.modules.values()} == {1.0}


def test_a_weight_is_the_factor_of_a_parts_change(tiny_folder, adapters, base, tmp_path):
    plain, rslora = adapters["plain"], adapters["rslora"]
    made = stack([Part(plain, 2.0), Part(rslora, 0.25)], base, "tiny", tmp_path / "made")
    for folder, factor in ((plain, 2.0), (rslora, 0.25)):
        config = json.loads((folder / "adapter_config.json").read_text())
        scaled = tmp_path / folder.name
        scaled.mkdir()
        (scaled / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes())
        (scaled / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": factor * config["lora_alpha"]}))
    expected = logits(both_active(tiny_folder, tmp_path / plain.name, tmp_path / rslora.name))
    assert (answers(tiny_folder, made) - expected).abs().max() < EXACT


def test_weights_in_bfloat16_are_stacked_in_float32(tiny_folder, base, adapters, tmp_path):
    config = {"r": 4, "lora_alpha": 7, "target_modules": ["q_proj"]}  # a scale that bfloat16 has not
    half = random_adapter(tiny_folder, tmp_path / "half", 5, dtype=torch.bfloat16, **config)
    made = stack([Part(half), Part(adapters["plain"])], base, "tiny", tmp_path / "made")
    assert {tensor.dtype for tensor in load_file(made / "adapter_model.safetensors").values()} == {torch.float32}
    expected = logits(both_active(tiny_folder, half, adapters["plain"]))
    assert (answers(tiny_folder, made) - expected).abs().max() < EXACT


def test_a_stack_of_a_stack_is_that_of_all_parts(tiny_folder, adapters, base, tmp_path):
    inner = stack([Part(adapters["plain"]), Part(adapters["rslora"])], base, "tiny", tmp_path / "inner")
    made = stack([Part(inner, 0.5), Part(adapters["wide"])], base, "tiny", tmp_path / "made")
    flat = [Part(adapters["plain"], 0.5), Part(adapters["rslora"], 0.5), Part(adapters["wide"])]
    expected = answers(tiny_folder, stack(flat, base, "tiny", tmp_path / "flat"))
    assert (answers(tiny_folder, made) - expected).abs().max() < EXACT
    assert distance([Part(made)], flat) < 1e-6


def asked(method, rank, **more):
    parts = [{"adapter": "a.b"}, {"adapter": "c.d"}]
    return AdapterCompose(label="a.b", parts=parts, method=method, rank=rank, unjudged=True, **more)


@pytest.mark.parametrize(("method", "theirs"), [("svd", "svd"), ("ties", "ties_svd"), ("dare_ties", "dare_ties_svd")])
@pytest.mark.parametrize("density", [0.3, 1])
def test_merged_changes_are_those_of_peft(tiny_folder, adapters, base, tmp_path, method, theirs, density):
    names, weights = ("plain", "wide"), [1.0, 0.5]
    parts = [Part(adapters[name], weight) for name, weight in zip(names, weights, strict=True)]
    given = {} if method == "svd" else {"density": density, "seed": 3}
    made = merge(parts, asked(method, 8, **given), base, "tiny", tmp_path / "made")
    model = both_active(tiny_folder, *(adapters[name] for name in names))
    torch.manual_seed(3)
    model.add_weighted_adapter(
        ["part0", "part1"], weights, "merged", combination_type=theirs, svd_rank=8, density=density
    )  # fmt: skip
    model.set_adapter("merged")
    if method == "dare_ties" and density < 1:  # it draws module by module, in another order
        assert distance(parts, [Part(made)]) < 2
    else:
        assert (answers(tiny_folder, made) - logits(model)).abs().max() < 10 * EXACT
    assert check_adapter(made, base, AdapterLimits()).rank == 8


@pytest.mark.parametrize("method", ["svd", "ties", "dare_ties"])
def test_the_same_parts_and_seed_give_the_same_weights(adapters, base, tmp_path, method):
    parts = [Part(adapters["plain"]), Part(adapters["rslora"])]
    made = [merge(parts, asked(method, 4, seed=9), base, "tiny", tmp_path / name) for name in ("one", "two")]
    assert adapter_digest(made[0]) == adapter_digest(made[1])


def test_a_merge_draws_nothing_from_the_processs_random_numbers(adapters, base, tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    merge([Part(adapters["plain"]), Part(adapters["wide"])], asked("dare_ties", 4), base, "tiny", tmp_path / "made")
    assert torch.rand(1) == expected


def test_svd_loses_nothing_at_the_rank_of_the_sum_and_less_the_larger_its_rank(adapters, base, tmp_path):
    parts = [Part(adapters["plain"]), Part(adapters["wide"])]
    lost = [distance(parts, [Part(merge(parts, asked("svd", r), base, "tiny", tmp_path / str(r)))]) for r in (2, 5, 10)]
    assert lost[0] > lost[1] > 0.05
    assert lost[2] < 1e-5


def test_a_rank_above_a_narrow_layers_width_is_that_width(adapters, base, tmp_path):
    parts = [Part(adapters["by module"]), Part(adapters["plain"])]
    made = map_adapter(merge(parts, asked("ties", 64), base, "tiny", tmp_path / "made"))
    assert {low.a.shape[0] for low in made.modules.values()} == {16, 32}


def test_the_model_that_is_measured_may_hold_parts_and_composition_side_by_side(tiny_folder, adapters, base, tmp_path):
    made = stack([Part(adapters["plain"]), Part(adapters["wide"])], base, "tiny", tmp_path / "made")
    model = with_adapter(load_model(tiny_folder, "float32", "cpu"), adapters["plain"], "part0")
    model = with_adapter(with_adapter(model, adapters["wide"], "part1"), made, "made")
    assert isinstance(model, PeftModel)
    for name, folder in (("part0", adapters["plain"]), ("made", made)):
        model.set_adapter(name)
        assert (logits(model) - answers(tiny_folder, folder)).abs().max() < EXACT
