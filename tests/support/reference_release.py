"""A release of three labels with random adapters on the tiny model, for the plain path of section 3.5."""

import torch

from shared.contracts.labels import parse_label
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.model.base import load_model

NAMES = ("bank.accounts", "bank.cards", "travel.trips")
LABELS = [parse_label(name) for name in NAMES]
ADAPTERS = {
    "bank.accounts": {"target_modules": ["q_proj", "v_proj"]},
    "bank.cards": {"target_modules": ["up_proj", "down_proj"], "use_dora": True},
    "travel.trips": {"target_modules": ["q_proj", "k_proj"], "use_rslora": True, "r": 4},
}
MAX_PROMPT = 400


class Weights:
    """The folders of a test by their names, which stand for digests."""

    def __init__(self, root):
        self.root = root

    def fetch(self, digest):
        return self.root / digest

    def fetch_light(self, digest):
        return self.root / f"{digest}.safetensors"


def save_adapter(base, folder, config):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(len(folder.name))
    lora = LoraConfig(**{"r": 2, "task_type": "CAUSAL_LM", "init_lora_weights": False} | config)
    get_peft_model(load_model(base, "float32", device="cpu"), lora).save_pretrained(folder)


def release(selector=None, **changes):
    labels = {
        name: ReleaseLabel(
            adapter=name.replace(".", "-"), ref=f"{name}@1", group="g", template="plain", instruction=f"Do {name}."
        )
        for name in NAMES
    }
    verdict = Verdict(passed=True, reasons=())
    return Release(tenant_id="t", base_model="tiny", labels=labels, selector=selector, verdict=verdict, **changes)


def selector(**parts):
    return ReleaseSelector(**({"labels": NAMES, "threshold": 0} | parts))
