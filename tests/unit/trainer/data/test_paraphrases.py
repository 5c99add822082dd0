import numpy as np

from services.trainer.data.paraphrases import paraphrase_warnings

VECTORS = {"card lost": (1, 0), "lost card": (0.99, 0.14), "card gone": (0.98, 0.2), "pin forgotten": (0, 1)}


def embed(texts):
    return np.array([VECTORS[text] for text in texts], dtype=np.float32)


def warned(training, validation):
    return list(paraphrase_warnings({"bank.cards": training}, {"bank.cards": validation}, embed))


def test_a_label_whose_validation_rows_repeat_its_training_rows_is_named():
    (warning,) = warned(["card lost"], ["lost card", "card gone", "pin forgotten"])
    assert warning.startswith("bank.cards: 2 of 3 validation rows nearly repeat a training row")


def test_other_phrasings_are_worth_their_accuracy():
    assert warned(["card lost"], ["lost card", "pin forgotten"]) == []
    assert warned(["pin forgotten"], ["lost card", "card gone"]) == []


def test_labels_without_rows_on_one_side_are_passed_over():
    assert warned([], ["lost card"]) == warned(["card lost"], []) == []
