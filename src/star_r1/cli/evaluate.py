"""Commands that evaluate models and score answers."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from star_r1.cli.options import Data, Seed
from star_r1.errors import UserError

app = typer.Typer()


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="Model folder, Hub name, or 'mini'.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for predictions.jsonl and metrics.json.")],
    views: Annotated[str | None, typer.Option(help="Only these, such as left,right.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first rows.", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Rows completed at once.", min=1)] = 64,
    max_new_tokens: Annotated[int, typer.Option(help="Longest completion.", min=1)] = 256,
    seed: Seed = 0,
) -> None:
    """Let a model answer a dataset, and score its answers."""
    from star_r1.evaluate.run import evaluate as run

    names = tuple(views.split(",")) if views is not None else None
    run(model, data, out, names, limit, batch_size, max_new_tokens, seed)


@app.command()
def score(
    data: Data,
    predictions: Annotated[
        Path, typer.Option(help='One {"id": ..., "completion": ...} a line, for every row.')
    ],
    metrics: Annotated[
        Literal["star", "basic", "event", "view"],
        typer.Option(help="STAR-R1's, or those of TRANCE's evaluator in one of its settings."),
    ] = "star",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute the 11 metrics of any predictions file, or TRANCE's."""
    from star_r1.evaluate.run import score_file

    scores = score_file(data, predictions, metrics)
    if as_json:
        print(json.dumps(scores, indent=2))
    else:
        _print_scores(scores)


@app.command()
def reward(
    truth: Annotated[str, typer.Option(help='Such as "2.color.cyan, 0.shape.cube", or none.')],
    completion: Annotated[str, typer.Option(help="Text of the model; - reads stdin.")],
    attributes: Annotated[
        str, typer.Option(help="What may change; also position.")
    ] = "color,shape,size,material",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute the STAR reward of one completion, term by term."""
    from star_r1.reward.star import star
    from star_r1.tvr.answer import parse_answer
    from star_r1.tvr.change import parse_changes
    from star_r1.tvr.vocabulary import Vocabulary

    try:
        vocabulary = Vocabulary(attributes=tuple(attributes.split(",")))
    except ValueError as error:
        raise UserError(f"--attributes {attributes}: {error}") from None
    try:
        changes = parse_changes(truth, vocabulary)
    except ValueError as error:
        raise UserError(f"--truth {truth!r}: {error}") from None
    if completion == "-":
        completion = sys.stdin.buffer.read().decode(errors="replace")
    answer = parse_answer(completion, vocabulary)
    result = star(answer, changes)
    if as_json:
        print(json.dumps(result.terms))
        return
    for name, value in result.terms.items():
        print(f"{name:9}{value:+6.1f}")
    if answer.problem:
        print(f"not well-formed: {answer.problem}")
    for prediction, fate in zip(answer.predictions, result.fates, strict=True):
        print(f"predicted {prediction.text}: {fate}")
    for match in result.matches:
        if match.tier is None:
            print(f"missed {match.change}")


def _print_scores(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """The metrics as a table: shares in percent, the 95% interval below each value."""
    from rich.console import Console

    from star_r1 import metrics, trance_metrics

    lower = [
        name
        for name in (*metrics.COUNTS, *trance_metrics.LOWER_IS_BETTER)
        if name in scores["overall"]
    ]
    note = f"; lower is better: {', '.join(lower)}" if lower else ""
    Console().print(f"[dim]shares in percent{note}[/dim]")
    _print_table(scores)


def _print_table(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """A column a group; several tables where the terminal is too narrow for one."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for group, metrics in scores.items():
        n = next(iter(metrics.values()))["n"]
        table.add_column(f"{group}\nn={n}", justify="right", no_wrap=True)
    for metric in next(iter(scores.values())):
        table.add_row(metric, *(_cell(metric, group[metric]) for group in scores.values()))
    whole = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    if len(scores) == 1 or whole <= console.width:
        console.print(table)
        return
    groups = list(scores.items())
    for part in (groups[: len(groups) // 2], groups[len(groups) // 2 :]):
        _print_table(dict(part))


def _cell(metric: str, measured: Mapping[str, Any]) -> str:
    from star_r1 import metrics, trance_metrics

    if measured["value"] is None:
        return "-"
    form = "{:.2f}" if metric in (*metrics.COUNTS, *trance_metrics.COUNTS) else "{:.1%}"
    low, high = (form.format(bound).rstrip("%") for bound in measured["ci95"])
    return f"{form.format(measured['value']).rstrip('%')}\n[dim]{low}–{high}[/dim]"
