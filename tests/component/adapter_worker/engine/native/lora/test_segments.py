"""Rows by adapter: which slots a layer multiplies."""

from services.adapter_worker.engine.native.lora.segments import AdapterSegment, AdapterSegments, SlotRange

ONE, FOUR = SlotRange(0, 1), SlotRange(3, 4)
SEGMENTS = AdapterSegments.of([ONE, ONE, None, FOUR, ONE])


def test_neighbouring_rows_of_an_adapter_are_one_segment():
    assert SEGMENTS.all == [AdapterSegment(0, 2, ONE), AdapterSegment(3, 4, FOUR), AdapterSegment(4, 5, ONE)]


def test_a_layer_that_all_adapters_use_whole_takes_the_segments_as_they_are():
    assert SEGMENTS.among(frozenset({ONE, FOUR, SlotRange(9, 1)})) is SEGMENTS


def test_a_layer_where_an_adapters_rank_is_smaller_multiplies_the_slots_of_that_rank_alone():
    among = SEGMENTS.among(frozenset({ONE, SlotRange(3, 2)}))
    assert [segment.slots for segment in among.all] == [ONE, SlotRange(3, 2), ONE]
    assert among.table.tolist() == [[0, 2, 0, 1], [3, 4, 3, 2], [4, 5, 0, 1]]
    assert SEGMENTS.among(frozenset({ONE, SlotRange(3, 2)})) is among


def test_a_layer_that_an_adapter_does_not_change_leaves_its_rows_alone():
    assert [segment.slots for segment in SEGMENTS.among(frozenset({FOUR})).all] == [FOUR]
    assert SEGMENTS.among(frozenset()).all == []
