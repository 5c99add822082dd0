"""What follows from a review: which wishes, with which numbers, and what forbids one."""

import pytest

from services.api.proposals import rules
from services.api.proposals.derive import proposed
from services.api.proposals.rules import Evidence, OwnData, wishes
from services.api.proposals.thresholds import Judged, Judgement, lowered, raised
from shared.contracts.judged import JudgedRow
from shared.contracts.labels import BACKGROUND
from shared.contracts.proposals import DISMISSED_SECONDS, Proposal, ProposalState, Wish
from shared.contracts.reviews import ChangedLabel, NearestLabel, ReviewResult, TrafficChange, UnknownTask
from shared.contracts.traffic import TrafficSketch
from tests.support.api import make_release

RELEASE = make_release()


def change(*labels, kind="label_mix", remedy="balance"):
    shares = tuple(ChangedLabel(label=label, before=0.2, after=0.45) for label in labels)
    return TrafficChange(
        kind=kind,
        statistic=12.0,
        p_value=0.001,
        since="2026-11-01T08:00:00+00:00",
        labels=shares,
        examples=("1-0", "2-0"),
        remedy=remedy,
    )


def review(*changes, **fields):
    return ReviewResult(release=RELEASE.id, first="1-0", last="9-0", changes=changes, rows=500, **fields)


def days_of(count=30, **labels):
    chosen = {name.replace("_", "."): number for name, number in labels.items()}
    return [
        TrafficSketch(hour=f"2026-11-{day:02}T00:00:00.000+00:00", release=RELEASE.id, labels=chosen, selections=1)
        for day in range(1, count + 1)
    ]


def kinds(seen):
    return [wish.kind for wish in wishes(seen)]


# Balance and retrain.


def test_a_changed_label_with_feedback_is_balanced_by_the_safe_version():
    seen = Evidence(RELEASE, review(change("fin.sa")), dataset="ds_1", feedback={"fin.sa": 12, "fin.ha": 40})
    [wish] = wishes(seen)
    assert (wish.kind, wish.labels, wish.entries) == ("balance", ("fin.sa",), ("1-0", "2-0"))
    [body] = wish.act.trainings
    assert body == {"kind": "selector.balance", "labels": {"fin.sa": "ds_1"}, "parent": RELEASE.id}
    assert "fin.sa 20.0% before, 45.0% now (p = 0.001)" in wish.why[0]
    assert wish.numbers == {"feedback fin.sa": 12}


def test_a_change_that_names_no_label_is_balanced_by_every_label_with_enough_feedback():
    seen = Evidence(RELEASE, review(change(kind="classifier")), dataset="ds_1", feedback={"fin.sa": 12, "fin.ha": 9})
    assert wishes(seen)[0].labels == ("fin.sa",)


@pytest.mark.parametrize("remedy", ["add", "delete", "threshold"])
def test_what_another_rule_mends_is_not_balanced(remedy):
    seen = Evidence(RELEASE, review(change("fin.sa", remedy=remedy)), dataset="ds_1", feedback={"fin.sa": 12})
    assert kinds(seen) == []


def test_too_little_feedback_teaches_nothing():
    assert kinds(Evidence(RELEASE, review(change("fin.sa")), dataset="ds_1", feedback={"fin.sa": 9})) == []


def own(*newer):
    return {label: OwnData(f"ds_{label}", label in newer) for label in RELEASE.labels}


def test_where_most_labels_changed_and_newer_data_is_there_the_selector_is_trained_anew_on_what_operators_gave():
    most = review(change("fin.sa", "fin.ha"))
    [wish] = wishes(Evidence(RELEASE, most, own_data=own("fin.sa"), dataset="ds_f", feedback={"fin.sa": 50}))
    assert wish.kind == "retrain"
    [body] = wish.act.trainings
    assert body["labels"] == {label: f"ds_{label}" for label in RELEASE.labels}
    assert "2 of 3 labels changed; there are newer rows of fin.sa." in wish.why


def test_without_newer_data_of_every_label_it_is_balanced():
    most = review(change("fin.sa", "fin.ha"))
    feedback = {"dataset": "ds_f", "feedback": {"fin.sa": 50}}
    assert kinds(Evidence(RELEASE, most, own_data=own(), **feedback)) == ["balance"]
    partly = {label: data for label, data in own("fin.sa").items() if label != "med.qa"}
    assert kinds(Evidence(RELEASE, most, own_data=partly, **feedback)) == ["balance"]


