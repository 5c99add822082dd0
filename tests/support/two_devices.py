"""A host beside a card whose tensors have shapes and no numbers: meta tensors, which need no card.

What passes between the two is counted, and so are the operations on the card.
"""

from collections import Counter
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CARD = torch.device("meta")
_WITHOUT_WORK = {"aten::_unsafe_view", "aten::lift_fresh", "aten::detach_", "aten::alias", "aten::detach"}
aten = torch.ops.aten
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
_READ = {
    aten.allclose.default: True,
    aten.equal.default: False,
    aten._local_scalar_dense.default: 1,
}
"""What the host is told of the card's numbers."""


class TwoDevices(TorchDispatchMode):
    """Counts copies, and the operations on the card: composite ones as those that they are made of, views as none.

    An operation that takes tensors of both fails, as it would with a card, but for copies.
    """

    def __init__(self):
        super().__init__()
        self.copies = Counter()
        self.operations = Counter()

    def forget(self):
        """Count from zero."""
        self.copies.clear()
        self.operations.clear()

    def launched(self, name, arguments):
        """Count one launch of a kernel."""
        host = [a for a in arguments if isinstance(a, torch.Tensor) and a.device != CARD]
        assert not host, f"{name} gets a tensor of the host"
        self.operations[f"triton::{name}"] += 1

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_card = [tensor.device == CARD for tensor in tensors]
        if function in _READ and any(on_card):
            self.copies["to host"] += 1
            return _READ[function]
        with self:
            made = function.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
        if function is aten.copy_.default and len(set(on_card)) > 1:
            self.copies["to card" if on_card[0] else "to host"] += 1
            return args[0]
        if function is aten._to_copy.default and "device" in kwargs:
            return self._copied(function, args[0], kwargs)
        if function in _INDEXED and on_card[0]:  # torch copies indices by itself
            indices = [i if i is None or i.device == CARD else self._index(i) for i in args[1]]
            args, tensors = (args[0], indices, *args[2:]), [args[0], *indices, *args[2:3]]
        devices = {tensor.device for tensor in tensors if tensor is not None and tensor.ndim}
        assert len(devices) < 2, f"{function} takes tensors of host and card"
        if any(on_card) and not function.is_view and function._schema.name not in _WITHOUT_WORK:
            self.operations[function._schema.name] += 1
        return function(*args, **kwargs)

    def _index(self, tensor):
        self.copies["to card"] += 1
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=CARD)

    def _copied(self, function, tensor, kwargs):
        to_card = torch.device(kwargs["device"]) == CARD
        if to_card == (tensor.device == CARD):
            self.operations[function._schema.name] += to_card
            return function(tensor, **kwargs)
        self.copies["to card" if to_card else "to host"] += 1
        return torch.zeros(tensor.shape, dtype=kwargs.get("dtype") or tensor.dtype, device=kwargs["device"])


class ListsToCard(TorchFunctionMode):
    """Counts the copies of lists that become a card's tensors or index them: no operation is dispatched for these."""

    def __init__(self, devices):
        super().__init__()
        self._devices = devices

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in {torch.Tensor.__getitem__, torch.Tensor.__setitem__} and args[0].device == CARD:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            self._devices.copies["to card"] += sum(isinstance(part, list) for part in index)
        if function in {torch.tensor, torch.as_tensor} and torch.device((kwargs or {}).get("device") or "cpu") == CARD:
            self._devices.copies["to card"] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def two_devices():
    """Triton's launches are counted and do nothing."""
    from triton.runtime import interpreter

    mode, call = TwoDevices(), interpreter.GridExecutor.__call__

    def count(executor, *args, **kwargs):
        mode.launched(executor.fn.__name__, [*args, *kwargs.values()])

    interpreter.GridExecutor.__call__ = count
    try:
        with ListsToCard(mode), mode:
            yield mode
    finally:
        interpreter.GridExecutor.__call__ = call
