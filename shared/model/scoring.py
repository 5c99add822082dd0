"""P(label | text) over exactly the labels of a release, in one forward pass for a batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import Invalid
from shared.labels import Label
from shared.model.tokens import encode, encode_text, end_id
from shared.prompts import selector_answer, selector_prompt

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Scores = NDArray[np.float32]

MAX_LOGITS = 1 << 28
"""Logits held at once, 1 GiB in float32: a batch over very many labels is scored in parts."""


class Trie(NamedTuple):
    """The answers as a tree: what labels share is read once."""

    tokens: list[int]  # [nodes], in an order where parents come first
    parents: list[int]  # [nodes], -1 for children of the prompt
    edges: list[tuple[int, int]]  # (node that predicts, token predicted), end tokens too
    paths: list[list[int]]  # per label, its edges


def build_trie(answers: Sequence[Sequence[int]], end: int) -> Trie:
    """Merge token sequences; each path ends with an edge to the `end` token, which is predicted but never read."""
    nodes: dict[tuple[int, int], int] = {}
    edges: dict[tuple[int, int], int] = {}
    paths = []
    for answer in answers:
        at, path = -1, []
        for token in answer:
            path.append(edges.setdefault((at, token), len(edges)))
            at = nodes.setdefault((at, token), len(nodes))
        path.append(edges.setdefault((at, end), len(edges)))
        paths.append(path)
    return Trie([token for _, token in nodes], [parent for parent, _ in nodes], list(edges), paths)


class LabelScorer:
    """Scores every label of a release for a batch of texts; the model carries the selector already."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        labels: Sequence[Label],
        max_tokens: int,
        precision: str = "float32",
    ) -> None:
        """`precision` is what the forward pass computes in (autocast); scores on near-ties differ between precisions.

        Raises `Invalid` for no labels, or a list too long for `max_tokens` (prompt and answer together).
        """
        if not labels:
            raise Invalid("labels_missing", "a selector needs at least one label")
        self.labels = list(labels)
        self._model = model
        self._tokenizer = tokenizer
        self._precision = precision
        answers = [encode_text(tokenizer, selector_answer(label)) for label in self.labels]
        self._trie = build_trie(answers, end_id(tokenizer))
        self._max_prompt = max_tokens - max(map(len, answers))
        self._depths, self._reach = _geometry(self._trie)
        self.prompt_ids("")

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids of the selector prompt for a text, its input shortened where it must be."""
        return encode(self._tokenizer, selector_prompt(text, self.labels), self._max_prompt)

    def score(self, texts: Sequence[str]) -> Scores:
        """Return `[batch, labels]` float32: log-softmax over the labels' log-likelihoods, end token included."""
        import torch

        prompts = [self.prompt_ids(text) for text in texts]
        rows = max(1, MAX_LOGITS // (self._model.config.vocab_size * (len(self._trie.tokens) + 1)))
        reduced = self._precision != "float32"
        forward = torch.autocast(self._model.device.type, dtype=getattr(torch, self._precision), enabled=reduced)
        with torch.inference_mode(), forward:
            parts = [self._score_part(prompts[at : at + rows]) for at in range(0, len(prompts), rows)]
        scores = torch.cat(parts) if parts else torch.zeros(0, len(self.labels))
        result: Scores = scores.numpy()
        return result

    def _score_part(self, prompts: list[list[int]]) -> "Tensor":
        ids, mask, positions = self._inputs(prompts)
        outputs = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=len(self._trie.tokens) + 1,  # the last prompt token and every node
        )
        return self._label_scores(outputs.logits)

    def _inputs(self, prompts: list[list[int]]) -> tuple["Tensor", "Tensor", "Tensor"]:
        """Return ids and positions `[batch, width + nodes]`, and an additive mask `[batch, 1, width + nodes, same]`."""
        import torch

        width, nodes = max(map(len, prompts)), len(self._trie.tokens)
        ids = torch.zeros(len(prompts), width + nodes, dtype=torch.long)
        allowed = torch.zeros(len(prompts), width + nodes, width + nodes, dtype=torch.bool)
        positions = torch.zeros_like(ids)
        ids[:, width:] = torch.tensor(self._trie.tokens)
        allowed[:, width:, width:] = self._reach
        for row, prompt in enumerate(prompts):
            start = width - len(prompt)
            ids[row, start:width] = torch.tensor(prompt)
            positions[row, start:width] = torch.arange(len(prompt))
            positions[row, width:] = len(prompt) + self._depths
            allowed[row, start:width, start:width] = torch.ones(len(prompt), len(prompt), dtype=torch.bool).tril()
            allowed[row, width:, start:width] = True
        return ids.to(self._model.device), self._additive(allowed), positions.to(self._model.device)

    def _additive(self, allowed: "Tensor") -> "Tensor":
        import torch

        blocked = torch.finfo(self._model.dtype).min  # finite: a padding row that sees nothing must not become NaN
        mask = torch.zeros(allowed.shape, dtype=self._model.dtype).masked_fill_(~allowed, blocked)
        return mask.unsqueeze(1).to(self._model.device)

    def _label_scores(self, logits: "Tensor") -> "Tensor":
        """Turn `[batch, 1 + nodes, vocabulary]` logits into `[batch, labels]` normalised log-likelihoods."""
        import torch

        logits = logits.float()
        at = torch.tensor([node + 1 for node, _ in self._trie.edges], device=logits.device)
        tokens = torch.tensor([token for _, token in self._trie.edges], device=logits.device)
        edges = (logits[:, at, tokens] - logits.logsumexp(-1)[:, at]).cpu()
        scores = torch.stack([edges[:, path].sum(-1) for path in self._trie.paths], dim=-1)
        return scores.log_softmax(-1)


def _geometry(trie: Trie) -> tuple["Tensor", "Tensor"]:
    """Return depths `[nodes]` and who sees whom `[nodes, nodes]`: itself and its ancestors."""
    import torch

    depths = torch.zeros(len(trie.tokens), dtype=torch.long)
    reach = torch.eye(len(trie.tokens), dtype=torch.bool)
    for node, parent in enumerate(trie.parents):
        if parent >= 0:
            depths[node] = depths[parent] + 1
            reach[node] |= reach[parent]
    return depths, reach
