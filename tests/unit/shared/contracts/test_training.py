"""What an update may ask for, and of which release."""

import pytest
from pydantic import ValidationError

from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.training import parse_training
from shared.errors import Conflict, Invalid

ENTRY = ReleaseLabel(adapter="a" * 64, ref="x@1", group="fin", template="chatml", instruction="")
ADD = {"kind": "selector.add", "labels": {"law.ie": "d"}}
BALANCE = {"kind": "selector.balance"}
DELETE = {"kind": "selector.delete", "labels": ["fin.sa"]}


def release(*labels, **fields):
    return Release(
        tenant_id="t",
        base_model="b",
        labels=dict.fromkeys(labels, ENTRY),
        selector=ReleaseSelector(light="b" * 64, labels=labels),
        verdict=Verdict(passed=True, reasons=()),
        **fields,
    )


THREE = release("fin.sa", "fin.ha", "med.qa")


@pytest.mark.parametrize("body", [ADD, BALANCE, DELETE], ids=lambda body: body["kind"])
@pytest.mark.parametrize("retention", [0, 0.1, 0.3, 0.5, 1, "auto"])
def test_every_update_takes_every_ratio(body, retention):
    assert parse_training({**body, "retention": retention}).retention == retention


@pytest.mark.parametrize(
    "body",
    [
        *({**body, "retention": ratio} for body in (ADD, BALANCE, DELETE) for ratio in (-0.1, 1.01, "most", None)),
        {**DELETE, "labels": []},
        {**DELETE, "labels": ["fin sa"]},
        {**DELETE, "labels": {"fin.sa": "d"}},
        {**DELETE, "deleted_texts": "sell"},
        {**BALANCE, "hard": ["fin.sa"], "easy": ["fin.sa"]},
        {**BALANCE, "labels": {"fin.sa": "d"}, "easy": ["fin.sa"]},
        {**BALANCE, "hard_below": 0.9, "easy_from": 0.8},
        {**BALANCE, "easy_from": 1.1},
        {**BALANCE, "background": "d"},
        {**ADD, "min_llm_share": 0.5, "max_llm_share": 0.4},
        {"kind": "selector.train", "labels": {"fin.sa": "d"}, "retention": 0.5},
        {"kind": "selector.train", "labels": {"fin.sa": "d"}, "readout": "head", "settings": {"packing": True}},
    ],
    ids=str,
)
def test_what_no_update_can_mean_is_refused(body):
    with pytest.raises((ValidationError, Invalid)):
        parse_training(body)


@pytest.mark.parametrize(
    ("body", "error", "code"),
    [
        ({**ADD, "labels": {"fin.sa": "d"}}, Conflict, "label_exists"),
        ({**DELETE, "labels": ["law.ie"]}, Invalid, "label_unknown"),
        ({**DELETE, "labels": [BACKGROUND]}, Invalid, "label_reserved"),
        ({**ADD, "labels": {BACKGROUND: "d"}}, Invalid, "label_reserved"),
        ({"kind": "adapter.train", "label": BACKGROUND, "dataset": "d"}, Invalid, "label_reserved"),
        ({**DELETE, "labels": ["fin.sa", "fin.ha", "med.qa"]}, Invalid, "labels_too_few"),
        ({**DELETE, "labels": ["fin.sa", "fin.ha"], "deleted_texts": "forget"}, Invalid, "labels_too_few"),
        ({**BALANCE, "hard": ["law.ie"]}, Invalid, "label_unknown"),
        ({**BALANCE, "easy": ["law.ie"]}, Invalid, "label_unknown"),
        ({**BALANCE, "labels": {"law.ie": "d"}}, Invalid, "label_unknown"),
    ],
)
def test_an_update_that_does_not_fit_its_release_says_why(body, error, code):
    with pytest.raises(error) as refusal:
        parse_training(body).check_against(THREE)
    assert refusal.value.code == code


def test_one_label_may_be_left_where_there_is_background_to_tell_it_from():
    forget = {**DELETE, "labels": ["fin.sa", "fin.ha"], "deleted_texts": "forget"}
    parse_training({**forget, "deleted_texts": "reject"}).check_against(THREE)
    parse_training(forget).check_against(THREE.model_copy(update={"representation": {BACKGROUND: "key"}}))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"evaluation": {"law.ie": "d"}}, "law.ie"),
        ({"model": "moe-lora", "settings": {"method": "dora"}}, "lora or rslora, not dora"),
        ({"experts": []}, "at least 1"),
        ({"experts_used": 0}, "greater than or equal to 1"),
        ({"model": "ensemble"}, "multi-task-lora"),
    ],
)
def test_a_comparison_that_means_nothing_is_refused(more, message):
    with pytest.raises(ValidationError, match=message):
        parse_training({"kind": "comparison.train", "labels": {"fin.sa": "d"}, **more})


def test_a_review_holds_no_more_requests_than_memory_has_room_for():
    assert parse_training({"kind": "traffic.review", "window": 10_000, "windows": 5}).windows == 5
    with pytest.raises(ValidationError, match="take fewer or smaller windows"):
        parse_training({"kind": "traffic.review", "window": 10_000, "windows": 6})
