"""Commands about cards: which groups, adapters and processes go where."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from services.cli import output
from services.cli.commands.common import Json, client

app = typer.Typer(no_args_is_help=True, help="Cards: what fits on them, and the files that start it.")
Target = Literal["compose", "k8s"]


@app.command()
def plan(
    cards: Annotated[int, typer.Option(help="How many cards there are.", min=1, max=4096)],
    memory_gib: Annotated[float, typer.Option(help="Memory of each card.", min=1, max=4096)] = 80,
    release: Annotated[str, typer.Option(help="Id of a release, current or not; by default the current one.")] = "",
    tensor_parallel: Annotated[int, typer.Option(help="Cards of each server: a model larger than one.", min=1)] = 1,
    max_tokens: Annotated[int, typer.Option(help="Longest prompt with its answer, in tokens.", min=16)] = 8192,
    write: Annotated[Target | None, typer.Option(help="Write the files that start it.")] = None,
    to: Annotated[Path | None, typer.Option(help="Other than docker-compose.vllm.yml, k8s/overlays/vllm.")] = None,
    json: Json = False,
) -> None:
    """Say what fits on cards, and with what vLLM is started.

    Groups share cards where they must; --write writes the files.
    """
    from services.cli.gpu.facts import facts_of
    from services.cli.gpu.memory import GIB
    from services.cli.gpu.pages import plan_page
    from services.cli.gpu.plan import Cards, make_plan

    facts = facts_of(client(), release)
    there = Cards(cards, int(memory_gib * GIB), tensor_parallel, max_tokens, are_shared=write != "k8s")
    made = make_plan(facts.base, facts.needs, there, selector_reads_base=facts.selector_reads_base)
    plan_page(made, facts.release, as_json=json)
    if made.problems:
        raise typer.Exit(1)
    if write:
        from services.cli.gpu.files import write_plan

        written, start = write_plan(made, write, to)
        output.err.print(f"wrote {written}; {start}", soft_wrap=True, highlight=False)
