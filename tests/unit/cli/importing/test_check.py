"""How adapters look before they are uploaded."""

import json

import pytest

from services.cli.importing.check import Base, Looked, look_at
from services.cli.importing.entries import Entry
from services.cli.main import main
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, AdapterLimits
from tests.support.adapter_samples import BASE, CONFIG, GOOD, lora_tensors, safetensors

HERE = Base("pin", BASE)


def adapter(folder, config=CONFIG, weights=GOOD[WEIGHTS_NAME]):
    folder.mkdir(parents=True)
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    if weights:
        (folder / WEIGHTS_NAME).write_bytes(weights)
    return Entry("a.b", folder)


def test_an_adapter_shows_its_rank_its_base_and_what_an_upload_would_note(tmp_path):
    entry = adapter(tmp_path / "a", {**CONFIG, "auto_mapping": {"x": 1}})
    dropped = "auto_mapping is dropped: it names a class that is never imported here"
    for base in (HERE, None):
        assert look_at(entry, base, AdapterLimits()) == Looked(2, "base", (dropped,))


def test_tensors_are_compared_with_the_base_model_that_an_adapter_is_for(tmp_path):
    entry = adapter(tmp_path / "a", weights=safetensors(lora_tensors(rank=3)))
    assert "lora_A" in look_at(entry, HERE, AdapterLimits()).problem
    assert look_at(entry, None, AdapterLimits()).problem == ""
    assert look_at(entry._replace(base_model="other"), HERE, AdapterLimits()).problem == ""


@pytest.mark.parametrize(
    ("config", "weights", "says"),
    [
        (CONFIG, None, "lacks adapter_model.safetensors"),
        ({**CONFIG, "peft_type": "IA3"}, b"x", "no other method of PEFT is served"),
        (CONFIG, b"x" * (2 << 20), "unpacks to more than"),
    ],
)
def test_a_problem_is_told_with_or_without_the_base_model(tmp_path, config, weights, says):
    entry = adapter(tmp_path / "a", config, weights)
    for base in (HERE, None):
        assert says in look_at(entry, base, AdapterLimits(max_bytes=1 << 20)).problem


def test_a_dry_run_asks_no_system_and_fails_where_an_adapter_has_a_problem(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SIGNALBOX_API_URL", "http://127.0.0.1:1")
    adapter(tmp_path / "all" / "Support Bot")

    def run(*words):
        monkeypatch.setattr("sys.argv", ["signalbox", "adapters", "import", str(tmp_path / "all"), "--dry-run", *words])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    status, out, err = run()
    assert (status, "support-bot\t2\tbase\t-" in out, "is not on this machine" in err) == (0, True, True)
    adapter(tmp_path / "all" / "later", weights=None), adapter(tmp_path / "all" / "None")
    status, out, _ = run("--json")
    assert status == 1
    problems = {row["label"]: row["problem"] for row in json.loads(out)}
    assert {label: bool(problem) for label, problem in problems.items()} == {
        "support-bot": False,
        "later": True,
        None: True,
    }
    assert "no label can be proposed for" in problems[None]
