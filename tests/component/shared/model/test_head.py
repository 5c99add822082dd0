import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from services.trainer.data.examples import SelectorRow
from services.trainer.training.loop import Callbacks
from services.trainer.training.lora import Start, carry_over, train_selector
from services.trainer.training.peft_folder import rearrange_head
from shared.contracts.labels import Label
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid
from shared.model import head
from shared.model.hardware import CARD_WIDTH
from shared.model.head import HEAD_WEIGHT, HeadScorer, has_head, head_ids, head_rows
from shared.model.merge import merged_selector
from shared.model.scoring import CheckedScorer, load_scorer

LABELS = [Label("bank", "cards"), Label("bank", "accounts"), Label("travel", "trips")]
TEXTS = [
    "where is my card",
    "b",
    "a much longer text about a flight, a hotel and a lost bag on the way to Rome",
    "trip",
]
ROWS = [
    SelectorRow(f"{word} {number}", label)
    for word, label in zip(["card", "account", "flight"], LABELS, strict=True)
    for number in range(6)
]
CONFIG = LoraSettings(rank=4, epochs=6, batch_size=4, max_length=64, dropout=0.0, learning_rate=0.02)


@pytest.fixture(scope="module")
def train(tiny_folder, tiny_tokenizer, tmp_path_factory):
    def run(labels=LABELS, rows=ROWS, config=CONFIG, **more):
        return train_selector(
            tiny_folder,
            tiny_tokenizer,
            rows,
            labels=labels,
            config=config,
            work_dir=tmp_path_factory.mktemp("head"),
            head=True,
            **more,
        )

    return run


@pytest.fixture(scope="module")
def weights(train):
    return train()


def scorer(tiny_folder, tokenizer, weights, labels=LABELS, max_tokens=64, dtype="float32"):
    return HeadScorer(merged_selector(tiny_folder, weights, dtype, device="cpu"), tokenizer, labels, max_tokens)


def test_the_head_learns_its_labels(tiny_folder, tiny_tokenizer, weights):
    scores = scorer(tiny_folder, tiny_tokenizer, weights).score([row.text for row in ROWS])

    assert [LABELS[column] for column in scores.argmax(axis=1)] == [row.label for row in ROWS]
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-5)


def test_a_pack_of_texts_scores_as_each_text_alone_does_in_transformers_own_forward_pass(
    tiny_folder, tiny_tokenizer, weights, monkeypatch
):
    monkeypatch.setattr(head, "PACKED_TOKENS", 30)  # the long text fills a pack, and others share one
    model = merged_selector(tiny_folder, weights, "float32", device="cpu")

    scores = scorer(tiny_folder, tiny_tokenizer, weights, max_tokens=60).score(TEXTS)

    ids = [torch.tensor([head_ids(tiny_tokenizer, text, 60)]) for text in TEXTS]
    with torch.inference_mode():
        expected = torch.cat([model(input_ids=row).logits for row in ids]).log_softmax(-1).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_pack_that_is_filled_up_for_a_card_scores_alike(tiny_folder, tiny_tokenizer, weights, monkeypatch):
    plain = scorer(tiny_folder, tiny_tokenizer, weights).score(TEXTS)
    monkeypatch.setattr(head, "width_step", lambda _device: CARD_WIDTH)

    for texts, expected in [(TEXTS, plain), (TEXTS[:1], plain[:1])]:
        np.testing.assert_allclose(scorer(tiny_folder, tiny_tokenizer, weights).score(texts), expected, atol=1e-5)


def test_training_reads_the_same_column_as_scoring(tiny_folder, tiny_tokenizer, weights):
    """Rows padded on the left, as the trainer sees them, against rows without padding."""
    from services.trainer.training.batches import collate
    from services.trainer.training.sequences import head_examples

    rows = [SelectorRow(text, LABELS[0]) for text in TEXTS]
    batch = collate(head_examples(tiny_tokenizer, rows, LABELS, 64))
    assert batch.pop("labels").tolist() == [[0]] * len(TEXTS)
    model = merged_selector(tiny_folder, weights, "float32", device="cpu")

    with torch.inference_mode():
        padded = model(**batch).logits.log_softmax(-1).numpy()

    np.testing.assert_allclose(padded, scorer(tiny_folder, tiny_tokenizer, weights).score(TEXTS), atol=1e-4)


def test_a_long_text_loses_its_middle_and_keeps_its_end_token(tiny_tokenizer):
    short = head_ids(tiny_tokenizer, "x" * 500, 20)

    assert len(short) == 20
    assert short[-1] == tiny_tokenizer.eos_token_id


