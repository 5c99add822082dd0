"""One step of a training, without its loop: the loss of a batch and the gradients of what learns."""

import torch

from services.trainer.training.losses import balanced_loss
from services.trainer.training.peft_folder import with_lora
from services.trainer.training.sequences import Example
from shared.contracts.training_settings import LoraSettings

EXAMPLES = [
    Example([9 + at % 40 for at in range(length)], [5 + length, 7, 11][: 1 + length % 3], masked=[[0, length % 2]])
    for length in (2, 37, 9, 30)
]
"""Rows shorter and longer than the windows of `tests.support.families`; some begin with what is only read."""


def learner(model, *, packing=False, targets="all-linear", precision="float32"):
    """The model with LoRA weights that all have a gradient: the ones that start at zero are made random."""
    settings = LoraSettings(rank=2, dropout=0.0, target_modules=targets, packing=packing, precision=precision)
    tuned = with_lora(model, settings)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return tuned


def step_of(model, batch):
    """Loss, and gradients by name."""
    inputs = dict(batch)
    labels, tasks, weights = (inputs.pop(name) for name in ("labels", "tasks", "weights"))
    model.zero_grad()
    logits = model(**inputs, use_cache=False).logits
    loss = balanced_loss(logits.float(), labels, tasks, weights)
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def assert_same_step(one, other, tolerance=1e-5):
    """Assert equal losses and gradients, and that there are any."""
    (loss, gradients), (other_loss, others) = one, other
    torch.testing.assert_close(loss, other_loss, atol=tolerance, rtol=tolerance)
    assert gradients.keys() == others.keys()
    assert any(gradient.abs().max() > 100 * tolerance for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, others[name], atol=tolerance, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}"
        )
