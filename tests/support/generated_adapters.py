"""Adapters as hypothesis makes them up: a meaning, one of many ways to write it down, and what may go wrong with it."""

import copy
import json
import warnings
from collections import Counter
from typing import Any, NamedTuple

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from peft import PeftModel
from peft.utils import load_peft_weights, set_peft_model_state_dict
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, AdapterLimits, BaseShapes, accept_adapter
from shared.adapter_files.config import RULES
from shared.errors import Invalid

PREFIX = "base_model.model."
TOLERANCE = 1e-5
SHAPES = {"self_attn.q_proj": (16, 16), "self_attn.k_proj": (8, 16), "self_attn.v_proj": (8, 16),
          "self_attn.o_proj": (16, 16), "mlp.gate_proj": (24, 16), "mlp.up_proj": (24, 16),
          "mlp.down_proj": (16, 24)}  # fmt: skip
LAYERS = 3
LEAVES = [name.split(".")[1] for name in SHAPES]
BASE = BaseShapes(
    {f"model.layers.{n}.{name}": shape for n in range(LAYERS) for name, shape in SHAPES.items()} | {"lm_head": (32, 16)}
)
IDS = torch.tensor([[1, 5, 9, 30, 2, 7]])


class Made(NamedTuple):
    """A config and tensors; `meant` are the tensors under PEFT's names where a training tool renamed them."""

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    meant: dict[str, torch.Tensor]
    is_refused: bool
    """Whether it holds what is never served, whatever PEFT makes of it."""
    changes: tuple[str, ...]


def tiny_llama():
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def module_names(leaves, layers):
    return [f"model.layers.{n}.{name}" for n in layers for name in SHAPES if name.split(".")[1] in leaves]


# Ways to say which modules.


def _by_leaves(draw, leaves, layers):
    layers_said = draw(st.sampled_from([list(layers), [*layers, layers[0]], [*layers, 77], layers[0]]))
    is_all = len(layers) == LAYERS
    said = {} if is_all else {"layers_to_transform": layers_said if len(layers) == 1 else [*layers, 77]}
    if said and draw(st.booleans()):
        said["layers_pattern"] = draw(st.sampled_from(["layers", ["layers"], ["h", "layers"], [], None]))
    return {"target_modules": draw(st.permutations(leaves)), **said}


def _twice(draw, leaves, layers):
    said = _by_leaves(draw, leaves, layers)
    return {**said, "target_modules": said["target_modules"] * 2}


def _with_strangers(draw, leaves, layers):
    strangers = draw(st.lists(st.sampled_from(["query_key_value", "c_attn", "dense", "w1", "a.b"]), min_size=1))
    said = _by_leaves(draw, leaves, layers)
    return {**said, "target_modules": draw(st.permutations([*said["target_modules"], *strangers]))}


def _whole_names(draw, leaves, layers):
    return {"target_modules": draw(st.permutations(module_names(leaves, layers)))}


def _expression(draw, leaves, layers):
    names = "|".join(leaves)
    numbers = r"\d+" if len(layers) == LAYERS else f"[{''.join(map(str, layers))}]"
    return {
        "target_modules": draw(
            st.sampled_from([
                rf".*layers\.{numbers}\..*\.({names})",
                rf"^model\.layers\.{numbers}\.(self_attn|mlp)\.(?:{names})$",
                rf"(?:.*?(?:layers)\.{numbers}.*?\.(?:self_attn|mlp).*?(?:{names}).*?)",
                rf"(?!.*visual).*\.{numbers}\.\w+\.({names})",
            ])
        )
    }  # fmt: skip


def _but_excluded(draw, leaves, layers):
    others = [leaf for leaf in LEAVES if leaf not in leaves]
    said = _by_leaves(draw, leaves, layers)
    excluded = draw(st.sampled_from([others, rf".*({'|'.join(others) or 'vision_tower'})", ["vision_tower"]]))
    added = others if excluded != ["vision_tower"] else []
    return {**said, "target_modules": [*said["target_modules"], *added], "exclude_modules": excluded}


def _all_linear(draw, leaves, layers):
    others = [
        f"layers.{n}.{s}" for n in range(LAYERS) for s in SHAPES if n not in layers or s.split(".")[1] not in leaves
    ]
    return {"target_modules": draw(st.sampled_from(["all-linear", "All-Linear"])), "exclude_modules": others or None}


