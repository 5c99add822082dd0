"""What the demo says before, beside and after its parts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from services.cli import output
from services.cli.output import out
from shared.contracts.durations import in_words
from shared.contracts.training_cost import FACTOR

if TYPE_CHECKING:
    from signalbox import TrainingEstimate

PARTS = ("start", "train", "serve", "check")
FIRST_RUN, LATER_RUN = "10 to 40 minutes", "5 to 15 minutes"
"""On two cores without a GPU. With five times as much other work as cores, a first run took 53 minutes."""


def opening(data_dir: Path, *, keep: bool) -> None:
    """Print what will happen, and how long it takes."""
    end = "the system stays up" if keep else "all of it is ended; `--keep` leaves it up"
    say(f"""\
Signalbox on this machine: a whole system, trained and asked in front of you.

  1 start   two Redis servers, object store, API, selectors, workers, trainers
  2 train   five adapters, and a selector that picks among four of them
  3 serve   a stream of requests, while a training job adds the fifth label
  4 check   rows that nobody trained on, and what was promised

A first run takes {FIRST_RUN} on two cores that are free, and longer beside
other work; most of it is part 2. A later run takes {LATER_RUN}:
what is trained stays in {data_dir}.
At the end {end}.
Ctrl-C ends everything at any time.
""")


def part(name: str) -> None:
    """Head a part of the demo."""
    out.print()
    out.rule(Text(f"{PARTS.index(name) + 1} of {len(PARTS)}: {name}", style="bold"), align="left")


def access(api_url: str, key: str) -> None:
    """Print where the console is, and the key that it asks for."""
    output.record({"console": f"{api_url}/console", "key": key}, as_json=False)


def forecast(found: Sequence["TrainingEstimate"], at_once: int) -> str:
    """Return how long trainings will take of which so many run at once, as far as it is known."""
    if not found:
        return "an earlier run has begun it, and it goes on from there"
    known = [one.estimate["seconds"] for one in found if one.estimate]
    if len(known) < len(found):
        return "how long is not known: no trainer has told its speed yet"
    whole = max(*known, sum(known) / at_once)
    beside = f", {at_once} at a time" if at_once > 1 else ""
    return (
        f"about {in_words(whole)}{beside}, by the speed of this machine; a third or {FACTOR:.0f} times as long where "
        "others use it less or more"
    )


def kept(api_url: str, key: str, data_dir: Path) -> None:
    """Print how the system is used that stays up, and how it is ended."""
    out.print("\nthe system stays up:")
    output.record(
        {
            "console": f"{api_url}/console",
            "key": key,
            "ask": 'signalbox submit "my card was declined" --wait',
            "from OpenAI": f"base_url {api_url}/v1, the key as api_key, model auto",
            "logs": f"{data_dir}/logs",
            "end": "Ctrl-C here, or `signalbox down` from elsewhere",
            "again": "signalbox up --worker bank,base --worker travel",
        },
        as_json=False,
    )


def parting() -> None:
    """Print how the demo's system is had for longer."""
    say("`signalbox demo --keep` leaves the system up at the end; `make up` starts it without the demo.")


def reached(done: Sequence[str], data_dir: Path) -> None:
    """Print how far the demo came, and how it goes on."""
    if not done:
        return
    say("done until then:")
    for line in done:
        say(f"  {line}")
    say(f"it is kept in {data_dir}: `signalbox demo` goes on from there, `signalbox demo --fresh` starts over")


def say(text: str) -> None:
    """Print a text as it is."""
    out.print(text, markup=False, highlight=False)
