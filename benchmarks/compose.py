"""Adapters made one on the real base model: how exact their sum is, what a merge loses, what bfloat16 would lose.

Random adapters of different ranks, modules, alphas and dtypes stand for a domain's and a task's: it is numbers that
decide here. `compose_exact` is the largest difference of a logit between the stacked folder and both adapters active in
PEFT, as a share of the largest logit, in float32; `compose_exact_abs` is the difference, `peft_order_abs` that of PEFT
to itself with the adapters in another order, and `compose_exact_float64` the difference where sums are not rounded
to float32. `compose_engine_abs` is that of our engine's log-probabilities. `branch_lost_bf16` and `merge_lost_bf16` are
what a training in bfloat16 would lose of the domain's change, as a share of it: as a branch of its own, and merged into
the weights (decision 55).
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from benchmarks.adapters_kit import TARGETS, TEXTS, engine
from benchmarks.common import print_table, row, write_results
from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.native.lora.weights import map_adapter
from services.trainer.training.compose import Part, distance, merge, stack
from shared.adapter_files import BaseShapes
from shared.contracts.built_in_templates import BASE_INSTRUCTION, adapter_prompt
from shared.contracts.compose import AdapterCompose
from shared.contracts.conversation import single_turn
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.model.tokens import encode
from shared.settings import Settings

EXACT = 1e-5
KINDS: dict[str, dict[str, Any]] = {
    "domain": {"r": 16, "lora_alpha": 32, "target_modules": TARGETS},
    "task": {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "rslora": {"r": 12, "lora_alpha": 8, "use_rslora": True, "target_modules": ["v_proj", "down_proj"]},
    "by module": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], "rank_pattern": {"up_proj": 10}},
}
SIZE = 0.02
"""Standard deviation of the weights: the change is a hundredth of the base weights, as after a training."""


def random_parts(base_folder: Path, folder: Path) -> list[Part]:
    """An adapter of each kind, one of them in bfloat16, with weights of their own."""
    parts = []
    for number, (name, config) in enumerate(KINDS.items()):
        torch.manual_seed(number)
        lora = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **config)
        model = get_peft_model(load_model(base_folder, "float32", "cpu"), lora)
        for parameter, weight in model.named_parameters():
            if "lora_" in parameter:
                weight.data = (SIZE * torch.randn_like(weight)).to(torch.bfloat16 if name == "task" else torch.float32)
        model.save_pretrained(folder / str(number))
        parts.append(Part(folder / str(number)))
    return parts


def all_active(base_folder: Path, parts: Sequence[Part]) -> PeftModel:
    """The base model with all parts active at once, as PEFT has it."""
    first, *others = parts
    model = PeftModel.from_pretrained(load_model(base_folder, "float32", "cpu"), first.folder, adapter_name="part0")
    for number, part in enumerate(others, 1):
        model.load_adapter(part.folder, adapter_name=f"part{number}")
    model.base_model.set_adapter([f"part{number}" for number in range(len(parts))])
    return model.eval()


def exactness(base_folder: Path, parts: Sequence[Part], made: Path) -> list[dict[str, Any]]:
    """Compare the stacked folder with all parts active, over all positions of some texts."""
    tokenizer = load_tokenizer(base_folder)
    together = all_active(base_folder, parts)
    one: Any = PeftModel.from_pretrained(load_model(base_folder, "float32", "cpu"), made).eval()

    def logits(model: Any) -> torch.Tensor:
        texts = [tokenizer(text, return_tensors="pt")["input_ids"] for text in TEXTS]
        with torch.inference_mode():
            return torch.cat([model(ids).logits[0].double() for ids in texts])

    names = [f"part{number}" for number in range(len(parts))]
    both, own = logits(together), logits(one)
    together.base_model.set_adapter(names[::-1])
    turned = logits(together)
    together.base_model.set_adapter(names)
    apart, floor = (both - own).abs().max().item(), (both - turned).abs().max().item()
    precise = (logits(together.double()) - logits(one.double())).abs().max().item()
    return [
        exact_row("compose_exact", apart / both.abs().max().item(), "of the largest logit", goal=1, at_least=False),
        exact_row("compose_exact_float64", precise, "", goal=1, at_least=False),
        exact_row("compose_exact_abs", apart, ""),
        exact_row("peft_order_abs", floor, ""),
    ]


def exact_row(key: str, value: float, unit: str, **goal: Any) -> dict[str, Any]:
    """A figure in units of 1e-5."""
    return row(key, value / EXACT, f"1e-5 {unit}".strip(), spread=f"{value:.1e}", **goal)


def engine_difference(base_folder: Path, parts: Sequence[Part], made: Path) -> float:
    """The largest difference between our engine's log-probabilities of its answers and those of all parts in PEFT."""
    tokenizer, together, largest = load_tokenizer(base_folder), all_active(base_folder, parts), 0.0
    with engine("float32") as served:
        served.load_adapter("made", made)
        for text in TEXTS:
            prompt = adapter_prompt("chatml", single_turn(BASE_INSTRUCTION, text))
            request = GenerationRequest("job", 1, prompt, "made", max_new_tokens=16, logprobs=True)
            generation = served.generate(request, lambda _piece: None)
            ids, said = encode(tokenizer, prompt, 1 << 20), list(generation.token_ids)
            with torch.inference_mode():
                logits = together(torch.tensor([ids + said])).logits[0, len(ids) - 1 : -1]
            expected = logits.log_softmax(-1).gather(-1, torch.tensor(said)[:, None]).squeeze(-1).tolist()
            assert generation.logprobs is not None
            pairs = zip(expected, generation.logprobs.logprobs, strict=True)
            largest = max(largest, *(abs(right - own) for right, own in pairs))
    return largest


