"""The labels file: what is taken, and what each mistake in it gets."""

import pytest

from services.cli.labels_file import MAX_BYTES, read_labels
from shared.errors import Invalid

TWO = """
labels:
  - label: bank.cards
    adapter: bank.cards@2
    description: Lost, stolen and declined cards.
    examples: [my card was declined, my card was declined, where is my card]
  - label: bank.loans
    examples: [how much can I borrow]
background: [hello]
ambiguous: choices
"""


@pytest.fixture
def read(tmp_path):
    def of(text):
        (tmp_path / "labels.yaml").write_text(text)
        return read_labels(tmp_path / "labels.yaml")

    return of


def test_a_labels_file_says_adapters_descriptions_and_examples(read):
    found = read(TWO)
    assert [entry.label for entry in found.labels] == ["bank.cards", "bank.loans"]
    assert (found.labels[0].adapter, found.labels[1].adapter) == ("bank.cards@2", "")
    assert found.rows == [
        {"input": "my card was declined", "label": "bank.cards"},
        {"input": "where is my card", "label": "bank.cards"},
        {"input": "how much can I borrow", "label": "bank.loans"},
    ]
    assert (found.background, found.ambiguous) == (("hello",), "choices")


def test_a_label_may_name_its_template_its_instruction_and_its_group(read):
    found = read(
        TWO.replace("  - label: bank.loans\n", "  - label: bank.loans\n    template: alpaca\n    group: fin\n")
    )
    assert [(e.template, e.instruction, e.group) for e in found.labels] == [("", "", None), ("alpaca", "", "fin")]
    said = read("- {label: a.b, description: x, instruction: ' Be brief. '}\n- {label: a.c, description: y}")
    assert said.labels[0].instruction == "Be brief."


def test_labels_may_be_a_list_or_a_mapping_of_descriptions(read):
    by_list = read("- {label: a.b, description: one}\n- {label: a.c, description: two}")
    by_name = read("labels: {a.b: one, a.c: {description: two}}")
    assert by_list == by_name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("labels: [", "is not YAML"),
        ("hello", "has no labels; write `labels:`"),
        ("", "has no labels"),
        (
            "labels:\n  - label: bank.cards\n    exmples: [a]\n",
            r"\(bank.cards\) exmples: no such field; known are label, adapter",
        ),
        (
            "labels: [{label: a.b, description: x}]\nbackgroud: [a]\n",
            "backgroud: no such field; known are labels, background",
        ),
        ("[a.b, a.c]", "label 1: write its fields: label, adapter, description"),
        ("labels:\n  - label: bank.cards\n    examples: a\n", r"label 1 \(bank.cards\) examples: Input should be"),
        ("labels:\n  - label: bank.cards\n    examples: [' ']\n", r"label 1 \(bank.cards\) examples 0: String should"),
        ("- {label: Cards, description: x}\n- {label: a.b, description: x}", "label 1: 'Cards' is not a label"),
        ("- {label: a.b, description: x}\n- {label: a.b, description: y}", "a.b stands at label 1 and at label 2"),
        ("labels: {a.b: x, a.b: y}", "a.b stands here twice"),
        ("- {label: a.b}\n- {label: a.c, description: x}", "a.b has neither a description nor examples"),
        ("- {label: a.b, description: x}", "one label alone needs no selector"),
        ("a: &a {b: c}\nlabels: {<<: *a}", "<< merges mappings"),
        ("labels: " + "[" * 5000, "labels.yaml is not YAML"),
        (
            "- {label: a.b, description: x}\n- {label: none.none, description: y}",
            "label 2: 'none.none' stands",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(read, text, says):
    with pytest.raises(Invalid, match=says):
        read(text)


def test_more_labels_than_a_selector_takes_are_refused_by_number(read):
    with pytest.raises(Invalid, match="names 10,000 labels, and one selector takes 1,000: join labels"):
        read("\n".join(f"- {{label: a.b{number}, description: x}}" for number in range(10_000)))


def test_a_file_of_another_encoding_is_told_which_one_to_save_it_in(tmp_path):
    (tmp_path / "labels.yaml").write_text("- {label: a.b, description: Überweisung}", "latin-1")
    with pytest.raises(Invalid, match="is not UTF-8: save it as UTF-8"):
        read_labels(tmp_path / "labels.yaml")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "labels.yaml").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(Invalid, match="upload the examples as a data set"):
        read_labels(tmp_path / "labels.yaml")
