"""The command that reads what models reason."""

import json
from pathlib import Path
from typing import Annotated

import typer

from star_r1.cli.options import Seed

app = typer.Typer()


@app.command()
def analyze(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Evaluations: RUN, or NAME=RUN,RUN,RUN for their rows together; and folders of "
            "'train grpo'."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for analysis.json, and a judge's replies.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Seed = 0,
) -> None:
    """Read the reasonings: objects compared, correspondences, errors, lengths; along training."""
    from rich.console import Console

    from star_r1.analyze.run import analyze as run
    from star_r1.analyze.tables import print_analysis
    from star_r1.files import write_atomic

    found = run(runs, seed)
    if out is not None:
        write_atomic(out / "analysis.json", json.dumps(found, indent=1) + "\n")
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_analysis(found, Console())
        if out is not None:
            print(out / "analysis.json")
