"""Float32 arithmetic on weights that are kept in fewer bits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter


@contextmanager
def float32_weights(model: "Module") -> Iterator[None]:
    """Within the block each module computes with its weights in float32, which it has only while it computes.

    The weights themselves stay as they are, so that this takes the memory of the largest of them and not of another
    model. The caller's masks must be float32; the model must not run in another thread meanwhile.
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
        if isinstance(module, torch.nn.Embedding):  # a look-up: only what is found needs the other type
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
