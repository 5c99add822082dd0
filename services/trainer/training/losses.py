"""The loss of a training step. Imports torch: import it lazily."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from services.trainer.training.batches import IGNORED


def balanced_loss(logits: Tensor, labels: Tensor, tasks: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the tasks' mean cross-entropies in a batch; for a single task it is the plain mean.

    The weight of a task is the sum of its rows' `weights`, divided by the number of rows in the batch.
    A task gets no more weight from long answers (Liu et al. 2024, MFTCoder, the data-balanced loss), nor from many
    rows. The row weights (`balanced`) are needed for the latter: a batch holds rows of similar length, so of few tasks.
    `logits` are `[..., classes]`, `labels` `[batch, answer]` with `IGNORED` for padding, the others `[batch]`.
    """
    each = cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none")
    by_row = each.view_as(labels).sum(dim=1)
    counted = (labels != IGNORED).sum(dim=1).to(by_row.dtype)
    of_task = (tasks == tasks.unique().unsqueeze(1)).to(by_row.dtype)
    shares = (of_task @ weights.to(by_row.dtype)) / len(labels)
    return shares @ ((of_task @ by_row) / (of_task @ counted))
