"""Pages of the key/value cache: nobody gets another's, and prefixes are shared only where everything is equal."""

from services.adapter_worker.engine.native.kv_cache import PAGE, PagePool, Prefix, pages_for_choices

NONE = Prefix(None, ())


def prefix(adapter, tokens):
    return Prefix(adapter, tuple(range(tokens)))


def test_no_page_is_given_twice_and_all_come_back():
    pages = PagePool(4)
    first, second = pages.reserve(PAGE + 1, NONE)[0], pages.reserve(2 * PAGE, NONE)[0]
    assert len({*first, *second}) == 4
    assert pages.reserve(1, NONE) is None
    pages.release(first)
    assert pages.reserve(1, NONE) is not None


def test_a_kept_prefix_is_shared_whole_page_by_whole_page():
    pages = PagePool(10)
    mine, computed = pages.reserve(3 * PAGE, prefix("a", 2 * PAGE + 3))
    assert computed == 0
    pages.keep(prefix("a", 2 * PAGE + 3), mine)
    theirs, computed = pages.reserve(3 * PAGE, prefix("a", 2 * PAGE + 3))
    assert (theirs[:2], computed) == (mine[:2], 2 * PAGE)
    assert theirs[2] != mine[2]


def test_another_adapter_never_gets_the_prefix_nor_another_text():
    pages = PagePool(10)
    mine, _ = pages.reserve(2 * PAGE, prefix("a", PAGE))
    pages.keep(prefix("a", PAGE), mine)
    assert pages.reserve(PAGE, prefix("b", PAGE))[1] == 0
    assert pages.reserve(PAGE, prefix(None, PAGE))[1] == 0
    assert pages.reserve(PAGE, Prefix("a", tuple(range(1, PAGE + 1))))[1] == 0


def test_kept_prefixes_make_room_the_longest_unused_first():
    pages = PagePool(2)
    for adapter in ("a", "b"):
        taken, _ = pages.reserve(PAGE, prefix(adapter, PAGE))
        pages.keep(prefix(adapter, PAGE), taken)
        pages.release(taken)
    assert pages.free_count == 0
    assert pages.reserve(PAGE, NONE) is not None
    assert pages.reserve(PAGE, prefix("b", PAGE))[1] == PAGE


def test_a_prefix_in_use_survives_being_forgotten():
    pages = PagePool(2)
    taken, _ = pages.reserve(PAGE, prefix("a", PAGE))
    pages.keep(prefix("a", PAGE), taken)
    assert pages.reserve(2 * PAGE, NONE) is None
    assert pages.reserve(PAGE, NONE)[0] != taken


def test_branches_share_the_whole_pages_of_a_prompt_and_nothing_behind_them():
    pages = PagePool(10)
    mine, _ = pages.reserve(4 * PAGE, NONE)
    prompt = 2 * PAGE + 3
    branches = pages.branch(mine, prompt, 3)
    assert [branch[:2] for branch in branches] == [mine[:2]] * 3
    assert len({page for branch in (mine, *branches) for page in branch[2:]}) == 4 * 2
    assert pages_for_choices(prompt, 4 * PAGE - prompt, 4) == 10 - pages.free_count == 10
    for held in (mine, *branches):
        pages.release(held)
    assert pages.free_count == 10


def test_branches_that_find_no_room_take_none_and_cached_prefixes_make_room():
    pages = PagePool(5)
    cached, _ = pages.reserve(PAGE, prefix("a", PAGE))
    pages.keep(prefix("a", PAGE), cached)
    pages.release(cached)
    mine, _ = pages.reserve(2 * PAGE, NONE)
    assert pages.branch(mine, PAGE, 4) is None
    assert pages.branch(mine, PAGE, 3) is not None
    assert pages.free_count == 0


def test_prompts_and_what_of_them_was_computed_already_are_counted_in_tokens():
    pages = PagePool(4)
    pages.count_prompt(40, 0)
    pages.count_prompt(40, 2 * PAGE)
    assert pages.figures[1:] == (80, 2 * PAGE)


def test_the_share_in_use_is_what_sequences_hold_whatever_the_cache_keeps():
    pages = PagePool(4)
    first, _ = pages.reserve(2 * PAGE, prefix("a", 2 * PAGE))
    pages.keep(prefix("a", 2 * PAGE), first)
    assert pages.figures.used_ratio == 0.5
    second, _ = pages.reserve(2 * PAGE, prefix("a", 2 * PAGE))
    assert pages.figures.used_ratio == 0.5, "they share both pages"
    pages.release(first)
    assert pages.figures.used_ratio == 0.5
    pages.release(second)
    assert pages.figures.used_ratio == 0.0
    third, _ = pages.reserve(4 * PAGE, NONE)  # at the cost of what was kept
    assert pages.figures.used_ratio == 1.0
    pages.release(third)
    assert (pages.figures.used_ratio, pages.free_count) == (0.0, 4)
