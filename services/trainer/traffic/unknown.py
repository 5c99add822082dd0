"""Unknown tasks: texts that the selector rejects or is not sure of, in clusters that could be labels of their own."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.trainer.traffic.clusters import novel_rows, stable_clusters
from services.trainer.traffic.names import Wording, suggested_name, telling_terms
from services.trainer.traffic.space import fit_space
from services.trainer.traffic.window import Window
from shared.contracts.labels import parse_label
from shared.contracts.training_tasks import MIN_ROWS, VALIDATION_SHARE
from shared.errors import Invalid
from shared.model.features import Floats, normalised

NEAREST = 3
UNSURE = 0.2
"""Quantile of the confidences of validation rows below which a text may be unknown."""
MOST_TEXTS = 5000
"""Distinct unknown texts that are clustered at once; of more, every so many."""
ADVISED_ROWS = round(20 / VALIDATION_SHARE)
"""Of an adapter: 20 rows to validate on say something of its accuracy."""


class Rows(NamedTuple):
    """Texts with their labels and vectors `[rows, hidden]`."""

    texts: Sequence[str]
    labels: Sequence[str]
    vectors: Floats


class NearLabel(NamedTuple):
    """A known label, and the cosine between its texts' centre and a cluster's: 1 is the same direction."""

    label: str
    similarity: float


class Needs(NamedTuple):
    """What an adapter for a new task needs."""

    least_rows: int
    """Rows with answers without which no training starts."""
    advised_rows: int
    texts_without_answers: int
    """Distinct texts of the cluster, for which somebody has to write answers."""


class Proposal(NamedTuple):
    """A cluster of unknown texts that could be a task."""

    name: str
    """A suggestion for the second half of its label, unlike the tasks that there are."""
    terms: tuple[str, ...]
    """The words that tell its texts from others."""
    rows: tuple[int, ...]
    """Of the unknown texts, the most typical first; a text that came several times has several."""
    nearest: tuple[NearLabel, ...]
    stability: float
    """Mean share of it that is found again in subsamples (Jaccard index)."""
    needs: Needs


def unknown_rows(window: Window, validation: Window) -> NDArray[np.int64]:
    """Return the rows of a window that are rejected, or less sure than most of the validation rows."""
    line = np.quantile(validation.confidence, UNSURE) if len(validation) else 0.0
    return np.flatnonzero(window.is_rejected | (window.confidence < line))


def propose(texts: Sequence[str], vectors: Floats, known: Rows, seed: int = 0) -> list[Proposal]:
    """Propose tasks for unknown texts with vectors `[texts, hidden]`, the largest first.

    `known` are rows of the release's labels, read by the same model. The same arguments give the same proposals. Raises
    `Invalid` where there is not one vector for each text.
    """
    if len(texts) != len(vectors):
        raise Invalid("vectors_missing", f"{len(texts)} texts have {len(vectors)} vectors: give one for each")
    copies = _copies(texts, vectors)
    if not copies:
        return []
    firsts = [rows[0] for rows in copies]
    space = fit_space(known.vectors, known.labels)
    points, known_points = space.of(vectors[firsts]), space.of(known.vectors)
    novel = novel_rows(points, known_points)
    labels = _label_centres(known_points, known.labels)
    wording = Wording.of([*known.texts, *(texts[row] for row in firsts)])
    taken = {parse_label(label).task for label in labels}
    made = []
    for cluster in stable_clusters(points[novel], seed):
        rows = novel[cluster.rows]
        own = [texts[firsts[row]] for row in rows]
        terms = telling_terms(own, wording)
        name = suggested_name(terms, taken)
        taken.add(name)
        all_rows = tuple(copy for row in rows for copy in copies[row])
        nearest, needs = _nearest_labels(points[rows], labels), Needs(MIN_ROWS, ADVISED_ROWS, len(own))
        made.append(Proposal(name, tuple(terms), all_rows, nearest, cluster.stability, needs))
    return made


def _copies(texts: Sequence[str], vectors: Floats) -> list[list[int]]:
    """The rows of each distinct text that has a vector, at most `MOST_TEXTS` of them."""
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        if vectors[row].any():
            rows.setdefault(" ".join(text.casefold().split()), []).append(row)
    found = list(rows.values())
    return found[:: -(-len(found) // MOST_TEXTS)] if found else []


def _label_centres(points: Floats, labels: Sequence[str]) -> dict[str, Floats]:
    names = np.asarray(labels)
    return {str(label): normalised(points[names == label].mean(axis=0)[None])[0] for label in np.unique(names)}


def _nearest_labels(points: Floats, labels: dict[str, Floats]) -> tuple[NearLabel, ...]:
    centre = normalised(points.mean(axis=0)[None])[0]
    near = [NearLabel(label, float(centre @ own)) for label, own in labels.items()]
    return tuple(sorted(near, key=lambda one: -one.similarity)[:NEAREST])