# New labels.


def task(name="cards", entries=("5-0", "6-0", "7-0", "8-0"), texts=4, nearest="fin.sa"):
    return UnknownTask(
        name=name,
        terms=("card", "blocked"),
        entries=entries,
        nearest=(NearestLabel(label=nearest, similarity=0.4),) if nearest else (),
        stability=0.9,
        least_rows=4,
        advised_rows=40,
        texts=texts,
    )


def test_an_unknown_task_becomes_a_label_of_the_nearest_domain():
    [wish] = wishes(Evidence(RELEASE, review(tasks=(task(),))))
    assert (wish.kind, wish.labels, wish.entries) == ("add", ("fin.cards",), ("5-0", "6-0", "7-0", "8-0"))
    assert wish.task.advised_rows == 40
    assert any("fin.sa (0.40)" in why for why in wish.why)
    assert wishes(Evidence(RELEASE, review(tasks=(task(nearest=""),))))[0].labels == ("cards",)


def test_two_unknown_tasks_and_a_known_label_have_different_names():
    found = wishes(Evidence(RELEASE, review(tasks=(task("sa"), task("sa", entries=("1-1",))))))
    assert [wish.labels for wish in found] == [("fin.sa-2",), ("fin.sa-3",)]


def test_a_task_whose_rows_are_those_of_a_known_proposal_keeps_its_label():
    before = Proposal(
        id="p", tenant_id="t", release=RELEASE.id, kind="add", labels=("fin.loans",), entries=("5-0",), created_at=1
    )
    [wish] = wishes(Evidence(RELEASE, review(tasks=(task(),)), known=[before]))
    assert wish.labels == ("fin.loans",)


def test_a_task_of_too_few_texts_is_none():
    assert kinds(Evidence(RELEASE, review(tasks=(task(texts=3),)))) == []


# Labels without traffic, crowded groups.


def test_a_label_without_a_selection_for_thirty_days_is_proposed_for_deletion():
    seen = Evidence(RELEASE, review(), sketches=days_of(fin_sa=30, fin_ha=30))
    wish = next(wish for wish in wishes(seen) if wish.kind == "delete")
    assert wish.labels == ("med.qa",)
    assert "None of 1800 selections of the last 30 days chose med.qa" in wish.why[0]


@pytest.mark.parametrize(
    "more",
    [
        {"sketches": days_of(20, fin_sa=60, fin_ha=60)},
        {"sketches": days_of(fin_sa=3, fin_ha=3)},
        {"sketches": days_of(fin_sa=30, fin_ha=30), "named": {"med.qa": 1}},
        {"sketches": [*days_of(fin_sa=30), TrafficSketch(hour="2026-11-30T01", release="x", labels={"*": 5})]},
    ],
)
def test_too_few_days_or_selections_named_requests_and_uncounted_labels_forbid_it(more):
    assert "delete" not in kinds(Evidence(RELEASE, review(), **more))


def test_a_crowded_group_gives_about_half_of_its_traffic_to_a_new_one():
    seen = Evidence(RELEASE, review(), sketches=days_of(fin_sa=50, fin_ha=30, med_qa=10))
    [wish] = wishes(seen)
    assert (wish.kind, wish.labels) == ("split_group", ("fin.ha",))
    assert wish.act.edit == {"start_from": RELEASE.id, "groups": {"fin.ha": "fin-2"}}


def test_a_release_of_one_group_is_not_split():
    alone = make_release(labels=("fin.sa", "fin.ha"))
    assert kinds(Evidence(alone, review(), sketches=days_of(fin_sa=50, fin_ha=30))) == []


# Thresholds.


def judged_row(confidence, label="fin.sa", best="fin.sa"):
    return JudgedRow(
        text="x", text_hash="h", label=label, best_label=best, probability=confidence, confidence=confidence
    )


CLEAR = [judged_row(0.9) for _ in range(50)] + [judged_row(0.1, BACKGROUND) for _ in range(20)]
"""Rows that any threshold between 0.1 and 0.9 judges rightly."""


def said(count, confidence, label="fin.sa", rejected=False, first=0):
    return [Judgement(f"{first + n}-0", "fin.sa", confidence, rejected, label) for n in range(count)]


