"""What reads texts to find unknown tasks: words, or a model at hand where that tells the known labels better apart."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from services.trainer.traffic.space import fit_space
from shared.model.features import Floats, normalised
from shared.model.prototypes import Reading, read_layer

Reader = Callable[[Sequence[str]], Floats]
"""Returns `[texts, hidden]`."""
MOST_WEIGHT_BYTES = 1 << 30
"""Of a base model without a card: a larger one would read for longer than the review is worth."""


def models_at_hand(reading: Reading) -> Iterator[Reader]:
    """Yield the sentence encoder where there is one, else the lower layers of the base model where they read fast."""
    from torch.cuda import is_available

    if reading.encoder_folder:
        yield reading.sentences()
        return
    folder = reading.base_folder()
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if is_available() or 0 < weights <= MOST_WEIGHT_BYTES:
        yield reading.states(read_layer(folder))


def best_reader(readers: Sequence[Reader], texts: Sequence[str], labels: Sequence[str]) -> Reader:
    """Return the reader by which most known texts lie nearest to their own label; of equal ones the first."""
    if len(readers) == 1:
        return readers[0]
    return max(readers, key=lambda reader: told_apart(reader(texts), labels))


def told_apart(vectors: Floats, labels: Sequence[str]) -> float:
    """Return the share of every second row that is nearest to its label's centre, fitted on the other rows.

    Rows of labels without a row on the other side do not count.
    """
    names, space = np.asarray(labels), fit_space(vectors[::2], labels[::2])
    fitted, held = space.of(vectors[::2]), space.of(vectors[1::2])
    known = np.unique(names[::2])
    rows = np.isin(names[1::2], known)
    if not rows.any():
        return 0.0
    centres = normalised(np.stack([fitted[names[::2] == label].mean(axis=0) for label in known]))
    nearest = known[(held[rows] @ centres.T).argmax(axis=1)]
    return float((nearest == names[1::2][rows]).mean())
