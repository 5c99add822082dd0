"""A tiny random Llama, a byte-level tokenizer, random adapters, and the solo run they are compared with."""

import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.native.engine import NativeEngine
from services.adapter_worker.engine.native.kernels import load_kernels
from services.adapter_worker.engine.vllm.engine import VllmEngine
from services.adapter_worker.engine.vllm.server import VllmServer
from shared.contracts.prompts import Part, Segment
from shared.model.tokens import encode
from tests.support.byte_tokenizer import SPECIAL, byte_tokenizer
from tests.support.kernels import KERNELS

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

ADAPTERS: dict[str, dict[str, Any]] = {
    "plain": {"seed": 1},
    "rank2": {"seed": 2, "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]},
    "rslora": {"seed": 3, "r": 8, "use_rslora": True},
    "dora": {"seed": 4, "use_dora": True},
    "by module": {
        "seed": 6,
        "r": 8,
        "rank_pattern": {"q_proj": 20, "layers.1.mlp.up_proj": 2, "down_proj": 3},
        "alpha_pattern": {"o_proj": 2, "layers.0.self_attn.v_proj": 32},
    },
    "by module, rslora": {
        "seed": 7,
        "r": 2,
        "use_rslora": True,
        "target_modules": ["k_proj", "gate_proj"],
        "rank_pattern": {"gate_proj": 17},
        "alpha_pattern": {"k_proj": 1},
    },
    "by module, dora": {
        "seed": 8,
        "use_dora": True,
        "rank_pattern": {"mlp.gate_proj": 9},
        "alpha_pattern": {"up_proj": 1},
    },
    "dora2": {"seed": 5, "use_dora": True, "target_modules": ["q_proj", "down_proj"]},
}


class Kit:
    """What the engine tests build on; one per session, because the models are deterministic and never changed."""

    def __init__(self, folder: Path, build=None) -> None:
        self.folder = folder
        self._solos, self._alones = {}, {}
        self.tokenizer = byte_tokenizer()
        self.kernels = load_kernels(KERNELS)
        torch.manual_seed(7)
        self.model = (build or self.llama)(len(self.tokenizer)).eval()

    @staticmethod
    def llama(tokens, **options):
        config = LlamaConfig(
            vocab_size=tokens, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.15,
            bos_token_id=None, eos_token_id=None, tie_word_embeddings=False, **options,
        )  # fmt: skip
        return LlamaForCausalLM(config)

    def engine(self, model=None, dtype=torch.float32, **options):
        model = copy.deepcopy(self.model).to(dtype) if model is None else model
        options = {"max_batch": 8, "cache_bytes": 8 << 20, "kernels": self.kernels, **options}
        return NativeEngine(model, self.tokenizer, encode, **options)

    def adapter(self, name, seed=0, init_lora_weights=False, **config):
        """A folder with an adapter of random weights, as PEFT writes it."""
        folder = self.folder / name
        if not folder.exists():
            torch.manual_seed(seed)
            options = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **config}
            lora = LoraConfig(init_lora_weights=init_lora_weights, **options)
            get_peft_model(copy.deepcopy(self.model), lora).save_pretrained(folder)
        return folder

    def pissa(self, name, **more):
        """A PiSSA adapter as PEFT converts it to LoRA of the doubled rank, after its weights have moved."""
        folder, initial = self.folder / name, self.folder / f"{name}-initial"
        if not folder.exists():
            options = {"r": 4, "lora_alpha": 4, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **more}
            config = LoraConfig(init_lora_weights="pissa", **options)
            model = get_peft_model(copy.deepcopy(self.model), config)
            model.save_pretrained(initial)
            torch.manual_seed(9)
            for key, weight in model.named_parameters():
                if "lora_" in key:
                    weight.data += 0.1 * torch.randn_like(weight)
            model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(initial))
        return folder

    def alone(self, adapter):
        """A fresh copy of the model with one adapter in PEFT's own layers."""
        model = copy.deepcopy(self.model)
        return model if adapter is None else PeftModel.from_pretrained(model, str(adapter)).eval()

    def _known_alone(self, adapter):
        """`alone` of an adapter by its name, made once."""
        if adapter not in self._alones:
            self._alones[adapter] = self.alone(adapter and self.folder / adapter)
        return self._alones[adapter]

    def logprobs(self, adapter, ids, tokens):
        """What the adapter alone says of an answer, token by token."""
        with torch.inference_mode():
            logits = self.alone(adapter)(input_ids=torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1]
        return logits.log_softmax(-1).gather(-1, torch.tensor(tokens).unsqueeze(-1)).squeeze(-1).tolist()

    def known_solo(self, adapter, text, count):
        """`solo` of an adapter by its name, without the end token, worked out once."""
        key = (adapter, text, count)
        if key not in self._solos:
            ends = {self.tokenizer.convert_tokens_to_ids(name) for name in SPECIAL[::2]}
            tokens, logits = self.solo(adapter and self.folder / adapter, self.prompt_ids(text), count)
            self._solos[key] = [token for token in tokens if token not in ends], logits
        return self._solos[key]

    def follow(self, adapter, text, answer):
        """What the adapter alone says next after a prompt and after each token of an answer, None where it ends.

        One forward pass over both, and its logits.
        """
        ids = self.prompt_ids(text)
        with torch.inference_mode():
            logits = self._known_alone(adapter)(input_ids=torch.tensor([ids + answer])).logits[0, len(ids) - 1 :]
        ends = {self.tokenizer.convert_tokens_to_ids(name) for name in SPECIAL[::2]}
        return [None if token in ends else token for token in logits.argmax(-1).tolist()], logits

    def solo(self, adapter, ids, count):
        """Greedy tokens and their logits from the adapter alone in a fresh PeftModel."""
        out = self.alone(adapter).generate(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            max_new_tokens=count, output_logits=True, return_dict_in_generate=True, pad_token_id=0,
            eos_token_id=[self.tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", "<|im_end|>")],
        )  # fmt: skip
        return out.sequences[0, len(ids) :].tolist(), [logits[0] for logits in out.logits]

    def prompt(self, text):
        return [Segment(Part.TEMPLATE, "<|im_start|>"), Segment(Part.USER, text, is_input=True)]

    def prompt_ids(self, text):
        return encode(self.tokenizer, self.prompt(text), 1 << 20)


def vllm_engine(vllm, kit, **options):
    """Our side of that server, new for each test."""
    return VllmEngine(VllmServer(vllm.url), kit.tokenizer, encode, **options)


def ignore(_piece):
    """A reader who does not care."""


def greedy(kit, text, adapter, **options):
    options = {"job_id": text, "attempt": 1, "max_new_tokens": 24, **options}
    return GenerationRequest(prompt=kit.prompt(text), adapter=adapter, **options)
