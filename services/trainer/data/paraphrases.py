"""Whether validation rows ask for something in other words than the training rows; a sentence encoder tells."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from shared.model.features import Floats, normalised

CLOSE = 0.9
"""Cosine from which two texts count as the same phrasing."""

Texts = Mapping[str, Sequence[str]]


def paraphrase_warnings(training: Texts, validation: Texts, embed: Callable[[Sequence[str]], Floats]) -> Iterator[str]:
    """One sentence for each label most of whose validation rows nearly repeat a training row."""
    for label, own in sorted(validation.items()):
        if not own or not training.get(label):
            continue
        cosines = normalised(embed(own)) @ normalised(embed(training[label])).T  # [validation, training]
        close = int((cosines.max(axis=1) >= CLOSE).sum())
        if 2 * close > len(own):
            yield (
                f"{label}: {close} of {len(own)} validation rows nearly repeat a training row, so their accuracy says "
                "little about other phrasings; add rows that other people wrote"
            )
