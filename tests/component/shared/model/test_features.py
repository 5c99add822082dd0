import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shared.errors import Invalid
from shared.model.features import EmbeddingTable


def test_the_table_is_the_models_own_embedding(tiny_folder, tiny_model):
    table = EmbeddingTable.from_folder(tiny_folder)

    np.testing.assert_array_equal(table.table, tiny_model.get_input_embeddings().weight.numpy())


def test_the_table_reads_like_the_other_formats_from_bfloat16(tmp_path):
    weights = torch.randn(4, 3).bfloat16()
    save_file({"model.embed_tokens.weight": weights}, tmp_path / "model.safetensors")

    np.testing.assert_array_equal(EmbeddingTable.from_folder(tmp_path).table, weights.float().numpy())


def test_a_table_in_one_of_several_files_is_found_by_the_index(tmp_path):
    save_file({"lm_head.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    save_file({"transformer.wte.weight": torch.ones(2, 2)}, tmp_path / "b.safetensors")
    index = '{"weight_map": {"lm_head.weight": "a.safetensors", "transformer.wte.weight": "b.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)

    assert EmbeddingTable.from_folder(tmp_path).table.tolist() == [[1, 1], [1, 1]]


def test_a_folder_without_an_embedding_is_refused(tmp_path):
    save_file({"lm_head.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")

    with pytest.raises(Invalid, match="no input embedding"):
        EmbeddingTable.from_folder(tmp_path)


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_a_longer_neighbour_never_changes_a_vector(tiny_folder, pooling):
    table = EmbeddingTable.from_folder(tiny_folder)

    alone = table.vectors([[5, 6]], pooling)
    beside = table.vectors([[5, 6], [7] * 300], pooling)

    np.testing.assert_array_equal(alone[0], beside[0])


def test_vectors_pool_the_rows_of_the_table():
    table = EmbeddingTable(np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32))

    assert table.vectors([[0, 2, 2], [1]], "sum").tolist() == [[11, 14], [3, 4]]
    assert table.vectors([[0, 2], [1]], "mean").tolist() == [[3, 4], [3, 4]]
    assert table.vectors([[]], "mean").tolist() == [[0, 0]]
    assert table.vectors([]).shape == (0, 2)
    assert table.vectors([[0]]).dtype == np.float32
