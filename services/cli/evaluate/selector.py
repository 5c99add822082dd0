"""`signalbox evaluate`: a release's selector, or an adapter, measured in this process on labelled rows."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from services.cli.bars import counted_batches
from services.cli.evaluate.labelled_rows import LabelledRow, known_rows, read_labelled, unknown_labels
from services.cli.local.run_state import current_registry, current_settings, find_release
from services.cli.output import err
from services.trainer.evaluation.label_sets import measure_sets
from shared.contracts.entries import prefix_of
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.reading import SelectorText
from shared.contracts.routing import intervals, measure
from shared.contracts.selection import selection_text
from shared.contracts.times import utc_now
from shared.errors import Conflict, Invalid
from shared.names import DEFAULT_TENANT
from shared.registry import Registry
from shared.settings import Settings

T = TypeVar("T")


def current_selector(settings: Settings, release_id: str = "") -> tuple[Registry, ReleaseSelector]:
    """The selector of a release (default: the current one), and the registry that stores its weights."""
    registry = current_registry(settings)
    selector = find_release(registry, release_id).selector
    if selector is None:
        raise Conflict("selector_missing", "this release has no selector; run selector.train first")
    return registry, selector


def evaluate_selector(data: list[Path], text: str, release_id: str, label: str = "") -> dict[str, Any]:
    """Route every row; returns accuracies with intervals, confusion, rejected share, ece, and the cost of each part.

    `accuracy` is the joint accuracy of domain and task, `per_label` that of each label, as in the paper's tables. Rows
    of `none.none` are right if they are rejected. A cascade's `curve` has the accuracy at other thresholds. An empty
    `text` reads rows as the service does, see `texts_to_read`; `label` is that of rows that carry none. Rows of labels
    that the selector does not know are counted in `unknown_labels` and not measured; raises `Invalid` for no others.
    """
    from services.trainer.evaluation.parameters import base_count, selector_parameters
    from services.trainer.evaluation.selector import (
        BATCH_ROWS,
        SelectorScorer,
        SelectorScores,
        curve,
        route_rows,
        selections,
    )
    from shared.model.base import load_tokenizer, resolve_base_model
    from shared.model.hardware import limit_threads

    settings = current_settings()
    limit_threads(settings)
    given = read_labelled(data, label)
    registry, selector = current_selector(settings, release_id)
    rows, unknown = _known_rows(given, selector)
    base = resolve_base_model(settings)
    texts = texts_to_read(selector, rows, text)
    gold = [r.label for r in rows]
    scorer = SelectorScorer(
        registry,
        base,
        load_tokenizer(base),
        settings.max_prompt_tokens,
        settings.dtype,
        encoder_folder=settings.encoder,
    )
    has_first = selector.light or selector.prototypes
    light, light_ms = _timed(lambda: scorer.score_light(selector, texts), len(texts)) if has_first else (None, 0.0)
    with counted_batches("rows read by the language model", len(texts), BATCH_ROWS) as next_batch:
        counting = scorer._replace(check=next_batch)
        llm, llm_ms = _timed(lambda: counting.score_llm(selector, texts), len(texts)) if selector.llm else (None, 0.0)
    scores = SelectorScores(light, llm)
    selected = selections(selector, scores)
    routed = route_rows(selector, scores, gold)
    found: dict[str, Any] = {
        **measure(routed)._asdict(),
        "intervals": intervals(routed),
        "unknown_labels": unknown,
        "asked": dict(Counter(s.by for s in selected)),
        "light_ms": round(light_ms, 3),
        "llm_ms": round(llm_ms, 3),
        "sets": measure_sets(selected, gold, selector.coverage)._asdict(),
        "parameters": {
            part: t._asdict() for part, t in selector_parameters(registry.weights, selector, base_count(base)).items()
        },
    }
    if selector.kind == "cascade":
        points = curve(selector, scores, gold)
        found["curve"] = [{**p._asdict(), "ms": round(light_ms + p.llm_share * llm_ms, 3)} for p in points]
    return found


def _known_rows(given: Sequence[LabelledRow], selector: ReleaseSelector) -> tuple[list[LabelledRow], dict[str, int]]:
    """The rows of labels that the selector knows, and the numbers of the others' rows, which a warning names."""
    rows, unknown = known_rows(given, selector.labels)
    if unknown:
        err.print(f"warning: {unknown_labels(unknown, selector.labels)}", markup=False, soft_wrap=True)
    return rows, unknown


def texts_to_read(selector: ReleaseSelector, rows: Sequence[LabelledRow], text: str = "") -> list[str]:
    """The text of each row that the selector reads: as its release says, unless `text` overrides it.

    Raises `Invalid` for an unknown `text`.
    """
    if text not in ("", "input", "instruction+input"):
        raise Invalid("text_unknown", f"--text is {text!r}: give input or instruction+input")
    text_fields = cast("SelectorText", text) or selector.text
    return [selection_text(text_fields, r.row.input, r.row.instruction) for r in rows]


def _timed(read: Callable[[], T], rows: int) -> tuple[T, float]:
    """The result of `read`, and its CPU milliseconds per row, loading included."""
    started = time.process_time()
    answer = read()
    return answer, (time.process_time() - started) * 1000 / max(rows, 1)


def evaluate_adapter(label: str, data: list[Path], limit: int) -> dict[str, Any]:
    """Exact match of the label's adapter and of the base model without it, decoded greedily, on the label's rows."""
    from services.trainer.data.task_rows import as_training
    from services.trainer.evaluation.generate import BATCH_ROWS, answer_rows, exact_match
    from shared.model.base import load_model, load_tokenizer, resolve_base_model
    from shared.model.hardware import limit_threads
    from shared.model.merge import with_adapter
    from shared.prompts.bound import BasePrompts

    settings = current_settings()
    limit_threads(settings)
    registry = current_registry(settings)
    manifest = registry.adapters.get(DEFAULT_TENANT, label)
    own = [r.row for r in read_labelled(data) if r.label == manifest.label][:limit]
    if not own:
        raise Invalid("rows_missing", f"the files hold no rows of {manifest.label}")
    instructed = [row.model_copy(update={"instruction": row.instruction or manifest.instruction}) for row in own]
    rows = as_training(instructed, prefix_of(manifest.label, manifest))
    base = resolve_base_model(settings)
    tokenizer, model = load_tokenizer(base), load_model(base, settings.dtype)
    prompts = BasePrompts(tokenizer, base, renders_jinja=settings.chat_templates)
    template = prompts.bind(registry.templates.named(DEFAULT_TENANT, manifest.template)).at(utc_now()[:10])

    def matched(model: Any, whose: str) -> float:
        with counted_batches(f"rows answered by {whose}", len(rows), BATCH_ROWS) as next_batch:

            def should_stop() -> bool:
                next_batch()
                return False

            answers = answer_rows(model, tokenizer, rows, template=template, should_stop=should_stop)
        return exact_match(answers, rows)

    base_match = matched(model, "the base model")
    adapter_match = matched(with_adapter(model, registry.weights.fetch(manifest.digest)), manifest.ref)
    return {
        "label": manifest.label,
        "adapter": manifest.digest,
        "n": len(rows),
        "adapter_exact_match": adapter_match,
        "base_exact_match": base_match,
    }
