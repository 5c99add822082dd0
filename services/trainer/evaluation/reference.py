"""The inference of section 3.5, step by step in one process: the reference of tests, and a baseline.

Plain forward passes of transformers and PEFT in float32, one text at a time, without queue and batches; only the
loaded weights are kept between texts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from services.trainer.evaluation.parameters import Weights
from shared.contracts.built_in_templates import BASE_INSTRUCTION, BUILT_IN
from shared.contracts.conversation import message, single_turn, with_prefix
from shared.contracts.dialogue import turns_read
from shared.contracts.labels import Label, parse_label
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector
from shared.contracts.prompts import selector_answer, selector_prompt
from shared.contracts.selection import Selection, rule, select
from shared.contracts.templates import PromptTemplate
from shared.contracts.times import utc_now
from shared.contracts.turns import Turn, prompt_of
from shared.errors import Conflict, Invalid
from shared.model.base import load_model, load_tokenizer
from shared.model.head import has_head, head_ids, head_rows, load_classifier
from shared.model.light import LightSelector
from shared.model.merge import with_adapter
from shared.model.prototypes import PrototypeScorer, Reading
from shared.model.tokens import encode, encode_text, end_id, end_token_ids
from shared.prompts.bound import BasePrompts, BoundTemplate

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Answer(NamedTuple):
    """The result for one text; `entry` is None where no adapter answered, `text` where the text was rejected."""

    selection: Selection
    entry: ReleaseLabel | None
    text: str | None


class Reference:
    """A release, served in this process."""

    def __init__(
        self,
        release: Release,
        weights: Weights,
        base_folder: Path,
        *,
        max_prompt_tokens: int,
        encoder_folder: Path | None = None,
        find_template: Callable[[str], PromptTemplate] = BUILT_IN.__getitem__,
    ) -> None:
        self.release = release
        self.tokenizer = load_tokenizer(base_folder)
        self.weights = weights
        self.base_folder = base_folder
        self._encoder_folder = encoder_folder
        self._max_prompt_tokens = max_prompt_tokens
        self._find_template = find_template
        self._prompts = BasePrompts(self.tokenizer, base_folder)
        self._switch = AdapterSwitch(load_model(base_folder, "float32"), weights)

    def answer(self, text: str, instruction: str = "", *, max_new_tokens: int) -> Answer:
        """Select the label, look it up in the adapter index, and generate with its adapter and template.

        Raises `Conflict` where the release has no selector, and `Invalid` where the prompt does not fit.
        """
        selection, outcome = rule(self.release, self.select(text, instruction))
        if outcome in ("reject", "choices"):
            return Answer(selection, None, None)
        entry = self.release.labels[selection.label] if selection.label else None
        return Answer(selection, entry, self.generate(entry, text, instruction, max_new_tokens=max_new_tokens))

    def select(self, text: str, instruction: str = "") -> Selection:
        """Adapter selection: prototypes, the light selector, the base model with the selector on it, or both select."""
        selector = self.selector
        (selector_text,) = turns_read([message("user", text)], instruction, selector, self.release.reading)
        return select(selector, lambda: self._light_scores(selector_text), lambda: self._llm_scores(selector_text))

    def generate(
        self,
        entry: ReleaseLabel | None,
        text: str,
        instruction: str = "",
        *,
        max_new_tokens: int,
        turns: Sequence[Turn] = (),
    ) -> str:
        """Adapter switching and domain inference: the greedy answer of the entry's adapter, or of the base model.

        Where `turns` are given, the answer is to the last question of these.
        """
        template = self._template(entry.template if entry else self._prompts.usual)
        instruction = instruction or (entry.instruction if entry else BASE_INSTRUCTION)
        room = min(self._max_prompt_tokens, self._switch.context_length - max_new_tokens)
        if room < 1:
            raise Invalid(
                "max_new_tokens_too_large",
                f"the context holds {self._switch.context_length} tokens in all: ask for fewer",
            )
        messages = prompt_of(turns, instruction) if turns else single_turn(instruction, text)
        messages = with_prefix(messages, entry.prefix if entry else "")
        prompt = encode(self.tokenizer, template.of_turns(messages), room)
        ends = end_token_ids(self.tokenizer, self.base_folder) | template.end_ids
        with self._switch.to(entry.adapter if entry else "") as model:
            ids = greedy_ids(model, prompt, max_new_tokens, ends)
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _template(self, name: str) -> BoundTemplate:
        return self._prompts.bind(self._find_template(name)).at(utc_now()[:10])

    @property
    def selector(self) -> ReleaseSelector:
        """The release's selector; raises `Conflict` where it has none."""
        if self.release.selector is None:
            raise Conflict(
                "selector_missing", f"release {self.release.id} has no selector: name another one, or train a selector"
            )
        return self.release.selector

    def _light_scores(self, text: str) -> list[float]:
        part: PrototypeScorer | LightSelector = self._prototypes if self.selector.prototypes else self._light
        scores: list[float] = part.score([text])[0].tolist()
        return scores

    def _llm_scores(self, text: str) -> list[float]:
        if self._classifier is not None:
            return head_scores(self._classifier, self.tokenizer, text, self._max_prompt_tokens)
        labels = [parse_label(label) for label in self.selector.labels]
        with self._switch.to(self.selector.llm) as model:
            return name_scores(model, self.tokenizer, labels, text, self._max_prompt_tokens)

    @cached_property
    def _light(self) -> LightSelector:
        return LightSelector.load(self.weights.fetch_light(self.selector.light)).in_order(self.selector.labels)

    @cached_property
    def _prototypes(self) -> PrototypeScorer:
        file = self.weights.fetch_prototypes(self.selector.prototypes)
        return PrototypeScorer.load(file, self.selector, Reading(lambda: self.base_folder, self._encoder_folder))

    @cached_property
    def _classifier(self) -> "PeftModel | None":
        """The model of a selector with a head, which needs a base model of its own; None for a selector without one."""
        folder = self.weights.fetch(self.selector.llm)
        return with_adapter(load_classifier(self.base_folder, head_rows(folder)), folder) if has_head(folder) else None


