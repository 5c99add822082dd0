"""The four answers in one picture."""

from pathlib import Path
from typing import Any

from benchmarks.simulation.group import POOL, enough, p95_first_token, pooled, scaled
from benchmarks.simulation.measured import TOKENS, Measured
from benchmarks.simulation.road import job_cost, ledger_p99

LOADS = (1, 2, 5, 10, 20, 40)
"""Jobs a second."""
ADAPTERS = (32, 64, 128, 256, 512)
LOADS_X = (1, 4, 16)
"""How much longer an adapter takes to load than measured: larger ones, or slower disks."""

PLOT = Path(__file__).parents[2] / "docs" / "scaling.svg"


def plot(measured: Measured) -> None:
    """The four answers in one picture."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "signalbox", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    figure_, ((top_left, top_right), (low_left, low_right)) = plt.subplots(2, 2, figsize=(10, 7))
    _plot_workers(top_left, measured)
    _plot_cold(top_right, measured)
    _plot_split(low_left, measured)
    _plot_redis(low_right, measured)
    figure_.tight_layout()
    figure_.savefig(PLOT, metadata={"Date": None})


def _plot_workers(axes: Any, measured: Measured) -> None:
    for tokens in (16, 32, 128):
        axes.plot(
            LOADS[:-1], [enough(measured, load, tokens) for load in LOADS[:-1]], marker="o", label=f"{tokens} tokens"
        )
    axes.set(title="Workers, first token in 2 s (p95)", xlabel="jobs a second", ylabel="workers", xscale="log")
    axes.legend()


def _plot_cold(axes: Any, measured: Measured) -> None:
    group = scaled(measured, 30 / 3600, floor=0, hours=24)
    kept = scaled(measured, 30 / 3600, floor=1, hours=24)
    for made, label in ((group, "down to none"), (kept, "one kept")):
        waits = sorted(made.first_token_s)[::4]
        axes.plot(waits, [n / len(waits) for n in range(len(waits))], label=label)
    axes.set(title="First token at 30 jobs an hour", xlabel="seconds", ylabel="share of jobs", xscale="log")
    axes.legend()


def _plot_split(axes: Any, measured: Measured) -> None:
    for slower in LOADS_X:
        with_loads = measured._replace(load_s=measured.load_s * slower)
        load_ms = with_loads.load_s * 1000
        for groups, style in ((1, "-"), (POOL, "--")):
            p95 = [p95_first_token(pooled(with_loads, count, groups, 60)) for count in ADAPTERS]
            label = f"{groups} group{'s' if groups > 1 else ''}, {load_ms:.0f} ms a load"
            axes.plot(ADAPTERS, p95, style, color=f"C{LOADS_X.index(slower)}", marker=".", label=label)
    axes.set(title=f"{POOL} workers, 70 % busy", xlabel="adapters", ylabel="first token, p95 s", xscale="log")
    axes.set_yscale("log")
    axes.set_ylim(top=40)
    axes.legend(fontsize="small", ncol=2, loc="upper left")


def _plot_redis(axes: Any, measured: Measured) -> None:
    for tokens, label in ((0, "whole answers"), (TOKENS, f"{TOKENS} tokens streamed")):
        limit = 1 / job_cost(measured, tokens)
        loads = [limit * share / 12 for share in range(1, 13)]
        points = [(load, ledger_p99(measured, load, tokens=tokens, seconds=2) * 1000) for load in loads]
        axes.plot(*zip(*[p for p in points if p[1] < 100], strict=True), marker=".", label=label)
    axes.set(title="One ledger", xlabel="jobs a second", ylabel="a call, p99 ms", yscale="log")
    axes.legend()
