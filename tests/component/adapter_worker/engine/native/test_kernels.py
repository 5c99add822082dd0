"""How the kernels come to be there."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from services.adapter_worker.engine.native import kernels


@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
def test_of_workers_that_start_together_one_compiles(tmp_path, monkeypatch):
    source, runs, compiler = tmp_path / "small.cpp", tmp_path / "runs", tmp_path / "counted"
    source.write_text('extern "C" int one() { return 1; }\n')
    compiler.write_text(f'#!/bin/sh\necho >> {runs}\nexec {shutil.which("c++")} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setattr(kernels, "_SOURCE", source)
    file = tmp_path / "cache" / "kernels.so"

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(partial(kernels._compile, str(compiler)), [file] * 4))

    assert file.is_file()
    assert runs.read_text() == "\n"