WAYS = [_by_leaves, _by_leaves, _twice, _with_strangers, _whole_names, _expression, _but_excluded, _all_linear]


def _pattern(draw, modules, values, default):
    """A pattern in PEFT's words, and the value of each module by it."""
    kind = draw(st.sampled_from(["none", "none", "leaf", "whole", "expression", "stranger"]))
    value = draw(st.sampled_from(values))
    one = draw(st.sampled_from(modules))
    leaf = one.rpartition(".")[2]
    match kind:
        case "leaf":
            return {leaf: value}, {m: value for m in modules if m.endswith(f".{leaf}")}
        case "whole":
            return {one: value}, {one: value}
        case "expression":
            key = draw(st.sampled_from([r".*mlp\..*", r"layers\.\d+\.mlp\.\w+", r"^model\.layers\.\d+\.mlp\.\w+"]))
            return {key: value}, {m: value for m in modules if ".mlp." in m}
        case "stranger":
            return {"c_attn": value}, {}
    return {}, {}


@st.composite
def _meanings(draw):
    leaves = draw(st.lists(st.sampled_from(LEAVES), min_size=1, unique=True))
    layers = draw(st.sampled_from([[0, 1, 2], [0, 1, 2], [0], [2], [0, 2], [1, 2]]))
    modules = module_names(leaves, layers)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": draw(st.sampled_from([1, 2, 4])),
        "lora_alpha": draw(st.sampled_from([4, 8, 16, 3.5])),
        "lora_dropout": 0.05,
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
        "use_rslora": draw(st.sampled_from([False, False, True])),
        "use_dora": draw(st.sampled_from([False, False, False, True])),
        "base_model_name_or_path": draw(st.sampled_from(["tiny", None, "/some/path"])),
        **draw(st.sampled_from(WAYS))(draw, leaves, layers),
    }
    rank_pattern, ranks = _pattern(draw, modules, [1, 2, 6], config["r"])
    alpha_pattern, _ = _pattern(draw, modules, [1, 2, 32.0], config["lora_alpha"])
    config |= {"rank_pattern": rank_pattern, "alpha_pattern": alpha_pattern}
    return config, tensors_of(
        {m: ranks.get(m, config["r"]) for m in modules}, draw(st.integers(0, 99)), **_kinds(draw, config)
    )


def _kinds(draw, config):
    return {
        "dora": config["use_dora"],
        "dtype": draw(st.sampled_from([torch.float32] * 3 + [torch.float16, torch.bfloat16])),
    }


