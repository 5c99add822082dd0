"""The prompt that a release's template makes on this worker's base model."""

import functools
from collections.abc import Callable
from pathlib import Path

from shared.prompts.bound import BasePrompts, BoundTemplate, without_vocabulary
from shared.registry import Registry

Prompts = Callable[[str, str], BoundTemplate]
"""Takes a tenant and the name of a template; raises `Invalid` where it does not fit the base model."""


def worker_prompts(registry: Registry, base_folder: Path | None, *, renders_jinja: bool) -> Prompts:
    """Return the templates of all tenants on the base model in a folder; None is an engine that has no model."""

    @functools.cache
    def on_base() -> BasePrompts:
        from shared.model.base import load_tokenizer

        assert base_folder is not None
        return BasePrompts(load_tokenizer(base_folder), base_folder, renders_jinja=renders_jinja)

    def prompts(tenant_id: str, name: str) -> BoundTemplate:
        template = registry.templates.named(tenant_id, name)
        # The first templates need no vocabulary: every engine knows where their answers end.
        if base_folder is None or template.by_segment:
            return without_vocabulary(template)
        return on_base().bind(template)

    return prompts
