"""Unknown clusters in traffic of CLINC150: each domain in turn is left out of training and has to be proposed.

`benchmarks/traffic_data.py` says what is left out, what traffic there is, and what recall and purity are. Texts are
read by the lower layers of the base model, or by the sentence encoder that `--encoder` names.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.selector_data import DATA, Pairs, need_data
from benchmarks.selector_outside import selected, trained
from benchmarks.traffic_data import LEAST_SHARE_OF_INTENT, LeftOut, left_out
from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.traffic.unknown import Proposal, Rows, propose, unknown_rows
from services.trainer.traffic.window import Window, window_of
from shared.contracts.labels import BACKGROUND
from shared.model.base import resolve_base_model
from shared.model.features import Floats
from shared.model.prototypes import Reading, read_layer
from shared.settings import Settings

FALSE_REJECTS = 0.05


class Found(NamedTuple):
    """What was proposed of a domain."""

    intents: int
    """Of the domain, those that are proposed."""
    of: int
    texts: int
    """Of all proposals."""
    pure: int
    """Texts of each proposal's most common left-out intent."""
    of_domain: int
    """Texts of left-out intents."""
    proposals: int


class Reader:
    """Vectors of texts, each read once."""

    def __init__(self, encoder: Path | None) -> None:
        base = resolve_base_model(Settings())
        reading = Reading(lambda: base, encoder)
        self._embed = reading.sentences() if encoder else reading.states(read_layer(base))
        self._known: dict[str, Floats] = {}

    def vectors(self, texts: Sequence[str]) -> Floats:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= zip(new, self._embed(new), strict=True)
        return np.stack([self._known[text] for text in texts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--encoder", type=Path, help="folder of a sentence encoder, read instead of the base model")
    args = parser.parse_args()
    need_data(args.data)
    started = time.process_time()
    reader = Reader(args.encoder)
    found = []
    for domain in left_out(args.data):
        found.append(found_of(domain, reader))
        print(f"{domain.domain}: {found[-1]}, {time.process_time() - started:.0f} CPU s", flush=True)
    rows = figures(found)
    rows.append(row("cluster_cpu_seconds", time.process_time() - started, "CPU s"))
    print_table(rows)
    write_results("clusters", rows)


def found_of(domain: LeftOut, reader: Reader) -> Found:
    selector, score = trained(domain.learnt, domain.validation, CalibrationTarget(FALSE_REJECTS))

    def window(pairs: Pairs) -> Window:
        requests = selected([text for text, _ in pairs], selector, score)
        return window_of(requests, np.zeros((len(requests), 0)))

    unknown = unknown_rows(window(domain.traffic), window(domain.validation))
    pairs = [domain.traffic[at] for at in unknown]
    known = [(text, label) for label, own in domain.learnt.items() for text in own] + domain.validation
    known = [pair for pair in known if pair[1] != BACKGROUND]
    texts = [text for text, _ in known]
    made = propose(
        [text for text, _ in pairs],
        reader.vectors([text for text, _ in pairs]),
        Rows(texts, [label for _, label in known], reader.vectors(texts)),
    )
    for proposal in made:
        print(f"  {proposal.name:32} {len(proposal.rows):4} {proposal.stability:.2f} {pairs[proposal.rows[0]][0]}")
    return judged(made, [label for _, label in pairs], domain)


def judged(made: Sequence[Proposal], gold: Sequence[str], domain: LeftOut) -> Found:
    intents = {label for _, label in domain.traffic if label.startswith(f"{domain.domain}.")}
    there = Counter(gold)
    proposed, pure, of_domain = set(), 0, 0
    for proposal in made:
        own = Counter(label for label in (gold[at] for at in proposal.rows) if label in intents)
        of_domain += own.total()
        for intent, count in own.most_common(1):
            pure += count
            if count > len(proposal.rows) / 2 and count >= LEAST_SHARE_OF_INTENT * there[intent]:
                proposed.add(intent)
    texts = sum(len(proposal.rows) for proposal in made)
    return Found(len(proposed), len(intents), texts, pure, of_domain, len(made))


def figures(found: Sequence[Found]) -> list[Row]:
    total = Found(*map(sum, zip(*found, strict=True)))
    recalls = [one.intents / one.of for one in found]
    purities = [one.pure / max(one.texts, 1) for one in found]
    return [
        row("cluster_recall", total.intents / total.of, "share of intents", spread=spread(recalls), goal=0.8),
        row("cluster_purity", total.pure / max(total.texts, 1), "share of texts", spread=spread(purities), goal=0.85),
        row("cluster_domain_purity", total.of_domain / max(total.texts, 1), "share of texts"),
        row("cluster_proposals", total.proposals / len(found), "a domain", spread="of 15 intents each"),
    ]  # fmt: skip


def spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}, n={len(values)}"


if __name__ == "__main__":
    main()
