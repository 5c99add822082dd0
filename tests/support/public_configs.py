"""Public adapter configs, each with what it must get: those of the shared data where they lie, and a sample a kind."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import nn

from shared.adapter_files import (
    CONFIG_NAME,
    ORIGINAL_NAME,
    AdapterLimits,
    BaseShapes,
    accept_adapter,
    unpack_adapter,
)
from shared.errors import Invalid
from tests.support.adapter_samples import CONFIG
from tests.support.generated_adapters import tensors_of, write
from tests.support.hostile_archives import zip_of

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "adapter_configs"
_PARTS = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn"}
_HIDDEN, _WIDE, _LAYERS, _RANKS = 16, 24, 2, 4
_ABSENT = {"query_key_value", "dense_h_to_4h", "dense_4h_to_h"}
"""What a config of phi-2 names beside modules that phi-2 has."""
_UNSLOTH = {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers", "unsloth_fixed": True}
_SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class PublicConfig(NamedTuple):
    """One config, what it must get (accept, normalise or refuse), and the files that came with it."""

    number: str
    config: dict
    expected: str
    is_pickled: bool = False
    absent: frozenset[str] = frozenset()

    @property
    def targets(self):
        found = self.config.get("target_modules") or ["q_proj"]
        return list(dict.fromkeys(found)) if isinstance(found, list) else [found]

    def base(self):
        """A base model of two layers that has the modules the config names."""
        modules = {}
        for target in [*self.targets, "q_proj"]:
            if target in {"embed_tokens", "lm_head"} | self.absent:
                continue
            shape = (_HIDDEN, _WIDE) if target.endswith("down_proj") else (_WIDE, _HIDDEN)
            part = _PARTS.get(target, "mlp")
            names = [f"model.layers.{n}.{part}.{target}" for n in range(_LAYERS)]
            modules |= dict.fromkeys([target] if target.startswith("model.") else names, shape)
        return BaseShapes(modules | {"lm_head": (32, _HIDDEN)})

    def ranked(self):
        """The rank of each module that a training with this config on `base` makes tensors for."""
        rank = min(self.config.get("r", _RANKS), _HIDDEN)
        names = [name for name in self.base().modules if {name, name.rpartition(".")[2]} & {*self.targets}]
        return dict.fromkeys(names, rank)


def given(folder=FOLDER):
    """The configs of the shared data; empty where they do not lie beside this clone."""
    if not folder.is_dir():
        return []
    with (folder / "index.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [_given(folder, row) for row in rows]


def _given(folder, row):
    config = json.loads((folder / f"{row['number']}.json").read_text())
    absent = _ABSENT if row["base"] == "phi-2" else set()
    return PublicConfig(
        row["number"], config, row["expected"], row["expected_reason"] == "weights only as .bin", frozenset(absent)
    )


def _sample(number, expected, changes=None, without=(), **options):
    config = {key: value for key, value in (CONFIG | (changes or {})).items() if key not in without}
    return PublicConfig(number, config, expected, **options)


KINDS = [
    _sample("as PEFT writes it", "accept"),
    _sample("seven targets", "accept", {"target_modules": _SEVEN}),
    _sample("with lm_head", "accept", {"target_modules": [*_SEVEN, "lm_head"]}),
    _sample("no base named", "accept", {"base_model_name_or_path": None}),
    _sample("PEFT of 2023", "accept", without=("use_dora", "use_rslora", "rank_pattern", "alpha_pattern")),
    _sample("Unsloth", "normalise", {"auto_mapping": _UNSLOTH, "target_modules": _SEVEN}),
    _sample("each target twice", "normalise", {"target_modules": _SEVEN * 2}),
    _sample("PEFT of early 2023", "normalise", {"enable_lora": None, "merge_weights": False}),
    _sample("a user's notes", "normalise", {"task": "question_answering", "domain": "general"}),
    _sample("towers excluded", "normalise", {"exclude_modules": ".*(audio_tower|vision_tower|embed_vision).*"}),
    _sample("targets of another model, too", "normalise", {"target_modules": ["q_proj", "query_key_value"]},
            absent=frozenset(_ABSENT)),
    _sample("no adapter", "refuse", {"kismet": "mainwifi"}, without=("peft_type", "r", "lora_alpha", "target_modules")),
    _sample("sequence to sequence", "refuse", {"task_type": "SEQ_2_SEQ_LM"}),
    _sample("classifier", "refuse", {"task_type": "SEQ_CLS", "fan_in_fan_out": True}),
    _sample("embeddings", "refuse", {"target_modules": [*_SEVEN, "embed_tokens", "lm_head"]}),
    _sample("pickle", "refuse", is_pickled=True),
]  # fmt: skip


class Model(nn.Module):
    """Linear modules under their names; its output holds what each makes of one vector, in any nesting."""

    def __init__(self, shapes):
        super().__init__()
        torch.manual_seed(0)
        self.names = list(shapes)
        for name, (out, into) in shapes.items():
            self._holder(name).add_module(name.rpartition(".")[2], nn.Linear(into, out, bias=False))

    def _holder(self, name):
        holder = self
        for part in name.split(".")[:-1]:
            if part not in holder._modules:
                holder.add_module(part, nn.Module())
            holder = holder._modules[part]
        return holder

    def prepare_inputs_for_generation(self):
        """PEFT asks for it where an adapter is one of a causal language model."""

    def forward(self):
        linears = [self.get_submodule(name) for name in self.names]
        return torch.cat([linear(torch.linspace(-1, 1, linear.in_features)) for linear in linears])


class Judged(NamedTuple):
    verdict: str
    """accept, normalise or refuse."""
    difference: float
    """How far PEFT's output with the stored folder is from that with the folder as it came."""
    said: str


def judge(case, folder):
    """Train nothing, but write tensors as a training would, and let the check decide."""
    base, ranks = case.base(), case.ranked()
    config = case.config | ({"r": max(ranks.values())} if ranks else {})
    tensors = tensors_of(ranks or {"lm_head": 1}, base=base)
    came, stored = (write(folder / name, config, tensors) for name in ("came", "stored"))
    try:
        if case.is_pickled:
            packed = zip_of((CONFIG_NAME, json.dumps(config).encode()), ("adapter_model.bin", b"\x80\x04."))
            unpack_adapter(packed, folder / "unpacked", 1 << 20)
        notes = accept_adapter(stored, base, AdapterLimits()).notes
    except Invalid as error:
        return Judged("refuse", 0.0, error.detail)
    assert (stored / ORIGINAL_NAME).is_file() == bool(notes)
    theirs = _output(came, base.modules)
    assert (theirs - Model(base.modules)()).abs().max() > 0.01  # the adapter does something
    difference = (_output(stored, base.modules) - theirs).abs().max().item()
    return Judged("normalise" if notes else "accept", difference, "; ".join(notes))


def _output(folder, shapes):
    with torch.inference_mode():
        return PeftModel.from_pretrained(Model(shapes), str(folder)).eval().get_base_model()()
