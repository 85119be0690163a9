"""The command that puts runs side by side."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from star_r1.errors import UserError

app = typer.Typer()


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Evaluations: RUN, or NAME=RUN,RUN,RUN for several training seeds."),
    ],
    against: Annotated[
        str | None, typer.Option(help="The line that differences are from; the first if absent.")
    ] = None,
    groups: Annotated[
        str, typer.Option(help="Columns, of overall, id, ood and the views.")
    ] = "overall,id,ood",
    metrics: Annotated[
        str | None, typer.Option(help="Only these, such as tacc,ndiff,objects_9_10.")
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Compare the rows that all have.")
    ] = False,
    published: Annotated[
        bool, typer.Option(help="The paper's numbers beside them, marked as such.")
    ] = True,
    form: Annotated[
        Literal["markdown", "csv", "latex", "json"] | None,
        typer.Option("--format", help="Absent: as --out ends, or a table for the terminal."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write: .md, .csv, .tex or .json.")
    ] = None,
) -> None:
    """Compare evaluations: the 11 metrics side by side, and paired differences."""
    from star_r1.evaluate.compare import compare as measure
    from star_r1.evaluate.compare import name_lines
    from star_r1.evaluate.compare_tables import ENDINGS, print_comparison, to_text
    from star_r1.files import write_atomic

    if out is not None and form is None and (form := ENDINGS.get(out.suffix)) is None:
        raise UserError(
            f"--out {out}: no format ends so; end it in {', '.join(ENDINGS)} or give --format"
        )
    wanted = tuple(metrics.split(",")) if metrics is not None else None
    found = measure(name_lines(runs), against, tuple(groups.split(",")), wanted, common)
    if form is None:
        print_comparison(found, published)
    elif out is None:
        print(to_text(found, form, published), end="")
    else:
        write_atomic(out, to_text(found, form, published))
        print(out)
