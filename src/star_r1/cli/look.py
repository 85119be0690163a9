"""Commands that show what a model does: pages and tables of runs."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of training and evaluation runs.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page: curves, metrics before and after, a gallery."""
    from star_r1.report.page import write_report

    write_report(runs, out)
    print(out)