def merges(parts: Sequence[Part], base: BaseShapes, folder: Path, rank: int) -> list[dict[str, Any]]:
    """What each merging method loses of the parts' change, as a share of it."""
    found = []
    for method in ("svd", "ties", "dare_ties"):
        named = [{"adapter": f"a.b{number}"} for number in range(len(parts))]
        how = AdapterCompose.model_validate(
            {"label": "a.b", "parts": named, "method": method, "rank": rank, "unjudged": True}
        )
        merged = merge(parts, how, base, "base", folder / method)
        found.append(row(f"lost_{method}_rank_{rank}", distance(parts, [Part(merged)]), "of the change"))
    return found


def in_bfloat16(base_folder: Path, part: Part) -> list[dict[str, Any]]:
    """What becomes of one adapter's change in a training in bfloat16: as a branch, and merged into the weights."""
    weights = dict(load_model(base_folder, "float32", "cpu").named_parameters())
    branch = merged = whole = 0.0
    for module, low in map_adapter(part.folder).modules.items():
        weight = weights[f"{module}.weight"].detach().to(torch.bfloat16).float()  # as such a training holds it
        change = low.scaling * low.b @ low.a
        as_branch = low.scaling * low.b.bfloat16().float() @ low.a.bfloat16().float()
        as_merged = (weight + change).to(torch.bfloat16).float() - weight
        whole += change.square().sum().item()
        branch += (as_branch - change).square().sum().item()
        merged += (as_merged - change).square().sum().item()
    lost = {"branch_lost_bf16": branch, "merge_lost_bf16": merged}
    return [row(name, (squares / whole) ** 0.5, "of the change") for name, squares in lost.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=8, help="that the merging methods merge to")
    args = parser.parse_args()
    base_folder = resolve_base_model(Settings())
    base = BaseShapes.from_folder(base_folder)
    with tempfile.TemporaryDirectory() as folder:
        parts = random_parts(base_folder, Path(folder))
        made = stack(parts, base, "base", Path(folder) / "made")
        both = stack(parts[:2], base, "base", Path(folder) / "both")
        figures = [
            *exactness(base_folder, parts[:2], both),
            exact_row("compose_engine_abs", engine_difference(base_folder, parts, made), ""),
            *merges(parts, base, Path(folder), args.rank),
            *in_bfloat16(base_folder, parts[0]),
        ]
    print_table(figures)
    write_results("compose", figures)


if __name__ == "__main__":
    main()
