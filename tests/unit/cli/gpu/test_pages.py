"""How a plan is shown."""

import io
import json

import pytest
from rich.console import Console

from services.cli import output
from services.cli.gpu.pages import plan_page
from services.cli.gpu.plan import make_plan
from tests.support.gpu_plans import base, cards, needs


@pytest.fixture
def terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(output, "out", Console(file=screen, force_terminal=True, width=80))
    return screen


@pytest.mark.parametrize(
    ("groups", "there"),
    [
        (("bank", "fin", "travel"), cards(4)),
        (tuple(f"a-rather-long-domain-{n}" for n in range(60)), cards(5)),
        (tuple(f"d{n}" for n in range(40)), cards(512, 4000, each=16)),
    ],
)
def test_no_line_of_the_table_is_longer_than_a_terminal(terminal, groups, there):
    plan_page(make_plan(base(), needs(1000, groups=groups), there), "rel_0123456789abcdef", as_json=False)
    assert max(map(len, terminal.getvalue().splitlines())) <= 80


def test_what_does_not_fit_is_the_last_word(terminal):
    plan_page(make_plan(base(), needs(1, rank=600), cards(4)), "", as_json=False)
    said = " ".join(terminal.getvalue().split())
    assert said.startswith("no release yet of qwen2-7b (14.2 GiB) on 4 x 80 GiB")
    assert said.endswith("train them at a smaller rank")


def test_machines_get_the_options_of_every_server(capsys):
    plan_page(make_plan(base(), needs(40), cards(4)), "rel_1", as_json=True)
    (first, *_) = json.loads(capsys.readouterr().out)["servers"]
    assert (first["max_loras"], first["max_lora_rank"], first["max_cpu_loras"]) == (15, 16, 30)
