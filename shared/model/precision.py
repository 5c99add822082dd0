"""Float32 arithmetic on weights that are stored in fewer bits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter


@contextmanager
def float32_weights(model: "Module") -> Iterator[None]:
    """Within the block, each module converts its weights to float32 for the duration of its own forward pass.

    The stored weights stay unchanged, so this takes extra memory for the largest weight only, not for a second model.
    The caller's masks must be float32; the model must not run in another thread meanwhile.
    """
    import torch

    kept: dict[Parameter, Tensor] = {}

    def widen(module: "Module", _: object) -> None:
        for weight in module.parameters(recurse=False):
            kept[weight] = weight.data
            weight.data = weight.data.float()

    def restore(module: "Module", *_: object) -> None:
        for weight in module.parameters(recurse=False):
            weight.data = kept.pop(weight)

    handles = []
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):  # a look-up: only its output needs to be float32
            handles.append(module.register_forward_hook(lambda _module, _inputs, found: found.float()))
        elif any(True for _ in module.parameters(recurse=False)):
            handles += [module.register_forward_pre_hook(widen), module.register_forward_hook(restore)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for weight, data in kept.items():
            weight.data = data
