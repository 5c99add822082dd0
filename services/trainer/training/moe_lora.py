"""A mixture of LoRA experts on the linear layers of a model. Imports torch: import it lazily.

The comparison model of the paper's section 4.2: a router picks a few experts for each token (Dou et al. 2024), and
higher layers have more experts (Gao et al. 2024, MoLA).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear

from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS_FILE = "model.safetensors"
"""The name under which transformers' `Trainer` looks for the weights of a checkpoint."""
BALANCE = 0.01
"""Weight of the routers' imbalance in the loss (Fedus et al. 2022, section 2.2)."""


class ExpertLinear(nn.Module):
    """A frozen linear layer with LoRA experts, of which each token uses the `used` most probable ones."""

    def __init__(self, base: nn.Linear, experts: int, used: int, config: LoraSettings) -> None:
        super().__init__()
        self.base = base
        self.experts = experts
        self.used = min(used, experts)
        self.scale = config.alpha / (math.sqrt(config.rank) if config.method == "rslora" else config.rank)
        self.dropout = nn.Dropout(config.dropout)
        device = base.weight.device
        self.router = nn.Linear(base.in_features, experts, bias=False, device=device)
        bound = 1 / math.sqrt(base.in_features)  # as PEFT draws A
        down = torch.empty(experts * config.rank, base.in_features, device=device)
        self.down = nn.Parameter(down.uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(base.out_features, experts * config.rank, device=device))
        self.imbalance = torch.zeros(())

    def forward(self, inputs: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`: all experts are one product, in which the gates of unused experts are 0."""
        chances = self.router(inputs).float().softmax(-1)
        best = chances.topk(self.used, dim=-1)
        shares = best.values / best.values.sum(-1, keepdim=True)
        gates = torch.zeros_like(chances).scatter(-1, best.indices, shares)
        if self.training:
            self.imbalance = imbalance(chances, gates)
        hidden = linear(self.dropout(inputs), self.down).unflatten(-1, (self.experts, -1))
        gated = (hidden * gates.unsqueeze(-1).to(hidden.dtype)).flatten(-2)
        return self.base(inputs) + self.scale * linear(gated, self.up)


def imbalance(chances: Tensor, gates: Tensor) -> Tensor:
    """Return 1 where experts are used evenly, up to their number where one gets all (Fedus et al. 2022, equation 4)."""
    taken = (gates > 0).float().flatten(0, -2).mean(0)
    return chances.shape[-1] * (taken / taken.sum()) @ chances.flatten(0, -2).mean(0)


def with_experts(
    model: "PreTrainedModel", config: LoraSettings, experts: Sequence[int], used: int
) -> "PreTrainedModel":
    """Add experts to the target modules in place; `experts` are their numbers in equal parts of the layers, from below.

    Raises `Invalid` `target_modules_unknown` where no module has such a name.
    """
    torch.manual_seed(config.seed)
    model.requires_grad_(requires_grad=False)
    layers = model.get_decoder().layers
    found = 0
    for number, layer in list(enumerate(layers))[-(config.top_layers or len(layers)) :]:
        count = experts[number * len(experts) // len(layers)]
        for name, module in _targets(layer, config):
            parent, _, attribute = name.rpartition(".")
            setattr(layer.get_submodule(parent), attribute, ExpertLinear(module, count, used, config))
            found += 1
    if not found:
        raise Invalid("target_modules_unknown", f"the base model has no linear modules {config.target_modules}")
    return model


def _targets(layer: nn.Module, config: LoraSettings) -> list[tuple[str, nn.Linear]]:
    linears = [(name, module) for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
    if config.target_modules == "all-linear":
        return linears
    return [(name, module) for name, module in linears if name.rpartition(".")[2] in config.target_modules]


def mean_imbalance(model: nn.Module) -> Tensor:
    """The term that the routers of the last forward pass add to the loss."""
    found = [module.imbalance for module in model.modules() if isinstance(module, ExpertLinear)]
    return BALANCE * torch.stack(found).mean()


def save_experts(model: nn.Module, folder: Path) -> Path:
    """Write routers and experts, without the base model, to `folder/model.safetensors`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        name: weight.detach().cpu().contiguous() for name, weight in model.named_parameters() if weight.requires_grad
    }
    save_file(own, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    return folder


def load_experts(model: nn.Module, folder: Path) -> nn.Module:
    """Load weights of `save_experts` into a model of `with_experts`; returns it in eval mode."""
    model.load_state_dict(load_file(folder / WEIGHTS_FILE), strict=False)
    return model.eval()
