"""The command that writes the explorer."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def explore(
    what: Annotated[
        list[Path],
        typer.Argument(help="Folders of evaluations of the same data, or one dataset folder."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page.")] = Path("explorer"),
) -> None:
    """Write a page to look through samples and answers, and to answer by hand; no server."""
    from star_r1.explore.page import write_explorer

    print(f"open {write_explorer(what, out)} in a browser")
