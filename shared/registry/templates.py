"""Prompt templates: those that are built in, and those that operators added for their tenant."""

from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.manifests import BaseModelManifest
from shared.contracts.templates import OWN, PromptTemplate, check_controls
from shared.errors import Conflict, Invalid, NotFound
from shared.registry.records import Records


class Templates:
    """The templates of every tenant; one never changes while an adapter or a release names it."""

    def __init__(self, records: Records[PromptTemplate]) -> None:
        self._records = records

    def get(self, tenant_id: str, name: str) -> PromptTemplate:
        """Return a template by its name; raises `NotFound`."""
        found = BUILT_IN.get(name) or self._records.get(tenant_id, name)
        if found is None:
            known = ", ".join(BUILT_IN)
            raise NotFound(
                "template_not_found",
                f"no prompt template {name!r}; known: {known}, and what `signalbox templates list` shows beside them",
            )
        return found

    def named(self, tenant_id: str, name: str) -> PromptTemplate:
        """Return the template that a request or a release names; raises `Invalid` `template_unknown`."""
        try:
            return self.get(tenant_id, name)
        except NotFound as error:
            raise Invalid("template_unknown", error.detail) from error

    def for_base(self, tenant_id: str, name: str, base: BaseModelManifest) -> PromptTemplate:
        """Return a template that a new adapter names; raises `Invalid` where it does not fit the base model.

        A base model whose vocabulary is not known yet is left to the processes that serve it.
        """
        template = self.named(tenant_id, name)
        if base.control_tokens:
            if name == OWN and not base.chat_template:
                raise Invalid(
                    "template_missing",
                    f"base model {base.id} has no chat template: name another one, such as alpaca or plain",
                )
            check_controls(template, base.control_tokens, f"base model {base.id}")
        return template

    def by_jinja(self, tenant_id: str, digest: str, base: BaseModelManifest) -> str:
        """Return the name of the template whose chat template has this SHA-256; empty where none is known."""
        if digest == base.chat_template:
            return OWN
        return next((one.name for one in self.list_added(tenant_id) if one.jinja_digest == digest), "")

    def list_added(self, tenant_id: str) -> list[PromptTemplate]:
        """List the templates that operators added, by name."""
        return sorted(self._records.list_all(tenant_id), key=lambda template: template.name)

    def add(self, tenant_id: str, template: PromptTemplate) -> PromptTemplate:
        """Add a template; raises `Conflict` where another one has its name."""
        if template.name in BUILT_IN:
            raise Conflict("template_exists", f"{template.name!r} is built in: choose another name")
        known = self._records.get(tenant_id, template.name)
        if known is not None and known.digest != template.digest:
            raise Conflict(
                "template_exists",
                f"another template has the name {template.name!r}: choose another name, or `signalbox templates rm` it",
            )
        self._records.add(tenant_id, template.name, template)
        return template

    def remove(self, tenant_id: str, template: PromptTemplate) -> None:
        """Remove a template that nothing names."""
        self._records.remove(tenant_id, template.name, template)
