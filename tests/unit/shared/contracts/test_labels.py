"""Labels and names."""

import pytest

from shared.contracts.labels import Label, check_name, parse_label, proposed_label
from shared.errors import Invalid


def test_a_label_is_two_names_and_a_dot():
    assert parse_label("fin.head_line") == Label("fin", "head_line")
    assert str(Label("fin", "sa")) == "fin.sa"


@pytest.mark.parametrize(
    "text",
    ["", "fin", "fin.", ".sa", "fin.sa.x", "Fin.sa", "fin/sa.x", "fin.s a", "x" * 33 + ".a", "fin.sa\n", "fin\n.sa"],
)
def test_what_is_no_label_is_refused(text):
    with pytest.raises(Invalid) as refusal:
        parse_label(text)
    assert refusal.value.code == "label_malformed"


@pytest.mark.parametrize("text", ["../etc", "default\n"])
def test_a_name_is_told_what_it_is_wrong_for(text):
    assert check_name("default", "tenant") == "default"
    with pytest.raises(Invalid, match="tenant"):
        check_name(text, "tenant")


@pytest.mark.parametrize(
    ("written", "proposed"),
    [
        ("Bank.Cards", "bank.cards"),
        ("Bank.Überweisung", "bank.ueberweisung"),
        ("Bank / Gebühren & Zinsen", "bank.gebuehren-zinsen"),
        ("Support Bot v2", "default.support-bot-v2"),
        ("Straße", "default.strasse"),
        ("Café:Crème brûlée", "cafe.creme-brulee"),
        ("a.b.c", "a.b-c"),
        (" .cards", "default.cards"),
        ("bank.", "default.bank"),
        ("x" * 100, "default." + "x" * 32),
        ("U\u0308ber", "default.ueber"),
        ("中文", ""),
        ("...", ""),
        ("", ""),
    ],
)
def test_a_name_that_people_use_has_a_proposed_label(written, proposed):
    assert proposed_label(written) == proposed
    assert not proposed or str(parse_label(proposed)) == proposed
