"""What an import is of: folders and tables, with the labels that are named or proposed."""

import pytest

from services.cli.importing.entries import Entry, read_entries
from shared.errors import Invalid


def peft(folder, name="adapter_config.json"):
    folder.mkdir(parents=True)
    (folder / name).write_text("{}")
    return folder


def table(folder, *lines, encoding="utf-8"):
    file = folder / "adapters.tsv"
    file.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
    return file


def refusal(*sources):
    with pytest.raises(Invalid) as caught:
        read_entries(sources)
    return caught.value.detail


def test_a_folder_of_folders_is_one_adapter_for_each_and_what_is_none_is_left(tmp_path):
    for name in ("Support Bot v2", "bank.cards", "no-weights-yet/checkpoint-1"):
        peft(tmp_path / "all" / name)
    peft(tmp_path / "all" / ".trash")
    (tmp_path / "all" / "logs").mkdir()
    (tmp_path / "all" / "README.md").write_text("x")
    found = {entry.label: entry.folder.name for entry in read_entries([tmp_path / "all"])}
    assert found == {"support-bot-v2": "Support Bot v2", "bank.cards": "bank.cards", "no-weights-yet": "no-weights-yet"}
    assert read_entries([tmp_path / "all" / "bank.cards"], "plain", "abc") == [
        Entry("bank.cards", tmp_path / "all" / "bank.cards", template="plain", base_model="abc")
    ]


def test_a_hub_caches_folder_has_its_models_label_by_each_way_to_it(tmp_path):
    cached = tmp_path / "models--Org--Bank-Cards"
    snapshot = peft(cached / "snapshots" / ("0" * 40))
    peft(cached / "refs", "main")
    for source in (tmp_path, cached, snapshot):
        assert [entry.label for entry in read_entries([source])] == ["bank-cards"], source
    (tmp_path / "Cards").symlink_to(snapshot)
    assert read_entries([tmp_path / "Cards"]) == [Entry("cards", snapshot)]


def test_folders_are_listed_as_people_count(tmp_path):
    for name in ("skill-10", "skill-2", "skill-02", "Skill-3", "skill", "7"):
        peft(tmp_path / "all" / name)
    found = [entry.folder.name for entry in read_entries([tmp_path / "all"])]
    assert found == ["7", "Skill-3", "skill", "skill-02", "skill-2", "skill-10"]


def test_folders_that_propose_no_label_stand_in_the_list_without_one_and_are_no_two_of_one_label(tmp_path):
    for name in ("None", "b", "___"):
        peft(tmp_path / "all" / name)
    assert [entry.label for entry in read_entries([tmp_path / "all"])] == ["", "", "b"]


def test_the_same_folder_twice_is_one_and_two_of_one_label_are_named(tmp_path):
    one, other = peft(tmp_path / "x" / "Support Bot"), peft(tmp_path / "y" / "support-bot")
    assert len(read_entries([one, one, tmp_path / "x"])) == 1
    said = refusal(tmp_path / "x", tmp_path / "y")
    assert f"{one} and {other} (support-bot)" in said
    assert "apart in a table" in said
    file = table(tmp_path, "folder\ttemplate", "y/support-bot\tplain", "y/support-bot\tllama3")
    assert f"{other} and {other} (support-bot)" in refusal(file)


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ((), "is no PEFT folder and holds none"),
        (("checkpoint-1", "checkpoint-20"), "holds checkpoints of one training: name one of them"),
    ],
)
def test_a_folder_that_is_no_import_says_what_to_name_instead(tmp_path, inside, says):
    (tmp_path / "all").mkdir()
    for name in inside:
        peft(tmp_path / "all" / name)
    assert says in refusal(tmp_path / "all")


def test_a_table_names_labels_and_what_belongs_to_them(tmp_path):
    peft(tmp_path / "a"), peft(tmp_path / "b c")
    file = table(
        tmp_path,
        "folder\tlabel\tinstruction\ttemplate\tgroup",
        'a\tdefault.support\t"Say ""please""."\tllama3\t',
        "",
        "b c\t\t\t\tbank",
        encoding="utf-8-sig",
    )
    assert read_entries([file], "plain") == [
        Entry("support", tmp_path / "a", instruction='Say "please".', template="llama3"),
        Entry("b-c", tmp_path / "b c", template="plain", group="bank"),
    ]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((), "line 1: the columns (none) are not taken; name folder"),
        (("label\tpath",), "line 1: the columns label, path are not taken"),
        (("folder\tfolder",), "each once"),
        (("folder",), "it has no line under its header"),
        (("folder\tlabel", "a\tSupport Bot"), "line 2: 'Support Bot' is not a label"),
        (("folder\tlabel", "a\tSupport Bot"), "such as support-bot"),
        (("folder\tlabel", "a\tx", "a\tbase", "b\ty", "a\tz\t1"), "line 3: 'base' is not a label"),
        (("folder\tlabel", "a\tx", "a\tbase", "b\ty", "a\tz\t1"), "line 4: "),
        (("folder\tlabel", "a\tx", "a\tbase", "b\ty", "a\tz\t1"), "line 5: it has more cells than the header"),
        (("folder\tlabel", "\tx"), "line 2: "),
        (("folder\tlabel", "None\t", "a\t"), "line 2: no label can be proposed for"),
        (("folder\tgroup", "a\tBank X"), "line 2: 'Bank X' is not a group name"),
        (("folder\tlabel", "a\t\udcff"), "is no table in UTF-8"),
    ],
)
def test_what_is_wrong_in_a_table_is_told_by_line(tmp_path, lines, says):
    peft(tmp_path / "a"), peft(tmp_path / "None")
    file = tmp_path / "adapters.tsv"
    file.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
    assert says in refusal(file)
