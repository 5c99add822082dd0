"""`make chaos`: prove the promises one after the other, each on servers of its own, and write down what came of it."""

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.common import print_table
from tests.chaos.outcome import Outcome, Promise, finished, keep
from tests.chaos.promises import PROMISES
from tests.chaos.sizes import LONG, SHORT, Counts, Size
from tests.chaos.world import World


def main() -> None:
    """Run the rows that are named, or all that the results do not hold yet; ends with 1 where a promise is broken."""
    options = parse_options()
    sizes = SHORT if options.short else LONG
    broken = []
    for number in options.numbers or sorted(PROMISES):
        promise, counts = PROMISES[number], sizes[number]
        if not (options.again or options.short) and finished(promise, counts):
            print(f"== {number}: {promise.sentence}: in the results already", flush=True)
            continue
        print(f"== {number}: {promise.sentence}", flush=True)
        try:
            outcome = prove(promise, counts)
        except Exception:  # noqa: BLE001 - the rows after it are worth their hours
            traceback.print_exc()
            broken.append(f"{number} did not end")
            continue
        if not options.short:
            keep(promise, counts, outcome)
        broken += [f"{number} {key}" for key in outcome.broken]
    print(f"broken: {', '.join(broken)}" if broken else "all kept")
    sys.exit(bool(broken))


def prove(promise: Promise, counts: Counts) -> Outcome:
    """One row on a system of its own."""
    size = Size(**counts)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, World(promise.plan(size), Path(folder)) as world:
        outcome = promise.prove(world, size)
    print_table(outcome.rows)
    print(f"injected: {outcome.injected}; {time.monotonic() - began:.0f} s", flush=True)
    return outcome


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, choices=[[], *PROMISES], help="rows; all where none is named")
    parser.add_argument("--again", action="store_true", help="run rows that the results hold already, too")
    parser.add_argument("--short", action="store_true", help="small counts, nothing written down")
    return parser.parse_args()


if __name__ == "__main__":
    main()
