"""`signalbox evaluate`: a release's selector, or an adapter, measured in this process on labelled rows."""

from pathlib import Path
from typing import Any

from services.cli.labelled import read_labelled
from services.cli.place import current_settings
from shared.errors import Conflict, Invalid
from shared.ledger import Ledger
from shared.names import DEFAULT_TENANT
from shared.registry import Registry, Release, ReleaseSelector
from shared.settings import Settings
from shared.store import S3Store


def _registry(settings: Settings) -> Registry:
    return Registry(Ledger(settings.redis_url), S3Store(settings), settings.cache_dir)


def _release(registry: Registry, release_id: str) -> Release:
    release_id = release_id or registry.current_id(DEFAULT_TENANT)
    if not release_id:
        raise Conflict("no_release", "there is no current release; run selector.train first")
    return registry.release(DEFAULT_TENANT, release_id)


def current_selector(settings: Settings, release_id: str = "") -> tuple[Registry, ReleaseSelector]:
    """The selector of a release (the current one where none is named), and where its weights are."""
    registry = _registry(settings)
    selector = _release(registry, release_id).selector
    if selector is None:
        raise Conflict("selector_missing", "this release has no selector; run selector.train first")
    return registry, selector


def evaluate_selector(data: list[Path], text: str, release_id: str) -> dict[str, Any]:
    """Route every row and sum up: accuracy, n, per_label, confusion, rejected, ece.

    Rows of `none.none` count as right where they are rejected.
    """
    from services.trainer.domain.metrics import measure
    from services.trainer.infra.select_scores import Reader, route_rows
    from shared.model.base import load_tokenizer, resolve_base_model
    from shared.model.processor import limit_threads

    if text not in ("input", "instruction+input"):
        raise Invalid("text_unknown", f"--text is input or instruction+input, not {text!r}")
    settings = current_settings()
    limit_threads(settings)
    rows = read_labelled(data)
    registry, selector = current_selector(settings, release_id)
    base = resolve_base_model(settings)
    texts = [r.row.input if text == "input" else f"{r.row.instruction}\n{r.row.input}" for r in rows]
    reader = Reader(registry, base, load_tokenizer(base), settings.max_prompt_tokens, settings.dtype)
    return measure(route_rows(selector, reader.read(selector, texts), [r.label for r in rows]))._asdict()


def evaluate_adapter(label: str, data: list[Path], limit: int) -> dict[str, Any]:
    """Exact match of the label's adapter and of the base model alone, greedily, on the label's rows."""
    from services.trainer.domain.rows import Row
    from services.trainer.infra.evaluate import answer_rows, exact_match
    from shared.model.base import load_model, load_tokenizer, resolve_base_model
    from shared.model.merge import with_adapter
    from shared.model.processor import limit_threads

    settings = current_settings()
    limit_threads(settings)
    registry = _registry(settings)
    manifest = registry.adapter(DEFAULT_TENANT, label)
    own = [r.row for r in read_labelled(data) if r.label == manifest.label][:limit]
    if not own:
        raise Invalid("rows_missing", f"the files hold no rows of {manifest.label}")
    rows = [Row(row.instruction or manifest.instruction, row.input, row.output) for row in own]
    base = resolve_base_model(settings)
    tokenizer, model = load_tokenizer(base), load_model(base, settings.dtype)
    alone = exact_match(answer_rows(model, tokenizer, rows, template=manifest.template), rows)
    adapted = with_adapter(model, registry.fetch_weights(manifest.digest))
    answered = exact_match(answer_rows(adapted, tokenizer, rows, template=manifest.template), rows)
    return {
        "label": manifest.label,
        "adapter": manifest.digest,
        "n": len(rows),
        "adapter_exact_match": answered,
        "base_exact_match": alone,
    }
