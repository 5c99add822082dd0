"""Groups on cards: one vLLM server for each card, or for several, and each group at one server; a pure decision."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.cli.gpu.memory import (
    GIB,
    UTILIZATION,
    BaseSize,
    Fit,
    cards_for,
    fit,
    rank_for,
    selector_bytes,
    trainer_bytes,
)
from shared.errors import Invalid
from shared.names import BASE_GROUP

_LEAST_RANK = 8
_TOKENS_OF_A_REQUEST = 1024
_LEAST_REQUESTS, _MOST_REQUESTS = 8, 128
_LEAST_KEPT, _KEPT = 8, 2  # adapters that a server keeps on its machine: those of the current release and its parent
_SHOWN = 3


class Need(NamedTuple):
    """An adapter that a group serves."""

    ref: str
    group: str
    rank: int
    """0 where it is not known."""
    method: str


@dataclass(frozen=True)
class Cards:
    """What there is: cards of `memory` bytes, so many for each server; `longest` tokens of a prompt and its answer."""

    count: int
    memory: int
    each: int = 1
    longest: int = 8192
    are_shared: bool = True
    """Whether two processes may use one card; Kubernetes gives a card to one container."""


@dataclass(frozen=True)
class Server:
    """A server, the groups of the worker beside it, and what it is started with."""

    name: str
    groups: tuple[str, ...]
    cards: tuple[int, ...]
    adapters: int
    utilization: float
    fit: Fit

    @property
    def requests(self) -> int:
        """The requests that its worker holds there at a time."""
        wanted = self.fit.cache_tokens // _TOKENS_OF_A_REQUEST or _LEAST_REQUESTS
        return min(_MOST_REQUESTS, max(_LEAST_REQUESTS, wanted))

    @property
    def kept(self) -> int:
        """The adapters that it keeps on its machine."""
        return max(_LEAST_KEPT, _KEPT * self.adapters, self.fit.slots)


@dataclass(frozen=True)
class Plan:
    """Where everything runs; with `problems` nothing of it can be started."""

    base: BaseSize
    cards: Cards
    servers: tuple[Server, ...] = ()
    helpers: Mapping[str, int | None] = field(default_factory=dict)
    """Selector and trainer: the card of each; None for the processors."""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def make_plan(base: BaseSize, needs: Sequence[Need], cards: Cards, *, selector_reads_base: bool = True) -> Plan:
    """Place groups, selector and trainer on cards; raises `Invalid` for cards that cannot be."""
    _check(cards)
    cards = _with_context(cards, base)
    problems = _of_adapters(needs)
    rank = max((rank_for(need.rank) or 0 for need in needs), default=0) or _LEAST_RANK
    if too_large := _of_base(base, cards, rank):
        return Plan(base, cards, problems=(*problems, too_large), notes=base.notes)
    helpers, servers_cards = _helpers(base, cards, rank, selector_reads_base=selector_reads_base)
    servers, unfit = _servers(base, needs, cards, servers_cards, helpers)
    notes = (*base.notes, *_remarks(servers, cards, servers_cards, needs), *_without(helpers, selector_reads_base))
    return Plan(base, cards, tuple(servers), helpers, (*problems, *unfit), notes)


def _check(cards: Cards) -> None:
    if min(cards.count, cards.memory, cards.each, cards.longest) < 1:
        raise Invalid("cards_invalid", "cards, their memory, cards of a server and tokens are at least 1")
    if cards.each > cards.count:
        raise Invalid("cards_invalid", f"a server over {cards.each} cards needs more than {cards.count}: say --cards")


def _with_context(cards: Cards, base: BaseSize) -> Cards:
    longest = min(cards.longest, base.context_length or cards.longest)
    return Cards(cards.count, cards.memory, cards.each, longest, cards.are_shared)


def _of_adapters(needs: Sequence[Need]) -> list[str]:
    found = []
    if large := [f"{need.ref} ({need.rank})" for need in needs if rank_for(need.rank) is None]:
        found.append(f"vLLM takes adapters up to rank 512, not {_some(large)}: train them at a smaller rank")
    if dora := [need.ref for need in needs if "dora" in need.method]:
        found.append(
            f"vLLM serves no DoRA: {_some(dora)}; train them as LoRA, or leave their labels out of the release"
        )
    return found


def _of_base(base: BaseSize, cards: Cards, rank: int) -> str:
    """Why no server of this base model can be; empty where one can."""
    needed = cards_for(base, cards.memory, rank=rank, longest=cards.longest)
    if needed <= cards.each:
        return ""
    takes = f"{base.name} takes {_gib(base.weights)} GiB with room for one adapter of rank {rank} beside it"
    if needed <= cards.count:
        return f"{takes}, more than {cards.each} card(s) of {_gib(cards.memory)} GiB: add --tensor-parallel {needed}"
    return (
        f"{takes}, more than all {cards.count} card(s): it needs {needed} of {_gib(cards.memory)} GiB "
        "(--cards, --tensor-parallel), larger cards, fewer --max-tokens, or a smaller or quantised base model"
    )


def _helpers(
    base: BaseSize, cards: Cards, rank: int, *, selector_reads_base: bool
) -> tuple[dict[str, int | None], int]:
    """The cards of selector and trainer, and how many are left to servers, the first ones."""
    sizes = {"selector": selector_bytes(base)} if selector_reads_base else {}
    sizes["trainer"] = trainer_bytes(base)
    placed: dict[str, int | None] = {"selector": None, "trainer": None}
    left = cards.count
    spare = left - cards.each
    if cards.are_shared and spare > 0 and sum(sizes.values()) <= cards.memory:
        return placed | dict.fromkeys(sizes, left - 1), left - 1
    for name in [name for name in sizes if sizes[name] <= cards.memory][: max(0, spare)]:
        left -= 1
        placed[name] = left
    if cards.are_shared and spare <= 0:
        placed |= _beside_a_server(base, cards, rank, sizes)
    return placed, left


def _beside_a_server(base: BaseSize, cards: Cards, rank: int, sizes: Mapping[str, int]) -> dict[str, int | None]:
    """Those of selector and trainer that leave half of the last card to a server that is on every card."""
    placed: dict[str, int | None] = {}
    room = int(cards.memory * UTILIZATION)
    for name, size in sizes.items():
        is_left = 2 * (room - size) >= cards.memory
        if is_left and fit(base, room - size, adapters=1, rank=rank, cards=cards.each, longest=cards.longest):
            placed[name], room = cards.count - 1, room - size
    return placed


def _servers(
    base: BaseSize, needs: Sequence[Need], cards: Cards, count: int, helpers: Mapping[str, int | None]
) -> tuple[list[Server], list[str]]:
    servers: list[Server] = []
    unfit = []
    sizes = {"selector": selector_bytes(base), "trainer": trainer_bytes(base)}
    by_group = _by_group(needs)
    spread = _spread(by_group, count // cards.each)
    for number, (name, groups) in enumerate(zip(_names(spread), spread, strict=True)):
        own = tuple(range(number * cards.each, (number + 1) * cards.each))
        taken = sum(sizes[name] for name, card in helpers.items() if card in own)
        room = int(cards.memory * UTILIZATION) - taken
        served = [need for group in groups for need in by_group[group]]
        rank = max((rank_for(need.rank) or _LEAST_RANK for need in served), default=_LEAST_RANK)
        found = fit(base, room, adapters=len(served), rank=rank, cards=cards.each, longest=cards.longest)
        if found is None:
            unfit.append(
                f"no adapter of rank {rank} fits beside {base.name} for {_some(groups)}: take larger cards, more of "
                "them for each server (--tensor-parallel), or a smaller rank"
            )
        else:
            servers.append(Server(name, groups, own, len(served), _share(room, cards.memory), found))
    return servers, unfit


def _by_group(needs: Sequence[Need]) -> dict[str, list[Need]]:
    """The adapters of each group, `base` with none: the groups with most adapters first."""
    found: dict[str, list[Need]] = {BASE_GROUP: []}
    for need in needs:
        found.setdefault(need.group, []).append(need)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _spread(by_group: Mapping[str, Sequence[Need]], count: int) -> list[tuple[str, ...]]:
    """The groups of each server: the next largest goes where fewest adapters are, a server too many to a group."""
    servers: list[list[str]] = [[] for _ in range(max(1, count))]
    for group in by_group:
        emptiest = min(servers, key=lambda groups: (sum(len(by_group[one]) for one in groups), len(groups)))
        emptiest.append(group)
    copies = Counter(groups[0] for groups in servers if groups)
    for groups in servers:
        if not groups:
            busiest = max(copies, key=lambda group: len(by_group[group]) / copies[group])
            copies[busiest] += 1
            groups.append(busiest)
    return [tuple(groups) for groups in servers]


def _names(servers: Sequence[Sequence[str]]) -> list[str]:
    """A name of each server for containers and pods, which know no underscore: its largest group's, and a number."""
    known: Counter[str] = Counter()
    names: dict[str, None] = {}
    for groups in servers:
        name = plain = groups[0].replace("_", "-")
        while name in names:
            known[plain] += 1
            name = f"{plain}-{known[plain] + 1}"
        names[name] = None
    return list(names)


