"""Scores an adapter's expected answers under every template that fits the base model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from services.trainer.data.examples import InstructionRow
from services.trainer.evaluation.generate import answer_rows, exact_match
from services.trainer.evaluation.template_choice import Losses, TemplateScore
from services.trainer.training.batches import IGNORED, collate
from services.trainer.training.sequences import Example, RowRefused, adapter_examples
from shared.errors import Invalid
from shared.model.hardware import width_step
from shared.prompts.bound import BoundTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH_ROWS = 8


class Scored:
    """A model, an adapter on it, and rows with the answers that are expected of it."""

    def __init__(
        self,
        model: Any,
        tokenizer: "PreTrainedTokenizerBase",
        rows: Sequence[InstructionRow],
        *,
        max_length: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """`model` is a PEFT model, whose adapter can be switched off."""
        self._model = model
        self._tokenizer = tokenizer
        self._rows = rows
        self._max_length = max_length
        self._should_stop = should_stop

    def scores(
        self,
        templates: Mapping[str, BoundTemplate],
        *,
        answers: bool = True,
        known_base: Mapping[tuple[str, ...], Losses] | None = None,
    ) -> list[TemplateScore]:
        """Score adapter and base model under each template by loss and, with `answers`, by exact match.

        Templates that give the same prompts are one. `known_base` holds losses of the base model on the same rows.
        """
        found, base = [], known_base or {}
        for names, examples in self._groups(templates):
            if self._should_stop():
                break
            score = TemplateScore(
                names,
                self._losses(examples, is_base=False),
                base.get(names) or self._losses(examples, is_base=True),
            )
            found.append(self._answered(score, templates[names[0]]) if answers else score)
        return found

    def _answered(self, score: TemplateScore, template: BoundTemplate) -> TemplateScore:
        match, base_match = (self._matched(template, is_base=is_base) for is_base in (False, True))
        return score._replace(exact_match=match, base_exact_match=base_match)

    def _groups(self, templates: Mapping[str, BoundTemplate]) -> Iterable[tuple[tuple[str, ...], list[Example]]]:
        groups: dict[str, tuple[list[str], list[Example]]] = {}
        for name, template in templates.items():
            try:
                examples = [self._last_answer(number, row, template) for number, row in enumerate(self._rows, 1)]
            except Invalid as error:
                if error.code != "template_refuses":
                    raise
                continue  # for a conversation of this form it has no prompt
            groups.setdefault(str(examples), ([], examples))[0].append(name)
        return [(tuple(names), examples) for names, examples in groups.values()]

    def _last_answer(self, number: int, row: InstructionRow, template: BoundTemplate) -> Example:
        """A row's last answer after all that comes before it: one example a row under every template."""
        try:
            example = adapter_examples(self._tokenizer, [row], template, self._max_length, cut_answers=True)[-1]
        except RowRefused as error:
            raise RowRefused(error.code, error.reason, number) from error
        start = example.masked[-1][1] if example.masked else 0
        if start >= len(example.answer):  # it was cut off
            return example
        return Example([*example.prompt, *example.answer[:start]], example.answer[start:])

    def _alone(self, *, is_base: bool) -> AbstractContextManager[None]:
        found: AbstractContextManager[None] = self._model.disable_adapter() if is_base else nullcontext()
        return found

    def _matched(self, template: BoundTemplate, *, is_base: bool) -> float:
        with self._alone(is_base=is_base):
            answers = answer_rows(
                self._model,
                self._tokenizer,
                self._rows,
                template=template,
                max_tokens=self._max_length,
                should_stop=self._should_stop,
            )
        return exact_match(answers, self._rows)

    @torch.inference_mode()
    def _losses(self, examples: Sequence[Example], *, is_base: bool) -> Losses:
        """The negative log-probability of each answer's tokens, its end among them."""
        losses: list[list[float]] = []
        with self._alone(is_base=is_base):
            for at in range(0, len(examples), _BATCH_ROWS):
                losses += self._batch_losses(examples[at : at + _BATCH_ROWS])
        return losses

    def _batch_losses(self, examples: Sequence[Example]) -> list[list[float]]:
        laid_out = collate(examples, width_step(self._model.device.type))
        batch = {name: value for name, value in laid_out.items() if name not in ("tasks", "weights")}
        labels = batch.pop("labels").to(self._model.device)
        inputs = {name: v.to(self._model.device) if isinstance(v, torch.Tensor) else v for name, v in batch.items()}
        logits = self._model(**inputs).logits.float()  # [batch, answer, vocabulary]
        known = labels != IGNORED
        picked = logits.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return [row[is_known].neg().tolist() for row, is_known in zip(picked, known, strict=True)]
