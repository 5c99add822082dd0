"""Commands about corpora."""

from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import output
from services.cli.commands import completion
from services.cli.commands.common import Json, client, delete_each

app = typer.Typer(no_args_is_help=True, help="Corpora: upload raw files, list, show, get, delete.")
CorpusRef = Annotated[str, typer.Argument(metavar="ID|NAME", autocompletion=completion.corpora)]


@app.command("add")
def add(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, metavar="FILES...")],
    name: Annotated[str, typer.Option(help="Of the corpus; its files join those that it has.")],
    json: Json = False,
) -> None:
    """Upload raw files of a corpus.

    PDF, text, JSON or JSON lines, as their names say; the last three also packed by gzip. Files join a corpus until
    it is cleaned (`signalbox train clean NAME`); one of the same name is replaced.
    """
    api = client()
    stored = [api.add_corpus_file(file, name) for file in files][-1]
    _show(stored.to_dict(), as_json=json)


@app.command("list")
def list_corpora(json: Json = False) -> None:
    """List corpora, oldest first."""
    rows = [_told(corpus.to_dict()) for corpus in client().corpora()]
    columns = ["id", "name", "files", "bytes", "documents", "made_from", "created_at"]
    output.table(rows, columns, as_json=json, one="signalbox corpora show NAME")


@app.command("show")
def show(ref: CorpusRef, json: Json = False) -> None:
    """Show a corpus, and what each module left of it."""
    _show(client().corpus(ref).to_dict(), as_json=json)


@app.command("get")
def get(
    ref: CorpusRef,
    file: Annotated[str, typer.Option(help="Needed where it has several.")] = "",
    out: Annotated[Path | None, typer.Option(help="Where to; by default the file's own name.")] = None,
) -> None:
    """Write a corpus' file: of a cleaned one its JSON lines."""
    api = client()
    if out is None:
        out = Path(file or api.corpus(ref).files[0]["name"])
    output.out.print(f"wrote {api.save_corpus(ref, out, file=file)}", highlight=False, soft_wrap=True)


@app.command("rm")
def rm(
    refs: Annotated[list[str], typer.Argument(metavar="ID|NAME...", autocompletion=completion.corpora)],
) -> None:
    """Delete corpora that no unfinished training needs."""
    delete_each(client().delete_corpus, refs)


def _told(corpus: dict[str, Any]) -> dict[str, Any]:
    files = corpus["files"]
    return corpus | {"files": len(files), "bytes": sum(file["size_bytes"] for file in files)}


def _show(corpus: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.record(corpus, as_json=True)
        return
    modules = corpus.pop("modules", {})
    names = [file["name"] for file in corpus["files"]]
    some = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    left = {module: f"{one['documents_out']} of {one['documents_in']} documents" for module, one in modules.items()}
    output.record(_told(corpus) | {"files": some} | left, as_json=False)
