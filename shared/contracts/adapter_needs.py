"""What the adapters of a release ask of the servers of their groups, and the refusal where one takes less."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from shared.contracts.manifests import ReleaseLabel
from shared.names import generate_queue


class AdapterNeed(NamedTuple):
    """The largest rank among a queue's adapters, whether one is a DoRA, and the adapter that asks for most."""

    rank: int
    dora: bool
    ref: str


def needs_of(entries: Iterable[ReleaseLabel], infos: Mapping[str, Mapping[str, Any]]) -> dict[str, AdapterNeed]:
    """Return what each queue of these labels needs, by its adapters' `infos` (by digest); unknown ones need nothing."""
    found: dict[str, AdapterNeed] = {}
    for entry in entries:
        info = infos.get(entry.adapter, {})
        own = AdapterNeed(int(info.get("rank") or 0), "dora" in str(info.get("method") or ""), entry.ref)
        queue = generate_queue(entry.group)
        known = found.get(queue, AdapterNeed(0, False, entry.ref))
        most = max(known, own, key=lambda need: (need.dora, need.rank))
        found[queue] = AdapterNeed(max(known.rank, own.rank), known.dora or own.dora, most.ref)
    return found


def above_server(release: str, queue: str, need: AdapterNeed, max_rank: int) -> str:
    """Return the sentence about a release that a live vLLM server of a queue would refuse adapters of."""
    what = "a DoRA, which vLLM does not serve" if need.dora else f"rank {need.rank}"
    mend = (
        "train it as LoRA"
        if need.dora
        else f"`signalbox gpu plan --release {release} --cards N --write compose` (or k8s) writes files that take it: "
        "start the servers with them, then promote"
    )
    return (
        f"the vLLM server of {queue} was started with --max-lora-rank {max_rank}, and {need.ref} is {what}: {mend}; "
        "or promote with force: its jobs fail there"
    )