class AdapterSwitch:
    """The base model with at most one active LoRA; each is loaded when it is first used."""

    def __init__(self, model: "PreTrainedModel", weights: Weights) -> None:
        self._model: PreTrainedModel | PeftModel = model
        self._weights = weights
        self._loaded: set[str] = set()
        self.context_length = int(model.config.get_text_config().max_position_embeddings)

    @contextmanager
    def to(self, digest: str) -> Iterator[Any]:
        """The model with this adapter; the bare base model for an empty digest."""
        if digest and digest not in self._loaded:
            self._model = with_adapter(self._model, self._weights.fetch(digest), digest)
            self._loaded.add(digest)
        model: Any = self._model
        if digest:
            model.set_adapter(digest)
        with model.disable_adapter() if self._loaded and not digest else nullcontext():
            yield model


@torch.inference_mode()
def name_scores(
    model: Any, tokenizer: "PreTrainedTokenizerBase", labels: Sequence[Label], text: str, max_tokens: int
) -> list[float]:
    """Log-probability of each label's name after the prompt, where only names of labels can be decoded; [labels].

    At each token the logits are normalised over the next tokens of all names with the same beginning.
    """
    from transformers import DynamicCache

    end = end_id(tokenizer)
    answers = [[*encode_text(tokenizer, selector_answer(label)), end] for label in labels]
    prompt = encode(tokenizer, selector_prompt(text, labels), max_tokens - max(map(len, answers)) + 1)
    cache = DynamicCache()
    first = model(input_ids=_row(prompt, model), past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0]
    scores = []
    for answer in answers:
        rest = model(input_ids=_row(answer[:-1], model), past_key_values=cache, use_cache=True).logits[0]
        cache.crop(-len(rest))  # the next answer follows the prompt as well
        scores.append(_answer_score(torch.cat([first, rest]), answer, answers))
    return scores


def _answer_score(logits: torch.Tensor, answer: list[int], answers: Sequence[list[int]]) -> float:
    """Add up an answer's log-probabilities; row n of `logits` [answer, vocabulary] predicts its token n."""
    score = 0.0
    for at, token in enumerate(answer):
        following = sorted({other[at] for other in answers if other[:at] == answer[:at]})
        score += float(logits[at, following].log_softmax(-1)[following.index(token)])
    return score


@torch.inference_mode()
def head_scores(model: Any, tokenizer: "PreTrainedTokenizerBase", text: str, max_tokens: int) -> list[float]:
    """Log-probability of each label by the linear head on the last token's state; [labels]."""
    logits = model(input_ids=_row(head_ids(tokenizer, text, max_tokens), model)).logits[0]
    scores: list[float] = logits.log_softmax(-1).tolist()
    return scores


@torch.inference_mode()
def greedy_ids(model: Any, prompt: list[int], count: int, ends: frozenset[int]) -> list[int]:
    """Decode greedily: at most `count` tokens, up to one of `ends`.

    transformers' `generate` would apply the recommendations of the model's folder, for instance a repetition penalty.
    """
    from transformers import DynamicCache

    cache, step = DynamicCache(), prompt
    found: list[int] = []
    while len(found) < count:
        logits = model(input_ids=_row(step, model), past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        token = int(logits[0, -1].argmax())
        if token in ends:
            break
        found.append(token)
        step = [token]
    return found


def _row(ids: list[int], model: Any) -> torch.Tensor:
    return torch.tensor([ids], device=model.device)
