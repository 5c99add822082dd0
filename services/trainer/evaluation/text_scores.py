"""Scores of answers: exact match, or for generated texts BERTScore with a local encoder, otherwise ROUGE-L."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from services.trainer.data.split import same_text
from services.trainer.evaluation.answers import TaskKind, exact_matches
from shared.errors import Invalid
from shared.model.base import base_model_id
from shared.model.sentence_encoder import load_token_encoder

MAX_TOKENS = 512
# Scripts without spaces between words, where each character counts as a word: Han, kana, Thai, Lao, Burmese, Khmer.
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)
_WORDS = re.compile("um*|w[wm]*")  # over the kinds of a text's characters, see `_kind`


class TextScorer(Protocol):
    """A measure of texts, with the name that reports give it."""

    name: str

    def score(self, answers: Sequence[str], expected: Sequence[str]) -> list[float]:
        """Return a value from 0 to 1 for each answer."""
        ...


def scorers_of(kinds: Mapping[str, TaskKind], encoder: Path | None) -> dict[str, TextScorer]:
    """The scorer of each label: exact match, or for generated texts that of `text_scorer`.

    Raises `Invalid` where the encoder does not load or a package is missing.
    """
    texts = text_scorer(encoder) if "generation" in kinds.values() else None
    return {label: texts if texts and kind == "generation" else ExactMatch() for label, kind in kinds.items()}


def text_scorer(encoder: Path | None) -> TextScorer:
    """BERTScore where there is an encoder, otherwise ROUGE-L.

    Raises `Invalid` where the encoder does not load or a package is missing.
    """
    try:
        return BertScore(encoder) if encoder else RougeL()
    except ImportError as error:
        raise Invalid(
            "package_missing", f"{error.name} is not installed: in a clone, pip install '.[metrics]', then try again"
        ) from error


class ExactMatch:
    """Whether an answer is the expected one, for tasks with few possible answers."""

    name = "exact_match"

    def score(self, answers: Sequence[str], expected: Sequence[str]) -> list[float]:
        """Return 1 or 0 for each answer."""
        return exact_matches(answers, expected)


class BertScore:
    """BERTScore-F1 (Zhang et al. 2019) on the encoder's last layer, without idf weights or baseline rescaling."""

    def __init__(self, encoder: Path) -> None:
        from torchmetrics.functional.text.bert import bert_score

        self._bert_score = bert_score
        self._encoder = load_token_encoder(encoder, MAX_TOKENS)
        self.name = f"bertscore_f1 ({encoder.name}, {base_model_id(encoder)})"

    def score(self, answers: Sequence[str], expected: Sequence[str]) -> list[float]:
        """Return the F1 of each answer; an empty answer gets 0."""
        # Pair by pair: torchmetrics 1.9 sorts both sides of a batch by length and restores their orders wrongly.
        return [
            self._f1(answer, right) if answer.strip() else 0.0 for answer, right in zip(answers, expected, strict=True)
        ]

    def _f1(self, answer: str, right: str) -> float:
        encoder = self._encoder
        found = self._bert_score(
            [answer],
            [right],
            model=encoder.model,
            user_tokenizer=encoder.tokenizer,
            max_length=encoder.max_tokens,
            truncation=True,
            device=encoder.model.device,
        )
        return float(found["f1"])


class RougeL:
    """ROUGE-L F1 (Lin 2004) on words of any script; the package `rouge-score` drops all but a-z and 0-9."""

    name = "rouge_l_f1"

    def score(self, answers: Sequence[str], expected: Sequence[str]) -> list[float]:
        """Return the F1 of the longest common subsequence of words for each answer.

        Where neither text has a word (emoji, punctuation), it is 1 for the same text and 0 for another.
        """
        return [self._f1(answer, right) for answer, right in zip(answers, expected, strict=True)]

    def tokenize(self, text: str) -> list[str]:
        """The words of a text, case folded."""
        folded = text.casefold()
        return [folded[found.start() : found.end()] for found in _WORDS.finditer("".join(map(_kind, folded)))]

    def _f1(self, answer: str, right: str) -> float:
        said, expected = self.tokenize(answer), self.tokenize(right)
        if not said and not expected:
            return float(same_text(answer) == same_text(right))
        return 2 * longest_common(said, expected) / (len(said) + len(expected))


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of its table at a time as bits (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for at, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << at
    full = (1 << len(one)) - 1
    open_places = full
    for word in other:
        found = open_places & places.get(word, 0)
        open_places = (open_places + found | open_places - found) & full
    return len(one) - open_places.bit_count()


def _kind(character: str) -> str:
    """Of a character: m for a combining mark, u for a word by itself, w for a part of a word, blank for the others."""
    if unicodedata.category(character).startswith("M"):
        return "m"
    if _UNSPACED.fullmatch(character):
        return "u"
    return "w" if character.isalnum() or character == "_" else " "