def test_much_that_is_rejected_wrongly_lowers_the_threshold():
    seen = Evidence(
        RELEASE,
        review(rejected=0.3, rejected_before=0.05),
        judged=Judged(CLEAR, 0.5, 0.01),
        judgements=said(12, 0.4, rejected=True),
    )
    [wish] = wishes(seen)
    assert wish.kind == "lower_threshold"
    assert wish.act.edit == {"start_from": RELEASE.id, "threshold": 0.4}
    assert wish.numbers["mended"] == 12
    assert any("30.0% of the requests were rejected, 5.0% before" in why for why in wish.why)


def test_no_more_rejections_than_before_lower_nothing():
    seen = Evidence(RELEASE, review(rejected=0.05, rejected_before=0.04), judged=Judged(CLEAR, 0.5, 0.01))
    assert kinds(seen._replace(judgements=said(12, 0.4, rejected=True))) == []


def test_a_threshold_that_lets_background_pass_on_the_releases_own_rows_is_not_proposed():
    near = [*CLEAR, *(judged_row(0.45, BACKGROUND) for _ in range(20))]
    assert lowered(Judged(near, 0.5, 0.01), said(12, 0.4, rejected=True)) is None
    assert lowered(Judged((), 0.5, 0.01), said(12, 0.4, rejected=True)) is None  # nothing to judge by


def test_few_judgements_or_rightly_rejected_ones_lower_nothing():
    judged = Judged(CLEAR, 0.5, 0.01)
    assert lowered(judged, said(9, 0.4, rejected=True)) is None
    right = said(30, 0.4, label=BACKGROUND, rejected=True, first=100)
    assert lowered(judged, [*said(12, 0.4, rejected=True), *right]) is None


def test_what_is_let_in_wrongly_at_low_confidence_raises_the_threshold():
    seen = Evidence(RELEASE, review(), judged=Judged(CLEAR, 0.5, 0.01))
    wrong = said(12, 0.55, label="fin.ha")
    [wish] = wishes(seen._replace(judgements=[*wrong, *said(50, 0.8, first=100)]))
    assert (wish.kind, wish.act.edit["threshold"]) == ("raise_threshold", 0.551)
    assert raised(Judged(CLEAR, 0.5, 0.01), [*wrong, *said(30, 0.55, first=100)]) is None  # mostly right there
    assert raised(Judged(CLEAR, 0.5, 0.01), said(12, 0.95, label="")) is None  # too much would be rejected


def test_a_release_without_a_selector_wishes_nothing():
    bare = make_release(selector=False)
    assert wishes(Evidence(bare, review(change("fin.sa")), feedback={"fin.sa": 50})) == []


# Wishes as proposals.

WISH = Wish("balance", ("fin.sa",), ("Because.",))


def test_equal_wishes_are_one_proposal_and_only_news_is_written():
    first = proposed(None, WISH, "t", RELEASE.id)
    assert (first.state, first.version) == (ProposalState.OPEN, 1)
    assert proposed(first, WISH, "t", RELEASE.id) is None
    newer = proposed(first, WISH._replace(why=("Because of more.",)), "t", RELEASE.id)
    assert (newer.id, newer.version, newer.why) == (first.id, 2, ("Because of more.",))
    assert WISH.id_of("t", "rel_other") != first.id


@pytest.mark.parametrize("state", [ProposalState.DISMISSED, ProposalState.FAILED, ProposalState.DONE])
def test_what_was_dismissed_stays_away_for_thirty_days(state):
    first = proposed(None, WISH, "t", RELEASE.id)
    ended = first.entered(state, first.created_at)
    assert proposed(ended, WISH, "t", RELEASE.id) is None
    old = ended.model_copy(update={"ended_at": first.created_at - DISMISSED_SECONDS})
    again = proposed(old, WISH, "t", RELEASE.id)
    assert (again.state, again.round) == (ProposalState.OPEN, 2)


def test_what_is_at_work_is_left_alone():
    first = proposed(None, WISH, "t", RELEASE.id)
    for state in (ProposalState.CONFIRMED, ProposalState.TRAINING, ProposalState.CANDIDATE, ProposalState.ROLLING_OUT):
        assert proposed(first.entered(state, 1.0), WISH, "t", RELEASE.id) is None


def test_changes_are_told_with_their_numbers():
    assert rules.told(change("fin.sa")) == (
        "The mix of labels changed since 2026-11-01 08:00: fin.sa 20.0% before, 45.0% now (p = 0.001)."
    )