def _remarks(servers: Sequence[Server], cards: Cards, left: int, needs: Sequence[Need]) -> list[str]:
    remarks = [
        f"{server.name}: {server.adapters} adapters share {server.fit.slots} slots; more wait, or are changed"
        for server in servers
        if server.adapters > server.fit.slots
    ]
    if unknown := [need.ref for need in needs if not need.rank]:
        remarks.append(f"the rank of {_some(unknown)} is not known: counted as {_LEAST_RANK}")
    if idle := left % cards.each:
        remarks.append(f"{idle} card(s) stay idle: servers take {cards.each} each")
    return remarks


def _without(helpers: Mapping[str, int | None], selector_reads_base: bool) -> list[str]:
    remarks = []
    if selector_reads_base and helpers["selector"] is None:
        remarks.append("the selector has no card: on processors it is slow where it asks the base model (--cards)")
    if helpers["trainer"] is None:
        remarks.append("the trainer has no card: train elsewhere, or give it one more (--cards)")
    return remarks


def _share(room: int, memory: int) -> float:
    """The share of a card, rounded down to hundredths; a byte that was rounded away before is none less."""
    return (room + 1) * 100 // memory / 100


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _gib(count: int) -> str:
    return f"{count / GIB:.1f}".removesuffix(".0")
