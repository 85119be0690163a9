"""The command that reads what models reason."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from star_r1.errors import UserError

app = typer.Typer()

JUDGE_TOKENS: Final = 1024
"""The longest reply of a judge: its JSON takes some 100 tokens, the rest is to reason before."""


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
    judge: Annotated[
        str | None,
        typer.Option(
            help="A model behind OPENAI_BASE_URL (key: OPENAI_API_KEY) that reads some of the "
            "reasonings too; needs --out, where its replies are kept."
        ),
    ] = None,
    judged: Annotated[
        int, typer.Option(help="Reasonings of a line, at most, that the judge reads.", min=1)
    ] = 100,
) -> None:
    """Read the reasonings: objects compared, correspondences, errors, lengths; along training."""
    from rich.console import Console

    from star_r1.analyze.run import analyze as run
    from star_r1.analyze.tables import print_analysis
    from star_r1.files import write_atomic

    second = None
    if judge is not None:
        from star_r1.evaluate.endpoint import Endpoint

        if out is None:
            raise UserError("--judge needs --out: a folder where the judge's replies are kept")
        second = Endpoint(judge, max_new_tokens=JUDGE_TOKENS)
    replies = out / "judge.jsonl" if out is not None else None
    found = run(runs, judge=second, replies=replies, judged=judged)
    if out is not None:
        write_atomic(out / "analysis.json", json.dumps(found, indent=1) + "\n")
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_analysis(found, Console())
        if out is not None:
            print(out / "analysis.json")
