"""Groups on cards."""

import pytest

from services.cli.gpu.plan import make_plan
from shared.errors import Invalid
from tests.support.gpu_plans import DOMAINS, base, cards, needs


def groups_of(plan):
    return sorted(group for server in plan.servers for group in server.groups)


def test_four_cards_and_forty_adapters_are_three_servers_and_a_card_for_selector_and_trainer():
    plan = make_plan(base(), needs(40), cards(4))
    assert plan.problems == plan.notes == ()
    assert [server.cards for server in plan.servers] == [(0,), (1,), (2,)]
    assert groups_of(plan) == sorted([*DOMAINS, "base"])
    assert [server.adapters for server in plan.servers] == [15, 15, 10]
    assert all(server.fit.slots == server.adapters for server in plan.servers)
    assert plan.helpers == {"selector": 3, "trainer": 3}
    (last,) = [server for server in plan.servers if "base" in server.groups]
    assert last.adapters == 10, "the base model's requests go where fewest adapters are"


def test_where_a_card_has_one_process_selector_and_trainer_take_one_each():
    plan = make_plan(base(), needs(40), cards(4, are_shared=False))
    assert [server.cards for server in plan.servers] == [(0,), (1,)]
    assert plan.helpers == {"selector": 3, "trainer": 2}


def test_a_selector_of_words_takes_no_card():
    plan = make_plan(base(), needs(40), cards(4, are_shared=False), selector_reads_base=False)
    assert (len(plan.servers), plan.helpers) == (3, {"selector": None, "trainer": 3})
    assert plan.notes == ()


def test_one_card_has_the_server_and_what_leaves_it_half():
    plan = make_plan(base(), needs(40), cards(1))
    (server,) = plan.servers
    assert plan.helpers == {"selector": 0, "trainer": None}
    assert 0.5 <= server.utilization < 0.9
    assert any("trainer has no card" in note for note in plan.notes)


def test_no_group_is_at_two_servers_while_another_has_none():
    plan = make_plan(base(), needs(40), cards(4, are_shared=False))
    assert len(groups_of(plan)) == len(set(groups_of(plan)))


def test_cards_beyond_the_groups_are_further_servers_of_the_largest():
    plan = make_plan(base(), needs(6, groups=("bank",)), cards(5))
    assert [(server.name, server.groups) for server in plan.servers] == [
        ("bank", ("bank",)),
        ("base", ("base",)),
        ("bank-2", ("bank",)),
        ("bank-3", ("bank",)),
    ]


def test_a_group_with_an_underscore_gets_a_name_that_containers_take():
    plan = make_plan(base(), needs(4, groups=("tech_support", "tech-support")), cards(4))
    assert sorted(server.name for server in plan.servers) == ["base", "tech-support", "tech-support-2"]


def test_no_adapter_yet_is_a_server_for_the_base_model():
    plan = make_plan(base(), [], cards(2))
    (server,) = plan.servers
    assert (server.groups, server.adapters, server.fit.slots, server.fit.rank) == (("base",), 0, 1, 8)
    assert plan.problems == ()


def test_a_server_takes_the_largest_rank_of_its_own_groups():
    mixed = [*needs(3, groups=("bank",), rank=8), *needs(3, groups=("travel",), rank=40)]
    plan = make_plan(base(), mixed, cards(4))
    assert {server.name: server.fit.rank for server in plan.servers} == {"bank": 8, "travel": 64, "base": 8}


@pytest.mark.parametrize(
    ("count", "gib", "each", "longest"), [(0, 80, 1, 1), (4, 0, 1, 1), (4, 80, 0, 1), (4, 80, 1, 0)]
)
def test_cards_that_cannot_be_are_refused(count, gib, each, longest):
    with pytest.raises(Invalid, match="at least 1"):
        make_plan(base(), needs(), cards(count, gib, each=each, longest=longest))


def test_a_server_over_more_cards_than_there_are_is_refused():
    with pytest.raises(Invalid, match="say --cards"):
        make_plan(base(), needs(), cards(2, each=4))


def test_a_model_larger_than_a_card_is_told_over_how_many_it_fits():
    plan = make_plan(base(weight_bytes=140 << 30), needs(), cards(8))
    assert plan.servers == ()
    assert "--tensor-parallel 4" in plan.problems[0]
    spread = make_plan(base(weight_bytes=140 << 30), needs(), cards(8, each=4))
    assert spread.problems == ()
    assert [server.cards for server in spread.servers] == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_a_model_larger_than_all_cards_is_told_what_it_needs():
    plan = make_plan(base(weight_bytes=810 << 30), needs(), cards(4))
    (problem,) = plan.problems
    assert "more than all 4 card(s): it needs 16 of 80 GiB" in problem
    assert plan.servers == ()


def test_ranks_and_kinds_that_vllm_does_not_serve_are_named_with_the_way_out():
    hostile = [*needs(1, rank=600), *needs(5, groups=("hr",), rank=8, method="dora")]
    plan = make_plan(base(), hostile, cards(4))
    large, dora = plan.problems
    assert "bank.t0@1 (600): train them at a smaller rank" in large
    assert "hr.t0@1, hr.t1@1, hr.t2@1 and 2 more; train them as LoRA" in dora


def test_a_thousand_adapters_share_the_slots_and_the_plan_says_so():
    plan = make_plan(base(), needs(1000), cards(4))
    assert plan.problems == ()
    assert sum(server.adapters for server in plan.servers) == 1000
    assert all(server.fit.slots == 64 < server.adapters for server in plan.servers)
    assert all(server.kept >= 2 * server.adapters for server in plan.servers)
    assert sum("share 64 slots" in note for note in plan.notes) == 3


def test_adapters_whose_rank_is_not_known_are_counted_as_small_ones_and_named():
    plan = make_plan(base(), needs(2, rank=0), cards(4))
    assert any("the rank of bank.t0@1, fin.t1@1 is not known" in note for note in plan.notes)


def test_cards_that_no_server_can_use_are_said_to_be_idle():
    plan = make_plan(base(), needs(), cards(6, each=2))
    assert any("1 card(s) stay idle" in note for note in plan.notes)


def test_a_prompt_is_no_longer_than_the_models_context():
    assert make_plan(base(context_length=2048), needs(), cards(4)).cards.longest == 2048


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("shared", [True, False])
def test_every_group_has_a_server_and_no_card_has_two(count, shared):
    plan = make_plan(base(), needs(40), cards(count, are_shared=shared))
    assert set(groups_of(plan)) == {*DOMAINS, "base"}
    used = [card for server in plan.servers for card in server.cards]
    assert len(used) == len(set(used))
    assert all(0 <= card < count for card in used)
    if not shared:
        held = [card for card in plan.helpers.values() if card is not None]
        assert len({*used, *held}) == len(used) + len(held)


def test_a_hall_of_cards_is_planned_at_once_and_every_server_has_a_name_of_its_own():
    plan = make_plan(base(), needs(1000, groups=tuple(f"g{n}" for n in range(50))), cards(4000))
    assert len({server.name for server in plan.servers}) == len(plan.servers) == 3999
