"""A composition in our engine answers as PEFT does with all its parts active."""

import copy
from itertools import combinations

import pytest
import torch
from peft import PeftModel

from services.trainer.training.compose import Part, stack
from shared.adapter_files import BaseShapes
from tests.support.engine_kit import ADAPTERS, greedy, ignore

EXACT = 1e-5
NAMES = [name for name, config in ADAPTERS.items() if not config.get("use_dora")]
PROMPT = "which law is it?"


@pytest.fixture(scope="module")
def base(kit):
    linear = {name: layer for name, layer in kit.model.named_modules() if isinstance(layer, torch.nn.Linear)}
    return BaseShapes({name: (layer.out_features, layer.in_features) for name, layer in linear.items()})


def both_active(kit, names):
    model = copy.deepcopy(kit.model)
    for number, name in enumerate(names):
        folder = str(kit.adapter(name, **ADAPTERS[name]))
        if number:
            model.load_adapter(folder, adapter_name=f"part{number}")
        else:
            model = PeftModel.from_pretrained(model, folder, adapter_name="part0")
    model.base_model.set_adapter([f"part{number}" for number in range(len(names))])
    return model.eval()


@pytest.mark.parametrize("names", [*combinations(NAMES, 2), tuple(NAMES)], ids=" + ".join)
def test_the_engines_logprobs_of_a_stack_are_those_of_all_parts_at_once(kit, base, tmp_path, names):
    parts = [Part(kit.adapter(name, **ADAPTERS[name])) for name in names]
    made = stack(parts, base, "tiny", tmp_path / "made")
    engine = kit.engine(adapter_slots=16)
    try:
        engine.load_adapter("both", made)
        request = greedy(kit, PROMPT, "both", max_new_tokens=12, logprobs=True, top_logprobs=5)
        generation = engine.generate(request, ignore)
    finally:
        engine.close()
    ids, said = kit.prompt_ids(PROMPT), list(generation.token_ids)
    with torch.inference_mode():
        logits = both_active(kit, names)(input_ids=torch.tensor([ids + said])).logits[0, len(ids) - 1 : -1]
    expected = logits.log_softmax(-1)
    assert said == expected.argmax(-1).tolist()
    for row, token, value in zip(expected, said, generation.logprobs.logprobs, strict=True):
        assert abs(row[token].item() - value) < EXACT
