"""The real base model: mixed adapters in one batch, token for token as alone."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from services.adapter_worker.engine import GenerationRequest, make_engine
from shared.contracts.built_in_templates import adapter_prompt
from shared.contracts.conversation import single_turn
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.model.tokens import encode, end_token_ids
from shared.settings import Settings
from tests.support.engine_kit import ignore
from tests.support.kernels import DATA_DIR

METHODS = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}
TEXTS = ["My card was declined.", "Name the parties of the contract, the day it was signed and the court.", "Hello!"]


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(600)
def test_the_real_model_serves_mixed_adapters_as_each_alone(tmp_path, agreement):
    settings = Settings(data_dir=DATA_DIR, engine_dtype="float32")
    base = resolve_base_model(settings)
    tokenizer = load_tokenizer(base)
    prompts = [adapter_prompt("chatml", single_turn("Answer briefly.", text)) for text in TEXTS]
    solo = {}
    model = load_model(base, "float32")
    for seed, (name, options) in enumerate(METHODS.items()):
        torch.manual_seed(seed)
        config = LoraConfig(
            r=4, lora_alpha=1, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM",
            init_lora_weights=False, **options,
        )  # fmt: skip
        get_peft_model(copy.deepcopy(model), config).save_pretrained(tmp_path / name)
        alone = PeftModel.from_pretrained(copy.deepcopy(model), str(tmp_path / name)).eval()
        solo[name] = [solo_run(alone, tokenizer, prompt) for prompt in prompts]
    engine = make_engine("transformers", settings, base)
    for name in METHODS:
        engine.load_adapter(name, tmp_path / name)
    requests = [
        GenerationRequest(job_id=f"{name}{n}", attempt=1, prompt=prompt, adapter=name, max_new_tokens=12)
        for n, prompt in enumerate(prompts)
        for name in METHODS
    ]
    with ThreadPoolExecutor(len(requests)) as pool:
        generations = list(pool.map(lambda request: engine.generate(request, ignore), requests))
    engine.close()
    for request, generation in zip(requests, generations, strict=True):
        tokens, logits = solo[request.adapter][prompts.index(request.prompt)]
        agreement.check(generation.token_ids, tokens, logits)


def solo_run(model, tokenizer, prompt):
    ids = torch.tensor([encode(tokenizer, prompt, 1024)])
    ends = end_token_ids(tokenizer)
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, output_logits=True,
        return_dict_in_generate=True, eos_token_id=list(ends), pad_token_id=min(ends),
    )  # fmt: skip
    tokens = [token for token in out.sequences[0, ids.shape[1] :].tolist() if token not in ends]
    return tokens, [logits[0] for logits in out.logits]
