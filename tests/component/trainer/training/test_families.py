"""Every model family: an adapter that PEFT makes is accepted, a selector reads it as it reads itself, a step trains."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from services.trainer.data.examples import InstructionRow, SelectorRow
from services.trainer.training.lora import train_adapter, train_selector
from shared.adapter_files import AdapterLimits, BaseShapes, accept_adapter, check_adapter
from shared.contracts.labels import Label
from shared.contracts.prompts import selector_answer, selector_prompt
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid
from shared.model.base import load_model
from shared.model.families import FAMILIES
from shared.model.head import HeadScorer, head_ids, load_classifier
from shared.model.scoring import LabelScorer
from shared.model.text_vectors import hidden_states
from shared.model.tokens import encode, encode_text, end_id
from tests.support import families

SHORT = ("gemma3_text", "mistral", "phi3")
"""A window in some layers, a window in all of them, and layers that are fused."""
LABELS = [Label("bank", "cards"), Label("bank", "card"), Label("travel", "trips")]
TEXTS = ["where is my card", "b", "a much longer text about a flight, a hotel and a lost bag on the way to Rome"]
SETTINGS = LoraSettings(rank=4, epochs=1, batch_size=4, max_length=400, target_modules="all-linear")
ROWS = [InstructionRow("Echo.", f"word {number}", "odd" if number % 2 else "even") for number in range(4)]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in SHORT else pytest.mark.slow) for name in families.OPTIONS],
)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tiny_tokenizer, tmp_path_factory):
    return families.save_family(tmp_path_factory.mktemp(family) / "base", family, tiny_tokenizer)


def alone(model, tokenizer, text):
    """Each label in a forward pass of its own, and at each of its tokens a softmax over what other labels could say."""
    answers = [[*encode_text(tokenizer, selector_answer(label)), end_id(tokenizer)] for label in LABELS]
    prompt = encode(tokenizer, selector_prompt(text, LABELS), 1000)
    scores = []
    for answer in answers:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 :]
        allowed = [sorted({o[at] for o in answers if o[:at] == answer[:at]}) for at in range(len(answer))]
        scores.append(
            sum(
                logits[at, tokens].log_softmax(-1)[tokens.index(answer[at])].item() for at, tokens in enumerate(allowed)
            )
        )
    return scores


def test_a_batch_of_texts_has_the_labels_of_each_text_alone(folder, tiny_tokenizer):
    model = load_model(folder, "float32", device="cpu")
    scores = LabelScorer(model, tiny_tokenizer, LABELS, 300).score(TEXTS)
    expected = [alone(model, tiny_tokenizer, text) for text in TEXTS]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_a_head_reads_a_batch_of_texts_as_each_alone(family, folder, tiny_tokenizer):
    if not FAMILIES[family].has_head:
        with pytest.raises(Invalid, match="readout names"):
            load_classifier(folder, len(LABELS), device="cpu")
        return
    model = load_classifier(folder, len(LABELS), device="cpu")
    torch.nn.init.normal_(model.score.weight)
    scores = HeadScorer(model, tiny_tokenizer, LABELS, 100).score(TEXTS)
    with torch.inference_mode():
        ids = [torch.tensor([head_ids(tiny_tokenizer, text, 100)]) for text in TEXTS]
        expected = torch.cat([model(input_ids=row).logits for row in ids]).log_softmax(-1)
    assert np.ptp(expected.numpy()) > 0.1
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_prototypes_read_a_batch_of_texts_as_each_alone(folder, tiny_tokenizer):
    found = hidden_states(folder, tiny_tokenizer, 1, 60, without_first=True)(TEXTS)
    model = load_model(folder, "float32", device="cpu").base_model
    for vector, text in zip(found, TEXTS, strict=True):
        ids = torch.tensor([encode_text(tiny_tokenizer, text)[:60]])
        with torch.inference_mode():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states[1][0]
        np.testing.assert_allclose(vector, states[min(1, len(states) - 1) :].mean(0), atol=1e-4)


def test_what_is_trained_on_it_may_be_stored_and_served(folder, tiny_tokenizer, tmp_path):
    shapes, limits = BaseShapes.from_folder(folder), AdapterLimits()
    config = SETTINGS.model_copy(update={"target_modules": _targets(folder)})
    trained = train_adapter(folder, tiny_tokenizer, ROWS, config=config, work_dir=tmp_path)
    names = {name.rpartition(".")[2] for name in check_adapter(trained, shapes, limits).target_modules}
    assert names == set(config.target_modules)


@pytest.mark.slow
@pytest.mark.parametrize("head", [False, True], ids=["names", "head"])
def test_a_selector_trains_on_it(family, folder, tiny_tokenizer, tmp_path, head):
    if head and not FAMILIES[family].has_head:
        pytest.skip("the family has no form with a head")
    rows = [SelectorRow(f"{label.task} {number}", label) for label in LABELS for number in range(2)]
    config = SETTINGS.model_copy(update={"target_modules": _targets(folder)})
    found = train_selector(folder, tiny_tokenizer, rows, labels=LABELS, config=config, work_dir=tmp_path, head=head)
    assert (found / "adapter_model.safetensors").is_file()


def test_an_adapter_of_peft_is_accepted_as_it_is(folder, tmp_path):
    config = LoraConfig(r=4, target_modules=list(_targets(folder)), task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(load_model(folder, "float32", device="cpu"), config).save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "README.md").unlink()
    accepted = accept_adapter(tmp_path / "adapter", BaseShapes.from_folder(folder), AdapterLimits())
    assert (accepted.info.rank, accepted.notes) == (4, ())


def _targets(folder):
    """The linear layers that an adapter may change; beside experts, those of the attention."""
    names = BaseShapes.from_folder(folder).modules
    part = ".self_attn." if any(".experts." in name for name in names) else ".layers."
    return tuple(sorted({name.rpartition(".")[2] for name in names if part in name}))
