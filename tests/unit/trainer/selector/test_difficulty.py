from services.trainer.selector.difficulty import sort_by_accuracy

ACCURACY = {"med.tg": 0.41, "med.ie": 0.9, "fin.sa": 0.949, "fin.ha": 0.95, "law.mc": 1.0, "none.none": 0.2}


def test_labels_are_easy_or_hard_or_in_between_and_background_is_none_of_it():
    easy, hard = sort_by_accuracy(ACCURACY, hard_below=0.9, easy_from=0.95)

    assert (easy, hard) == (["fin.ha", "law.mc"], ["med.tg"])


def test_with_one_line_for_both_every_label_is_on_one_side_of_it():
    easy, hard = sort_by_accuracy(ACCURACY, hard_below=0.95, easy_from=0.95)

    assert sorted(easy + hard) == sorted(set(ACCURACY) - {"none.none"})
    assert not set(easy) & set(hard)
