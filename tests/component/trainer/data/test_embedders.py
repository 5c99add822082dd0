from pathlib import Path

import numpy as np
import pytest
import torch

from services.trainer.data.embedders import embedder
from shared.contracts.training_settings import RepresentationSettings
from shared.errors import Cancelled, Invalid
from shared.model import text_vectors
from shared.model.features import EmbeddingTable
from shared.model.text_vectors import mean_states
from shared.model.tokens import encode_text
from tests.support.tiny_encoder import ENCODER, save_tiny_encoder

TEXTS = ["a longer text than the others are", "ab", "", "xyz", "ab"]


def made(folder, tokenizer, check=lambda: None, **settings):
    return embedder(RepresentationSettings(**settings), folder, tokenizer, check=check)


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_the_embedding_layer_needs_no_model(tiny_folder, tiny_tokenizer, pooling):
    table = EmbeddingTable.from_folder(tiny_folder)

    found = made(tiny_folder, tiny_tokenizer, pooling=pooling)(TEXTS)

    np.testing.assert_array_equal(found, table.vectors([encode_text(tiny_tokenizer, t) for t in TEXTS], pooling))


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_hidden_states_are_the_mean_of_a_texts_own_tokens(tiny_folder, tiny_tokenizer, tiny_model, monkeypatch, layer):
    monkeypatch.setattr(text_vectors, "BATCH_TOKENS", 24)  # so that there are several batches, one with padding

    found = made(tiny_folder, tiny_tokenizer, embedder="hidden-state", hidden_layer=layer)(TEXTS)

    assert found.dtype == np.float32
    assert not found[2].any()
    for row in (0, 1, 3, 4):
        ids = torch.tensor([encode_text(tiny_tokenizer, TEXTS[row])])
        states = tiny_model(ids, output_hidden_states=True).hidden_states[layer][0]
        np.testing.assert_allclose(found[row], states.mean(0).numpy(), rtol=1e-4, atol=1e-5)


def test_a_text_longer_than_the_context_is_cut(tiny_folder, tiny_tokenizer):
    embed = made(tiny_folder, tiny_tokenizer, embedder="hidden-state", max_tokens=10)

    one, other, longest = embed(["abcdefghij", "abcdefghij and more", "abcdefghij" * 500])

    np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(one, longest, atol=1e-6)
    too_long = made(tiny_folder, tiny_tokenizer, embedder="hidden-state", max_tokens=32_768)
    assert too_long(["abc" * 2000]).shape == (1, 32)  # the tiny model has 1,024 positions


def test_a_job_that_is_stopped_ends_before_the_next_batch(tiny_folder, tiny_tokenizer):
    def stop():
        raise Cancelled("stopped", "the job was stopped")

    with pytest.raises(Cancelled):
        made(tiny_folder, tiny_tokenizer, stop, embedder="hidden-state")(TEXTS)


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_the_model_has_not_is_named(tiny_folder, tiny_tokenizer, layer):
    with pytest.raises(Invalid, match=f"the hidden states 0 to 2, not {layer}"):
        made(tiny_folder, tiny_tokenizer, embedder="hidden-state", hidden_layer=layer)


@pytest.mark.parametrize("folder", [None, "empty"])
def test_a_trainer_without_an_encoder_says_how_to_give_it_one(tiny_folder, tiny_tokenizer, tmp_path, folder):
    folder = tmp_path / folder if folder else None
    selection = RepresentationSettings(embedder="sentence-transformers")

    with pytest.raises(Invalid, match="set SIGNALBOX_ENCODER"):
        embedder(selection, tiny_folder, tiny_tokenizer, encoder_folder=folder)


@pytest.fixture
def encoder_folder(tmp_path):
    return save_tiny_encoder(tmp_path)


def sentence_embedder(folder, **settings):
    selection = RepresentationSettings(embedder="sentence-transformers", **settings)
    return embedder(selection, Path(), None, encoder_folder=folder)


def test_an_encoder_takes_the_mean_and_does_what_its_modules_say(encoder_folder):
    found = sentence_embedder(encoder_folder)(["abc", "a much longer text of words", "abc"])

    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    assert abs(found[0] @ found[1]) < 0.999
    (encoder_folder / "modules.json").unlink()
    assert np.abs(np.linalg.norm(sentence_embedder(encoder_folder)(["abc"]), axis=1) - 1) > 1e-3


def test_a_text_longer_than_an_encoder_reads_is_cut(encoder_folder):
    embed = sentence_embedder(encoder_folder)

    np.testing.assert_allclose(*embed(["a " * 62, "a " * 500]), atol=1e-6)


@pytest.mark.parametrize("file", ["modules.json", "1_Pooling/config.json", "config.json"])
def test_an_encoder_of_another_kind_is_refused(encoder_folder, file):
    other = {
        "modules.json": '[{"type": "sentence_transformers.models.Dense"}]',
        "1_Pooling/config.json": '{"pooling_mode_mean_tokens": false}',
        "config.json": '{"model_type": "none such"}',
    }
    (encoder_folder / file).write_text(other[file])

    with pytest.raises(Invalid) as caught:
        sentence_embedder(encoder_folder)
    assert caught.value.code == "encoder_invalid"


@pytest.mark.skipif(not ENCODER, reason="SIGNALBOX_TEST_ENCODER names no sentence encoder")
def test_a_real_encoder_puts_like_texts_together():
    one, like, other = sentence_embedder(Path(ENCODER))(
        ["My credit card was stolen.", "Somebody took my bank card.", "The court dismissed the appeal."]
    )
    assert one @ like > 0.5 > 0.2 > one @ other


def test_no_texts_give_no_vectors(tiny_model):
    assert mean_states(tiny_model.base_model, [], -1).shape == (0, 32)


def test_hidden_states_may_leave_out_a_texts_first_token(tiny_folder, tiny_tokenizer):
    with_first, without = (
        text_vectors.hidden_states(tiny_folder, tiny_tokenizer, 1, 64, without_first=option)(["xa", "a"])
        for option in (False, True)
    )
    states = text_vectors.hidden_states(tiny_folder, tiny_tokenizer, 0, 64, without_first=True)(["xa", "ya"])
    np.testing.assert_allclose(states[0], states[1], atol=1e-6)  # layer 0 knows nothing of the token before
    assert np.abs(with_first[0] - without[0]).max() > 1e-4
    np.testing.assert_allclose(with_first[1], without[1], atol=1e-6)
