"""P(label | text) over exactly the labels of a release, in one forward pass for a batch."""

import copy
import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.contracts.labels import Label
from shared.contracts.prompts import selector_answer, selector_prompt
from shared.errors import Invalid
from shared.model.base import default_device
from shared.model.hardware import computes_bfloat16, rounded, width_step
from shared.model.head import HeadScorer, has_head
from shared.model.masks import additive_mask
from shared.model.merge import BaseWeights, merged_selector
from shared.model.precision import float32_weights
from shared.model.tokens import encode, encode_text, end_id

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

Scores = NDArray[np.float32]

NEAR_TIE = 0.5
"""Margin between the two best labels, in nats; bfloat16 was seen to reverse margins under 0.2."""

MAX_LOGITS = 1 << 28
"""Most logits in memory at once, 1 GiB in float32: a batch over very many labels is scored in parts."""


class Branch(NamedTuple):
    """A node with several children: its number (-1 for the end of the prompt), and the tokens that may follow."""

    node: int
    tokens: list[int]


class Trie(NamedTuple):
    """The labels' answers as a prefix tree, without the tokens after each label's last branch."""

    tokens: list[int]  # [nodes], parents before children
    parents: list[int]  # [nodes], -1 for children of the prompt
    branches: list[Branch]
    paths: list[list[int]]  # per label, the indices of its choices in the concatenated choices of all branches


def build_trie(answers: Sequence[Sequence[int]], end: int) -> Trie:
    """Merge token sequences, each closed by the `end` token, into a trie; a node with one child is no branch."""
    closed = [(*answer, end) for answer in answers]
    following: dict[tuple[int, ...], list[int]] = {}
    for answer in closed:
        for at, token in enumerate(answer):
            known = following.setdefault(answer[:at], [])
            if token not in known:
                known.append(token)
    parting = [start for start, tokens in following.items() if len(tokens) > 1]
    read = {start[:length]: None for start in parting for length in range(1, len(start) + 1)}
    nodes = {start: node for node, start in enumerate(read)} | {(): -1}
    choices = {(*start, token): None for start in parting for token in following[start]}
    numbers = {choice: number for number, choice in enumerate(choices)}
    return Trie(
        [start[-1] for start in read],
        [nodes[start[:-1]] for start in read],
        [Branch(nodes[start], following[start]) for start in parting],
        [[numbers[answer[:at]] for at in range(1, len(answer) + 1) if answer[:at] in numbers] for answer in closed],
    )


class Scorer(Protocol):
    """An object that scores every label of a release."""

    labels: list[Label]

    def score(self, texts: Sequence[str]) -> Scores:
        """Return `[batch, labels]` float32: the log-probability of each label among those of the release."""
        ...


