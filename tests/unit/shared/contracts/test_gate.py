from shared.contracts.gate import judge, largest_loss, losses


def test_a_first_release_passes_when_each_label_reaches_the_mark():
    assert judge(None, {"fin.sa": 0.8, "fin.ha": 1.0}).passed


def test_a_first_release_fails_for_one_weak_label_and_names_it():
    verdict = judge(None, {"fin.sa": 0.79, "fin.ha": 1.0})

    assert not verdict.passed
    assert verdict.sentences == ["The new label fin.sa reaches 0.790 on validation; 0.800 is needed."]


def test_a_kept_label_may_lose_one_point_and_no_more():
    assert judge({"fin.sa": 0.95}, {"fin.sa": 0.94}).passed
    verdict = judge({"fin.sa": 0.95}, {"fin.sa": 0.93})

    assert not verdict.passed
    assert verdict.sentences == ["The kept label fin.sa falls from 0.950 to 0.930 on validation: 2.0 points lost."]


def test_a_kept_label_below_the_mark_of_new_ones_may_stay_there():
    assert judge({"fin.sa": 0.6}, {"fin.sa": 0.6}).passed


def test_a_deleted_label_is_not_held_against_the_candidate():
    assert judge({"fin.sa": 0.9, "fin.ha": 0.9}, {"fin.sa": 0.9}).passed


def test_a_label_that_goes_without_being_dropped_by_name_is_a_loss():
    verdict = judge({"fin.sa": 0.9, "fin.ha": 0.9}, {"fin.sa": 0.9}, lost={"fin.ha"})

    assert not verdict.passed
    assert verdict.sentences[0].startswith("The label fin.ha of the release before is gone")


def test_background_is_not_a_label_to_keep():
    assert judge({"none.none": 1.0, "fin.sa": 0.9}, {"none.none": 0.5, "fin.sa": 0.9}).passed
    assert not judge(None, {"none.none": 1.0}).passed


def test_every_fault_is_told():
    assert len(judge({"fin.sa": 0.9}, {"fin.sa": 0.5, "fin.ha": 0.5}).sentences) == 2


def test_the_largest_loss_is_that_of_a_kept_label():
    before = {"fin.sa": 0.9, "fin.ha": 0.8, "med.qa": 1.0, "none.none": 1.0}
    loss = largest_loss(before, {"fin.sa": 0.89, "fin.ha": 0.9, "law.mc": 0.1, "none.none": 0.0})

    assert (loss.label, round(loss.accuracy, 6)) == ("fin.sa", 0.01)
    assert largest_loss(None, before) == ("", 0.0)


def test_a_new_label_with_few_rows_fails_where_even_the_best_that_they_allow_is_under_the_mark():
    few = {"fin.sa": 2 / 3, "fin.ha": 0.0}
    verdict = judge(None, few, min_accuracy=0.8, at_best={"fin.sa": 0.94, "fin.ha": 0.56})
    assert verdict.sentences == ["The new label fin.ha reaches 0.000 on validation; 0.800 is needed."]
    kept = judge({"fin.sa": 1.0}, few, min_accuracy=0.8, at_best={"fin.sa": 0.94, "fin.ha": 0.9})
    assert [sentence.split(" falls")[0] for sentence in kept.sentences] == ["The kept label fin.sa"]


def test_labels_without_rows_pass_and_the_verdict_says_that_they_were_not_measured():
    assert judge(None, {}, unmeasured={"fin.sa", "fin.ha"}) == (
        True,
        ["0 kept labels hold and 0 new labels reach the mark.", "2 labels have no rows to be measured on."],
    )


def test_a_label_of_few_rows_may_lose_one_of_them():
    rows = {"fin.sa": 10, "fin.ha": 90}
    before, one_less = {"fin.sa": 1.0, "fin.ha": 0.9}, {"fin.sa": 0.9, "fin.ha": 0.9}
    assert judge(before, one_less, rows=rows).passed
    assert not judge(before, one_less).passed  # nobody says how many rows it has
    assert not judge(before, {"fin.sa": 0.8, "fin.ha": 0.92}, rows=rows).passed
    assert not judge(before, one_less, rows=rows, max_loss=0).passed


def test_all_labels_together_may_not_lose_more_though_each_loses_one_row():
    labels = [f"fin.l{number}" for number in range(10)]
    rows, before = dict.fromkeys(labels, 20), dict.fromkeys(labels, 1.0)
    assert losses(before, before | dict.fromkeys(labels[:2], 0.95), 0.01, rows) == []
    verdict = judge(before, before | dict.fromkeys(labels[:3], 0.95), rows=rows)
    assert verdict.sentences == ["The 10 kept labels together fall from 1.000 to 0.985 on validation: 1.5 points lost."]


def test_one_row_of_two_small_labels_is_more_than_they_may_lose_together():
    assert not judge(
        {"fin.sa": 1.0, "fin.ha": 1.0}, {"fin.sa": 0.9, "fin.ha": 1.0}, rows={"fin.sa": 10, "fin.ha": 10}
    ).passed