def tensors_of(ranks, seed=0, *, base=BASE, dora=False, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, rank in ranks.items():
        out, into = base.modules[module]
        tensors[f"{PREFIX}{module}.lora_A.weight"] = torch.randn(rank, into, generator=generator).to(dtype)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = (0.1 * torch.randn(out, rank, generator=generator)).to(dtype)
        if dora:
            tensors[f"{PREFIX}{module}.lora_magnitude_vector"] = 0.5 + torch.rand(out, generator=generator)
    return tensors


# What may change a config; those that PEFT does not mind are named first.

EFFECTLESS = {
    "auto_mapping": {"base_model_class": "LlamaForCausalLM", "unsloth_fixed": True},
    "enable_lora": None,
    "merge_weights": False,
    "task": "question_answering",
    "epochs": 3,
    "tags": ["bank", "cards"],
    "use_of_tomorrow": False,
    "tomorrow_config": {},
    "fan_in_fan_out": True,
    "eva_config": {"rho": 2.0},
    "runtime_config": {"ephemeral_gpu_offload": False},
    "inference_mode": "yes",
    "peft_version": 20,
    "megatron_core": "megatron",
    "qalora_group_size": None,
    "lora_dropout": 1.0,
    "task_type": None,
    "modules_to_save": [],
    "layer_replication": [],
    "target_parameters": [],
    "alora_invocation_tokens": None,
    "init_lora_weights": "gaussian",
    "revision": "main",
}
HARMFUL: dict[str, list[Any]] = {
    "r": [0, -1, 3, "4", 4.0, None],
    "lora_alpha": ["16", None, []],
    "rank_pattern": [None, [], {"(": 2}, {".*": 3}, {"q_proj": "2"}, {".*": 0}],
    "alpha_pattern": [None, {"q_proj": "2", ".*": "3"}, {"[": 1}],
    "target_modules": [[], "q_proj", ".*", ".*self_attn.*", ["self_attn"], ["norm"], ["q_proj", "mlp"], "(", None, {}],
    "layers_to_transform": [[77], 9, "0", [-1]],
    "layers_pattern": ["layers", "blocks"],
    "exclude_modules": [["q_proj", "mlp.up_proj"], ".*", ["layers.0.self_attn.v_proj"]],
    "init_lora_weights": ["of tomorrow", 1, "loftq", False, "orthogonal", None, "eva"],
    "use_dora": [True],
    "use_qalora": [True],
    "use_bdlora": [False],
    "trainable_token_indices": [[]],
    "target_parameters": ["x"],
    "use_rslora": [True],
    "peft_type": ["lora", "IA3", None],
    "lora_dropout": [2.0, "0.1", None],
}
METHODS = {
    "kasa_config": [{}],
    "monteclora_config": [{}, {"num_samples": 2}],
    "velora_config": [{}],
    "arrow_config": [{}],
    "use_bdlora": [{}],
    "trainable_token_indices": [[1]],
    "target_parameters": [["model.layers.0.mlp.up_proj.weight"]],
    "lora_bias": [True],
    "layer_replication": [[[0, 2], [1, 3]]],
    "loftq_config": [{"loftq_bits": 4}],
    "modules_to_save": [["lm_head"], ["embed_tokens"]],
    "alora_invocation_tokens": [[1, 2]],
}
"""Settings of PEFT that make more of an adapter than plain LoRA."""
ODD = [None, False, True, 0, 1, -1, 0.5, "", "x", [], ["q_proj"], {}, {"q_proj": 1}]
"""Values that any known key may be given."""
REFUSED = {
    "bias": ["all", "lora_only"],
    "task_type": ["SEQ_CLS", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"],
    "init_lora_weights": ["pissa", "olora", "pissa_niter_4"],
    "lora_alpha": [0, -8],
    "use_of_tomorrow": [True],
    "auto_map": [{"AutoModel": "evil.Model"}],
    **METHODS,
}
"""What is never served, though PEFT loads some of it."""


def _drop_half(draw, tensors):
    name = draw(st.sampled_from(sorted(tensors)))
    return {key: value for key, value in tensors.items() if key != name}


def _drop_module(draw, tensors):
    module = draw(st.sampled_from(sorted(tensors))).rpartition(".lora_")[0]
    return {key: value for key, value in tensors.items() if not key.startswith(f"{module}.")} or tensors


def _transpose(_, tensors):
    return {key: value.T.contiguous() if value.dim() > 1 else value for key, value in tensors.items()}


def _another_module(draw, tensors):
    module = draw(st.sampled_from(sorted(BASE.modules)))
    return tensors_of({module: 2}) | tensors


def _other_rank(draw, tensors):
    module = draw(st.sampled_from(sorted(tensors))).rpartition(".lora_")[0].removeprefix(PREFIX)
    return tensors | tensors_of({module: 5})


SPOILT = [_drop_half, _drop_module, _drop_module, _transpose, _another_module, _other_rank]
RENAMED = [
    lambda name: name.replace(".weight", ".default.weight"),
    lambda name: name.removeprefix(PREFIX),
    lambda name: PREFIX + name,
    lambda name: name.replace("model.model.", "model.", 1),
    lambda name: name.replace("base_model.model.model.", "base_model.model.language_model.model."),
    lambda name: f"_orig_mod.{name}",
]


@st.composite
def adapters(draw) -> Made:
    """An adapter: a good two thirds are written in some good way, the others have one or two faults."""
    config, tensors = draw(_meanings())
    changes, is_refused = [], False
    for key in draw(st.lists(st.sampled_from(sorted(EFFECTLESS)), max_size=4, unique=True)):
        config[key] = EFFECTLESS[key]
        changes.append(key)
    for kind in draw(
        st.sampled_from([[]] * 4 + [["harm"]] * 2 + [["odd"]] * 2 + [["spoil"], ["refuse"], ["harm", "spoil"]])
    ):
        if kind == "spoil":
            spoil = draw(st.sampled_from(SPOILT))
            tensors = spoil(draw, tensors)
            changes.append(spoil.__name__)
            continue
        table = {"harm": HARMFUL, "refuse": REFUSED, "odd": dict.fromkeys(RULES, ODD)}[kind]
        key = draw(st.sampled_from(sorted(table)))
        config[key] = draw(st.sampled_from(table[key]))
        changes.append(f"{key}={config[key]!r}")
        # Other values than the empty ones switch a method on, and some read an empty object as their defaults.
        is_refused |= (
            kind == "refuse"
            or (key == "lora_alpha" and config[key] in (0, -1))
            or (key in METHODS and bool(config[key] or config[key] == METHODS[key][0]))
        )
    meant = tensors
    if draw(st.sampled_from([False, False, False, False, True])):
        rename = draw(st.sampled_from(RENAMED))
        tensors = {rename(name): tensor for name, tensor in tensors.items()}
    return Made(config, tensors, meant, is_refused, tuple(changes))


# What PEFT makes of it, and what we make of it.


class Outcome(NamedTuple):
    is_valid: bool
    is_accepted: bool
    is_equal: bool
    """Whether PEFT answers alike with the folder as it came and as it is stored."""
    said: str

    @property
    def is_false_accept(self):
        return self.is_accepted and not (self.is_valid and self.is_equal)

    @property
    def is_false_refusal(self):
        return self.is_valid and not self.is_accepted


def judge(made: Made, model, folder) -> Outcome:
    """Let PEFT load the adapter as it came, let the check accept it or not, and compare the logits."""
    theirs = None if made.is_refused else logits_of(write(folder / "came", made.config, made.meant), model)
    ours = write(folder / "ours", made.config, made.tensors)
    try:
        said = "; ".join(accept_adapter(ours, BASE, AdapterLimits()).notes)
    except Invalid as error:
        return Outcome(theirs is not None, is_accepted=False, is_equal=False, said=f"{error.code}: {error.detail}")
    stored = logits_of(ours, model)
    is_equal = theirs is not None and stored is not None and (theirs - stored).abs().max().item() <= TOLERANCE
    return Outcome(theirs is not None, is_accepted=True, is_equal=is_equal, said=said)


def count_outcomes(model, folder, examples, seed):
    """Judge so many generated adapters; returns the counts, and the first wrong ones in words."""
    counts, wrong = Counter(), []

    @seeded(seed)
    @settings(max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=[*HealthCheck])  # fmt: skip
    @given(adapters())
    def look(made):
        outcome = judge(made, model, folder)
        counts.update({"all": 1, "valid": outcome.is_valid, "accepted": outcome.is_accepted})
        if outcome.is_false_accept or outcome.is_false_refusal:
            counts.update(false_accepts=outcome.is_false_accept, false_refusals=outcome.is_false_refusal)
            wrong.append(f"{outcome} {made.changes} {json.dumps(made.config)}")

    look()
    return counts, "\n".join(wrong[:20])


def write(folder, config, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    return folder


def logits_of(folder, model):
    """PEFT's logits; None where it cannot load the folder, leaves tensors out, or fills a module up at random."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peft = PeftModel.from_pretrained(copy.deepcopy(model), str(folder)).eval()
            result = set_peft_model_state_dict(peft, load_peft_weights(str(folder), device="cpu"))
            with torch.inference_mode():
                logits = peft(input_ids=IDS).logits
    except Exception:  # noqa: BLE001 - whatever PEFT raises, nobody is answered by it
        return None
    missing = [name for name in result.missing_keys if "lora_" in name]
    if result.unexpected_keys or not _are_untouched(peft, missing):
        return None
    return logits


def _are_untouched(peft, missing):
    modules = {name.rpartition(".lora_")[0] for name in missing}
    loaded = {
        name.rpartition(".lora_")[0]: module for name, module in peft.named_modules() if name.endswith("lora_B.default")
    }
    whole = {
        name for name in modules if {f"{name}.lora_A.default.weight", f"{name}.lora_B.default.weight"} <= {*missing}
    }
    return whole == modules and all(not loaded[name].weight.any() for name in modules)
