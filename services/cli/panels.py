"""The groups in which `signalbox --help` shows its commands."""

from typing import Any

from typer import Context
from typer.core import TyperGroup

PANELS = {
    "This machine": ("demo", "up", "down", "doctor", "worker", "trainer"),
    "Ask": ("submit", "jobs", "batch", "models"),
    "Adapters and data": ("adapters", "datasets", "corpora", "templates"),
    "Train and release": (
        *("route", "train", "multitask", "evaluate"),
        *("releases", "rollouts", "proposals", "rebase", "rebases"),
    ),
    "Operate": (
        *("keys", "webhooks", "usage", "traffic", "audit", "gc", "backup", "restore"),
        *("gpu", "k8s", "secrets", "bucket"),
    ),
}
_ORDER = [name for names in PANELS.values() for name in names]


class Panels(TyperGroup):
    """Shows commands in these groups and in this order; what other distributions add comes after them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for panel, names in PANELS.items():
            for name in names:
                self.commands[name].rich_help_panel = panel  # type: ignore[attr-defined]

    def list_commands(self, ctx: Context) -> list[str]:  # type: ignore[override]
        """Return the names of all commands in the order in which they are shown."""
        others = [name for name in super().list_commands(ctx) if name not in _ORDER]
        return [*_ORDER, *others]
