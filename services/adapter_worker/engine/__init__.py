"""Engines by name; each is imported only when it is used."""

from collections.abc import Callable
from pathlib import Path

from services.adapter_worker.engine.base import DeadlineExceeded, Engine, Generation, GenerationRequest
from shared.contracts.manifests import BaseModelManifest
from shared.errors import Invalid
from shared.settings import Settings

__all__ = ["ECHO_BASE", "ENGINES", "DeadlineExceeded", "Engine", "Generation", "GenerationRequest", "make_engine"]


ECHO_BASE = BaseModelManifest(id="echo", shapes={})
"""What stands for a base model in the echo engine, which has none: it answers only under releases made for this."""


def _transformers(settings: Settings, base_folder: Path) -> Engine:
    from services.adapter_worker.engine.native.load import load_engine

    return load_engine(settings, base_folder)


def _echo(settings: Settings, base_folder: Path) -> Engine:  # noqa: ARG001 - one signature for all engines
    from services.adapter_worker.engine.echo import EchoEngine

    return EchoEngine(seconds_per_token=settings.echo_seconds_per_token, fault_file=settings.echo_fault_file)


def _vllm(settings: Settings, base_folder: Path) -> Engine:
    from services.adapter_worker.engine.vllm.connect import connect

    return connect(settings, base_folder)


ENGINES: dict[str, Callable[[Settings, Path], Engine]] = {"transformers": _transformers, "echo": _echo, "vllm": _vllm}


def make_engine(name: str, settings: Settings, base_folder: Path) -> Engine:
    """Build the named engine on the base model in `base_folder`; raises `Invalid` for an unknown name."""
    if name not in ENGINES:
        raise Invalid("engine_unknown", f"no engine {name!r}; set SIGNALBOX_ENGINE to one of {', '.join(ENGINES)}")
    return ENGINES[name](settings, base_folder)
