"""Labels and names."""

import pytest

from shared.contracts.labels import (
    Label,
    check_adapter_label,
    check_name,
    full_form,
    parse_label,
    proposed_label,
    short_form,
)
from shared.errors import Invalid


def test_a_label_is_two_names_and_a_dot():
    assert parse_label("fin.head_line") == Label("fin", "head_line")
    assert str(Label("fin", "sa")) == "fin.sa"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fin.",
        ".sa",
        "fin.sa.x",
        "default.fin.sa",
        "Fin",
        "Fin.sa",
        "fin/sa.x",
        "fin.s a",
        "x" * 33,
        "fin.sa\n",
        "fin\n.sa",
    ],
)
def test_what_is_no_label_is_refused(text):
    with pytest.raises(Invalid) as refusal:
        parse_label(text)
    assert refusal.value.code == "label_malformed"


@pytest.mark.parametrize("text", ["support", "default.support"])
def test_one_word_is_a_label_of_the_default_domain_and_shown_without_it(text):
    assert parse_label(text) == Label("default", "support")
    assert str(parse_label(text)) == check_adapter_label(text) == short_form(text) == "support"
    assert full_form(text) == "default.support"


@pytest.mark.parametrize("word", ["base", "auto", "none", "default", "null", "nan", "0123456789abcdef"])
def test_a_word_that_stands_for_something_else_is_a_label_with_its_domain_alone(word):
    with pytest.raises(Invalid) as refusal:
        parse_label(word)
    assert refusal.value.code == "label_reserved"
    assert f"write domain.{word}" in refusal.value.detail
    assert str(parse_label(f"default.{word}")) == short_form(f"default.{word}") == f"default.{word}"
    assert proposed_label(word.upper()) == ""


@pytest.mark.parametrize("text", ["bank.cards", "bank.cards@2", "default.a.b", "default.base@1", "none.none", ""])
def test_what_has_no_shorter_form_stays(text):
    assert short_form(text) == full_form(text) == text


def test_a_version_of_a_label_has_both_forms():
    assert short_form("default.support@3") == "support@3"
    assert full_form("support@3") == "default.support@3"


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
        ("Support Bot v2", "support-bot-v2"),
        ("Straße", "strasse"),
        ("Café:Crème brûlée", "cafe.creme-brulee"),
        ("a.b.c", "a.b-c"),
        (" .cards", "cards"),
        ("bank.", "bank"),
        ("x" * 100, "x" * 32),
        ("U\u0308ber", "ueber"),
        ("中文", ""),
        ("default/Support", "support"),
        ("...", ""),
        ("", ""),
    ],
)
def test_a_name_that_people_use_has_a_proposed_label(written, proposed):
    assert proposed_label(written) == proposed
    assert not proposed or str(parse_label(proposed)) == proposed
