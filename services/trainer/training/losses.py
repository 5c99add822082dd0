"""What a step of training makes smaller. Imports torch: import it lazily."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from services.trainer.training.sequences import IGNORED


def balanced_loss(logits: Tensor, labels: Tensor, tasks: Tensor, weights: Tensor) -> Tensor:
    """Return each task's mean cross-entropy in a batch, in shares by its rows' weights: of one task, the plain mean.

    Long answers give a task no more weight (Liu et al. 2024, MFTCoder, the data-balanced loss), and by their weights
    (`balanced`) neither do many rows: a batch alone cannot tell, because it holds rows of like length, so of few tasks.
    `logits` are `[..., classes]`, `labels` `[batch, answer]` with `IGNORED` where nothing counts, the others `[batch]`.
    """
    each = cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none")
    by_row = each.view_as(labels).sum(dim=1)
    counted = (labels != IGNORED).sum(dim=1).to(by_row.dtype)
    of_task = (tasks == tasks.unique().unsqueeze(1)).to(by_row.dtype)
    shares = (of_task @ weights.to(by_row.dtype)) / len(labels)
    return shares @ ((of_task @ by_row) / (of_task @ counted))
