"""Labels and names."""

import pytest

from shared.contracts.labels import Label, check_name, parse_label
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
