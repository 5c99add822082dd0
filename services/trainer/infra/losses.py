"""What a step of training makes smaller. Imports torch: import it lazily."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from services.trainer.infra.sequences import IGNORED


def balanced_loss(logits: Tensor, labels: Tensor, tasks: Tensor) -> Tensor:
    """Return the mean over a batch's tasks of each one's mean cross-entropy: of one task, the plain mean.

    So neither many rows nor long answers give a task more weight (Liu et al. 2024, MFTCoder, the data-balanced loss).
    `logits` are `[..., classes]`, `labels` `[batch, answer]` with `IGNORED` where nothing counts, `tasks` `[batch]`.
    """
    each = cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none")
    by_row = each.view_as(labels).sum(dim=1)
    counted = (labels != IGNORED).sum(dim=1)
    of_task = (tasks == tasks.unique().unsqueeze(1)).to(by_row.dtype)
    return ((of_task @ by_row) / (of_task @ counted.to(by_row.dtype))).mean()
