"""The check and PEFT: what is accepted loads in PEFT and answers as it came; what PEFT loads is not refused."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model

from services.adapter_worker.engine.vllm.uniform import uniform_folder
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, AdapterLimits, accept_adapter
from tests.support import public_configs
from tests.support.generated_adapters import (
    BASE,
    IDS,
    LEAVES,
    TOLERANCE,
    count_outcomes,
    logits_of,
    tensors_of,
    tiny_llama,
    write,
)

SHORT, LONG = 60, 10_000
MAX_FALSE_REFUSALS = 0.01
MIN_VALID = 0.3


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.mark.parametrize("examples", [SHORT, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_generated_configs_are_judged_as_peft_judges_them(model, tmp_path, examples):
    counts, wrong = count_outcomes(model, tmp_path, examples, seed=17)
    assert counts["all"] >= examples * 0.9
    assert counts["valid"] >= MIN_VALID * counts["all"]
    assert counts["valid"] <= 0.95 * counts["all"]  # there is something to refuse
    assert counts["false_accepts"] == 0, wrong
    assert counts["false_refusals"] <= MAX_FALSE_REFUSALS * counts["valid"], wrong


# Public configs.


def public(cases):
    return [pytest.param(case, id=case.number) for case in cases]


@pytest.mark.parametrize("case", public(public_configs.KINDS))
def test_each_kind_of_public_config_gets_what_it_must(case, tmp_path):
    outcome = public_configs.judge(case, tmp_path)
    assert outcome.verdict == case.expected, outcome
    assert outcome.difference <= TOLERANCE


@pytest.mark.skipif(not public_configs.FOLDER.is_dir(), reason="the public configs are not beside this clone")
@pytest.mark.parametrize("case", public(public_configs.given()))
def test_each_given_config_gets_what_it_must(case, tmp_path):
    outcome = public_configs.judge(case, tmp_path)
    assert outcome.verdict == case.expected, outcome
    assert outcome.difference <= TOLERANCE


# Conversions.


def trained(model, folder, **config):
    """An adapter as a training script saves it: the initial one in a folder of it, the trained one around it."""
    lora = LoraConfig(r=4, lora_alpha=6, target_modules=LEAVES, task_type="CAUSAL_LM", **config)
    peft = get_peft_model(copy.deepcopy(model), lora)
    peft.peft_config["default"].init_lora_weights = True
    peft.save_pretrained(folder / "initial")
    peft.peft_config["default"].init_lora_weights = config["init_lora_weights"]
    torch.manual_seed(5)
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            weight.data += 0.05 * torch.randn_like(weight)
    peft.save_pretrained(folder)
    for beside in [*folder.glob("README.md"), *folder.glob("initial/README.md")]:
        beside.unlink()
    with torch.inference_mode():
        return peft.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("is_rslora", [False, True])
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_converted_initialisation_answers_as_the_trained_model_did(model, tmp_path, init, is_rslora):
    meant = trained(model, tmp_path / "a", init_lora_weights=init, use_rslora=is_rslora)
    accept_adapter(tmp_path / "a", BASE, AdapterLimits())
    assert (logits_of(tmp_path / "a", model) - meant).abs().max() <= TOLERANCE * 10  # two decompositions in float32


@pytest.mark.parametrize("is_rslora", [False, True])
def test_a_copy_without_patterns_answers_as_the_adapter_does(model, tmp_path, is_rslora):
    ranks = {name: 2 if ".mlp." in name else 7 for name in BASE.modules if name != "lm_head"}
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 7, "lora_alpha": 5, "use_rslora": is_rslora,
        "target_modules": LEAVES, "rank_pattern": {r".*\.mlp\.\w+": 2}, "alpha_pattern": {"q_proj": 32},
    }  # fmt: skip
    folder = write(tmp_path / "a", config, tensors_of(ranks))
    accept_adapter(folder, BASE, AdapterLimits())
    (tmp_path / "a").chmod(0o755)
    copied = uniform_folder(folder)
    assert copied != folder
    assert uniform_folder(folder) == copied
    assert not any(json.loads((copied / CONFIG_NAME).read_text())[key] for key in ("rank_pattern", "alpha_pattern"))
    assert (copied.stat().st_mode & 0o777, (copied / WEIGHTS_NAME).stat().st_mode) == (
        0o755,
        (folder / WEIGHTS_NAME).stat().st_mode,
    )
    assert (logits_of(copied, model) - logits_of(folder, model)).abs().max() <= TOLERANCE


def test_an_adapter_of_one_rank_needs_no_copy(tmp_path):
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    folder = write(tmp_path, config, tensors_of({name: 2 for name in BASE.modules if "q_proj" in name}))
    assert uniform_folder(folder) == folder
