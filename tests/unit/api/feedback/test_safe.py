"""What may train unseen: nothing that one key alone could have planted."""

from collections import Counter

from services.api.feedback.safe import safe_rows
from shared.contracts.rows import Row, RowSource


def row(number, *keys, label="fin.sa", reviewed=True, agreed=0):
    source = RowSource(job=f"job_{number:03}", said_by=keys, at=f"{number:03}", reviewed=reviewed, agreed=agreed)
    return source, Row(input=f"text {number}", label=label)


def jobs(found):
    return [source.job for source, _ in found]


def test_a_row_needs_a_reviewer_or_two_keys_that_agree():
    found = [row(1, "a", reviewed=False, agreed=1), row(2, "a", "b", reviewed=False, agreed=2), row(3, "r")]
    assert jobs(safe_rows(found, {"fin.sa": 100})) == ["job_002", "job_003"]
    assert safe_rows([row(4, "r", label="")], {"": 100}) == []


def test_one_key_gives_a_fifth_of_a_labels_rows_at_most_and_its_oldest_stay():
    found = safe_rows([row(number, "a") for number in range(500)], {"fin.sa": 100})
    assert jobs(found) == [f"job_{number:03}" for number in range(25)]
    assert 25 / (100 + 25) == 0.2


def test_many_keys_fill_a_new_label_and_one_or_four_keys_none():
    five = [row(number, f"key {number % 5}") for number in range(50)]
    assert len(safe_rows(five, {})) == 50
    four = [row(number, f"key {number % 4}") for number in range(50)]
    assert safe_rows(four, {}) == []
    assert safe_rows([row(number, "a") for number in range(50)], {}) == []


def test_a_row_counts_for_each_key_that_said_it_and_each_label_by_itself():
    flood = [row(number, "a", "b", reviewed=False, agreed=2) for number in range(60)]
    others = [row(100 + number, f"k{number}", label="fin.ha") for number in range(9)]
    found = safe_rows([*flood, *others], {"fin.sa": 40})
    by_label = Counter(kept.label for _, kept in found)
    assert by_label == {"fin.sa": 10, "fin.ha": 9}


def test_no_key_is_above_its_share_whoever_says_what_together():
    found = [row(number, f"k{number % 3}", f"m{number % 7}") for number in range(200)]
    kept = safe_rows(found, {"fin.sa": 50})
    counts = Counter(key for source, _ in kept for key in source.said_by)
    assert kept
    assert max(counts.values()) <= 0.2 * (50 + len(kept))