class LabelScorer:
    """Scores every label of a release for a batch of texts; the selector is merged into the model already.

    The probability of a label is that of generating it under constrained decoding: at each branch of the trie, the
    model's logits are normalised over the tokens that may follow. The common prefix of all prompts is computed once.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        labels: Sequence[Label],
        max_tokens: int,
        *,
        in_float32: bool = False,
    ) -> None:
        """Raises `Invalid` for no labels, or a list too long for `max_tokens` (prompt and answer together)."""
        import torch

        if not labels:
            raise Invalid("labels_missing", "a selector needs at least one label: name one")
        self._weights = partial(float32_weights, model) if in_float32 else nullcontext
        self._dtype = torch.float32 if in_float32 else model.dtype
        self.labels = list(labels)
        self._model = model
        self._tokenizer = tokenizer
        answers = [encode_text(tokenizer, selector_answer(label)) for label in self.labels]
        self._trie = build_trie(answers, end_id(tokenizer))
        self._max_prompt = max_tokens - max(map(len, answers))
        self._depths, self._reach = _geometry(self._trie)
        self.prompt_ids("")
        shared = itertools.takewhile(lambda segment: not segment.is_input, selector_prompt("", self.labels))
        self._start = encode(tokenizer, list(shared), self._max_prompt)
        self._start_cache: DynamicCache | None = None

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids of the selector prompt for a text, its input shortened where it must be."""
        return encode(self._tokenizer, selector_prompt(text, self.labels), self._max_prompt)

    def score(self, texts: Sequence[str]) -> Scores:
        """Return `[batch, labels]` float32: the log-probability of each label among those of the release."""
        import torch

        if not texts or len(self.labels) == 1:
            return np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        prompts = [self.prompt_ids(text) for text in texts]
        rows = max(1, MAX_LOGITS // (self._model.config.vocab_size * len(self._trie.branches)))
        with torch.inference_mode(), self._weights():
            parts = [self._score_part(prompts[at : at + rows]) for at in range(0, len(prompts), rows)]
        scores: Scores = torch.cat(parts).numpy()
        return scores

    def _score_part(self, prompts: list[list[int]]) -> "Tensor":
        import torch

        ids, mask, positions = self._inputs([prompt[len(self._start) :] for prompt in prompts])
        last = ids.shape[1] - len(self._trie.tokens) - 1  # each prompt ends here; the trie's tokens follow
        outputs = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._started(len(prompts)),
            use_cache=True,
            logits_to_keep=torch.tensor([last + 1 + branch.node for branch in self._trie.branches], device=ids.device),
        )
        return self._label_scores(outputs.logits)

    def _started(self, rows: int) -> "DynamicCache":
        """Return the keys and values of the common prefix, for a batch of `rows`."""
        import torch
        from transformers import DynamicCache

        if self._start_cache is None:
            self._start_cache = DynamicCache()
            if self._start:
                start = torch.tensor([self._start], device=self._model.device)
                self._model(input_ids=start, past_key_values=self._start_cache, use_cache=True, logits_to_keep=1)
        cache = copy.deepcopy(self._start_cache)
        cache.batch_repeat_interleave(rows)
        return cache

    def _inputs(self, prompts: list[list[int]]) -> tuple["Tensor", Any, "Tensor"]:
        """Return ids and positions `[batch, width + nodes]`, and the mask of `[batch, width + nodes, all]`.

        `prompts` lack their common prefix; `all` counts the prefix, then the columns of the ids.
        """
        import torch

        before, nodes = len(self._start), len(self._trie.tokens)
        width = rounded(max(map(len, prompts)), width_step(self._model.device.type))
        ids = torch.zeros(len(prompts), width + nodes, dtype=torch.long)
        allowed = torch.zeros(len(prompts), width + nodes, before + width + nodes, dtype=torch.bool)
        positions = torch.zeros_like(ids)
        ids[:, width:] = torch.tensor(self._trie.tokens)
        allowed[:, :, :before] = True
        seen = allowed[:, :, before:]
        seen[:, width:, width:] = self._reach
        for row, prompt in enumerate(prompts):
            start = width - len(prompt)
            ids[row, start:width] = torch.tensor(prompt)
            positions[row, start:width] = before + torch.arange(len(prompt))
            positions[row, width:] = before + len(prompt) + self._depths
            seen[row, start:width, start:width] = torch.ones(len(prompt), len(prompt), dtype=torch.bool).tril()
            seen[row, width:, start:width] = True
        keys = torch.cat([torch.arange(before).expand(len(prompts), -1), positions], dim=1)
        mask = additive_mask(self._model, allowed, positions, keys, self._dtype)
        return ids.to(self._model.device), mask, positions.to(self._model.device)

    def _label_scores(self, logits: "Tensor") -> "Tensor":
        """Turn `[batch, branches, vocabulary]` logits into `[batch, labels]` log-probabilities."""
        import torch

        parts = [logits[:, at, branch.tokens].float().log_softmax(-1) for at, branch in enumerate(self._trie.branches)]
        choices = torch.cat(parts, dim=-1).cpu()
        return torch.stack([choices[:, path].sum(-1) for path in self._trie.paths], dim=-1)


class CheckedScorer:
    """Scores in bfloat16, and again in float32 arithmetic where the two best labels are nearly tied."""

    def __init__(self, quick: Scorer, exact: Scorer) -> None:
        self.labels = exact.labels
        self._quick = quick
        self._exact = exact

    def score(self, texts: Sequence[str]) -> Scores:
        """Return `[batch, labels]` float32, as the two scorers do."""
        scores = self._quick.score(texts)
        if len(self.labels) > 1 and texts:
            second, best = np.sort(scores, axis=1)[:, -2:].T
            near_ties = np.flatnonzero(best - second < NEAR_TIE).tolist()
            if near_ties:
                scores[near_ties] = self._exact.score([texts[row] for row in near_ties])
        return scores


def load_scorer(
    base_folder: Path,
    weights: Path,
    tokenizer: "PreTrainedTokenizerBase",
    labels: Sequence[Label],
    *,
    max_tokens: int,
    dtype: str,
    base: BaseWeights | None = None,
) -> Scorer:
    """Load a merged selector for scoring in `dtype`; float32 becomes bfloat16 where the hardware multiplies it.

    In that case near ties are scored again in float32 arithmetic, with the same weights. Selectors loaded with the same
    `base` share the weights that their LoRAs do not change.

    Raises `Invalid` as `merged_selector` and the scorers do.
    """
    kind = HeadScorer if has_head(weights) else LabelScorer
    if dtype != "float32" or not computes_bfloat16(default_device()):
        return kind(merged_selector(base_folder, weights, dtype, base=base), tokenizer, labels, max_tokens)
    model = merged_selector(base_folder, weights, "bfloat16", base=base)
    quick, exact = (kind(model, tokenizer, labels, max_tokens, in_float32=is_exact) for is_exact in (False, True))
    return CheckedScorer(quick, exact)


def _geometry(trie: Trie) -> tuple["Tensor", "Tensor"]:
    """Return depths `[nodes]`, and the mask `[nodes, nodes]` of a node's attention: itself and its ancestors."""
    import torch

    depths = torch.zeros(len(trie.tokens), dtype=torch.long)
    reach = torch.eye(len(trie.tokens), dtype=torch.bool)
    for node, parent in enumerate(trie.parents):
        if parent >= 0:
            depths[node] = depths[parent] + 1
            reach[node] |= reach[parent]
    return depths, reach
