import pytest

from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.settings import Settings
from tests.support.tiny_model import save_tiny_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


@pytest.fixture
def tiny_model(tiny_folder):
    return load_model(tiny_folder, "float32", device="cpu")


@pytest.fixture(scope="session")
def real_folder():
    return resolve_base_model(Settings())


@pytest.fixture(scope="session")
def real_tokenizer(real_folder):
    return load_tokenizer(real_folder)
