"""Connects the worker to its vLLM server as the settings say."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from services.adapter_worker.engine.base import EngineAway
from services.adapter_worker.engine.vllm.engine import VllmEngine
from services.adapter_worker.engine.vllm.server import BaseCard, VllmServer
from shared.errors import Invalid
from shared.model.tokens import end_token_ids
from shared.settings import Settings

log = structlog.get_logger()
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0


def connect(settings: Settings, base_folder: Path) -> VllmEngine:
    """Return an engine on the server, once it is there; raises `Invalid` if its base model is another one."""
    from shared.model.base import load_tokenizer
    from shared.model.tokens import encode

    tokenizer = load_tokenizer(base_folder)
    make = partial(
        VllmEngine,
        tokenizer=tokenizer,
        encode=encode,
        max_prompt_tokens=settings.max_prompt_tokens,
        adapter_slots=settings.adapter_slots,
        adapters_dir=settings.vllm_adapters_dir,
        end_ids=end_token_ids(tokenizer, base_folder),
    )
    engine = once_there(lambda: make(VllmServer(settings.vllm_url, settings.vllm_api_key.get_secret_value())))
    try:
        _check_same_base(engine.base, base_folder)
    except Invalid:
        engine.close()
        raise
    return engine


def once_there(make: Callable[[], VllmEngine]) -> VllmEngine:
    """Make the engine, however long its server takes to start: it loads a model, too."""
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return make()
        except EngineAway as error:
            log.warning("waiting_for_vllm", code=error.code, error=error.detail)
        threading.Event().wait(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)


def _check_same_base(served: BaseCard, base_folder: Path) -> None:
    """Raise `Invalid` if the server's model folder holds another model; a folder not seen from here is believed."""
    from shared.model.base import base_model_id

    folder = Path(served.folder)
    if not (folder / "config.json").is_file():
        log.warning("vllm_base_model_not_compared", serves=served.name, folder=served.folder, believed=str(base_folder))
    elif base_model_id(folder) != base_model_id(base_folder):
        raise Invalid(
            "vllm_other_model",
            f"the vLLM server serves {served.name}, another model than SIGNALBOX_BASE_MODEL: start it with that one",
        )
