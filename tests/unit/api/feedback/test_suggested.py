"""Which trainings a version of the data set feedback suggests."""

import pytest

from services.api.feedback.service import counted, suggested
from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.rows import Row, RowSource
from tests.support.api import make_release


def version(**counts):
    """A version with so many rows of each label; of a label that ends with `+`, rows with answers."""
    pairs = []
    for name, count in counts.items():
        label = name.rstrip("+").replace("__", ".")
        row = Row(input="x", label=label, output="y" if name.endswith("+") else "")
        pairs += [(RowSource(job="job_1", said_by=("key_1",), at="2026-01-01"), row)] * count
    manifest = DatasetManifest(tenant_id="t", id="ds_1", name="feedback", rows=len(pairs), labels={}, size_bytes=1)
    return counted(pairs, manifest)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"fin__sa": 1}, []),
        ({"fin__sa": 2}, [{"kind": "selector.balance", "labels": {"fin.sa": "ds_1"}}]),
        ({"law__ie": 3}, []),
        ({"law__ie": 4}, [{"kind": "selector.add", "labels": {"law.ie": "ds_1"}, "missing_adapters": "allow"}]),
        ({"fin__sa+": 4}, ["selector.balance", {"kind": "adapter.train", "label": "fin.sa", "dataset": "ds_1"}]),
        ({"none__none": 9}, []),
    ],
)
def test_each_training_is_suggested_where_it_has_rows_enough(counts, expected):
    found = suggested(version(**counts), make_release())
    assert [
        body["kind"] if isinstance(wanted, str) else body for body, wanted in zip(found, expected, strict=True)
    ] == expected


def test_rows_of_no_label_are_background_of_new_ones():
    [add] = suggested(version(law__ie=4, none__none=4), make_release())
    assert add["background"] == "ds_1"


def test_without_a_selector_only_adapters_are_suggested():
    counts = {"fin__sa+": 4, "law__ie": 9}
    for release in (None, make_release(selector=False)):
        assert [body["kind"] for body in suggested(version(**counts), release)] == ["adapter.train"]


def test_rows_are_counted_with_who_said_them_and_when():
    found = version(**{"fin__sa+": 2, "fin__ha": 1})
    assert (found.rows, found.labels, found.answers) == (3, {"fin.sa": 2, "fin.ha": 1}, {"fin.sa": 2})
    assert (found.said_by, found.first_at, found.last_at) == (["key_1"], "2026-01-01", "2026-01-01")
