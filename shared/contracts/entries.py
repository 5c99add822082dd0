"""A release's entry for a label, made of an adapter."""

from shared.contracts.labels import parse_label
from shared.contracts.manifests import AdapterManifest, ReleaseLabel


def entry_of(label: str, manifest: AdapterManifest, before: ReleaseLabel | None = None) -> ReleaseLabel:
    """Return the entry that serves a label by an adapter; group and description stay those of the entry `before`."""
    made = ReleaseLabel(
        adapter=manifest.digest,
        ref=manifest.ref,
        group=parse_label(label).domain,
        template=manifest.template,
        instruction=manifest.instruction,
        constraint=manifest.constraint,
        prefix=prefix_of(label, manifest),
    )
    return made.model_copy(update={"group": before.group, "description": before.description}) if before else made


def prefix_of(label: str, manifest: AdapterManifest) -> str:
    """Return what stands before a label's prompts; a label that the adapter does not know is as the version's own."""
    return manifest.labels.get(label) or manifest.labels.get(manifest.label, "")