def test_no_texts_give_no_scores(tiny_folder, tiny_tokenizer, weights):
    assert scorer(tiny_folder, tiny_tokenizer, weights).score([]).shape == (0, 3)


def test_a_head_of_other_labels_is_refused(tiny_folder, tiny_tokenizer, weights):
    with pytest.raises(Invalid, match="3 labels, the release 2"):
        scorer(tiny_folder, tiny_tokenizer, weights, LABELS[:2])


def test_the_folder_says_what_it_is(weights, tmp_path):
    assert has_head(weights)
    assert head_rows(weights) == 3
    with pytest.raises(Invalid, match="no head"):
        head_rows(tmp_path)


def test_peft_alone_loads_the_folder(tiny_folder, tiny_tokenizer, weights):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=3)
    model = PeftModel.from_pretrained(base, weights).eval()
    ids = torch.tensor([head_ids(tiny_tokenizer, "card", 64)])
    with torch.inference_mode():
        hidden = model.base_model.model.model(input_ids=ids).last_hidden_state[:, -1]
        alone = model.base_model.model.score(hidden).log_softmax(-1).numpy()

    np.testing.assert_allclose(scorer(tiny_folder, tiny_tokenizer, weights).score(["card"]), alone, atol=1e-4)


def test_a_head_is_put_in_a_new_order_and_an_unknown_label_starts_at_zero(
    tiny_folder, tiny_tokenizer, weights, tmp_path
):
    new = [LABELS[2], Label("home", "lights"), LABELS[0]]

    other = rearrange_head(weights, LABELS, new, tmp_path / "other")

    before = scorer(tiny_folder, tiny_tokenizer, weights).score(TEXTS)
    after = scorer(tiny_folder, tiny_tokenizer, other, new).score(TEXTS)
    np.testing.assert_allclose(after[:, 0] - after[:, 2], before[:, 2] - before[:, 0], atol=1e-4)


def test_a_grown_selector_goes_on_from_the_one_before(train, weights, tiny_folder, tiny_tokenizer):
    home = Label("home", "lights")
    labels = sorted([*LABELS, home])
    rows = [*ROWS, *(SelectorRow(f"lamp {number}", home) for number in range(6))]
    config = CONFIG.model_copy(update={"epochs": 3})

    grown = train(labels, rows, config, start_from=Start(weights, LABELS))

    scores = scorer(tiny_folder, tiny_tokenizer, grown, labels).score([row.text for row in rows])
    assert [labels[column] for column in scores.argmax(axis=1)] == [row.label for row in rows]


def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(train, weights, tmp_path):
    kept = Callbacks(on_checkpoint=lambda folder, step: shutil.copytree(folder, tmp_path / str(step)))
    config = CONFIG.model_copy(update={"dropout": 0.2, "checkpoint_steps": 5})
    whole = train(config=config, callbacks=kept)

    resumed = train(config=config, resume_from=tmp_path / "10")

    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, resumed))
    assert HEAD_WEIGHT in one
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_bfloat16_training_learns_too(train, tiny_folder, tiny_tokenizer):
    config = CONFIG.model_copy(update={"precision": "bfloat16"})

    scores = scorer(tiny_folder, tiny_tokenizer, train(config=config)).score([row.text for row in ROWS])

    assert np.mean([LABELS[best] == row.label for best, row in zip(scores.argmax(axis=1), ROWS, strict=True)]) > 0.8


def test_the_service_loads_either_form_by_its_folder(tiny_folder, tiny_tokenizer, weights, monkeypatch):
    monkeypatch.setattr("shared.model.scoring.computes_bfloat16", lambda _: True)

    found = load_scorer(tiny_folder, weights, tiny_tokenizer, LABELS, max_tokens=64, dtype="float32")

    assert isinstance(found, CheckedScorer)
    exact = scorer(tiny_folder, tiny_tokenizer, weights).score(TEXTS)
    np.testing.assert_allclose(found.score(TEXTS), exact, atol=0.1)


def test_a_head_carried_over_to_fewer_labels_says_of_them_what_it_said(tiny_folder, tiny_tokenizer, weights, tmp_path):
    left = [LABELS[2], LABELS[0]]
    folder = carry_over(Start(weights, LABELS), left, tmp_path / "left")

    before = scorer(tiny_folder, tiny_tokenizer, weights).score(TEXTS)[:, [2, 0]]
    after = scorer(tiny_folder, tiny_tokenizer, folder, left).score(TEXTS)
    np.testing.assert_allclose(after[:, 0] - after[:, 1], before[:, 0] - before[:, 1], atol=1e-4)
