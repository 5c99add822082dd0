from tests.unit.model.conftest import real_folder, real_tokenizer, tiny_folder, tiny_model, tiny_tokenizer

__all__ = ["real_folder", "real_tokenizer", "tiny_folder", "tiny_model", "tiny_tokenizer"]
