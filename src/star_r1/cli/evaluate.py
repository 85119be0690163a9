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
    model: Annotated[
        str,
        typer.Option(
            help="Model or LoRA folder, Hub name, or 'mini'; endpoint:NAME for a model behind "
            "OPENAI_BASE_URL (key: OPENAI_API_KEY); baseline:random, silent, enumerate, oracle, "
            "pixels."
        ),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for predictions.jsonl and metrics.json.")],
    views: Annotated[str | None, typer.Option(help="Only these, such as left,right.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first rows.", min=1)] = None,
    prompt: Annotated[
        Literal["think", "direct", "think-no-table", "direct-no-table"],
        typer.Option(
            help="Reason first, or answer directly; list the objects, or mark them in the picture."
        ),
    ] = "think",
    few_shot: Annotated[int, typer.Option(help="Rows shown with their answers.", min=0)] = 0,
    examples: Annotated[
        Path | None, typer.Option(help="Dataset folder of these rows, other than --data.")
    ] = None,
    samples_per_prompt: Annotated[
        int, typer.Option(help="Completions a row: means, pass@k, majority vote.", min=1)
    ] = 1,
    temperature: Annotated[
        str, typer.Option(help="0 is greedy; 'default' leaves it to the endpoint.")
    ] = "0",
    top_p: Annotated[float, typer.Option(help="Of what is drawn.", min=0.01, max=1.0)] = 1.0,
    chat_template_kwargs: Annotated[
        str | None,
        typer.Option(
            help="Variables of a local model's chat template, as in its training: "
            "'{\"enable_thinking\": false}'."
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest completion.", min=1)] = 256,
    batch_size: Annotated[
        int, typer.Option(help="Completions written at once by a local model.", min=1)
    ] = 64,
    detail: Annotated[
        Literal["auto", "low", "high"], typer.Option(help="Of pictures, for an endpoint.")
    ] = "auto",
    concurrency: Annotated[
        int, typer.Option(help="Questions in flight at an endpoint.", min=1)
    ] = 8,
    retries: Annotated[int, typer.Option(help="After a failed attempt at an endpoint.", min=0)] = 5,
    timeout: Annotated[float, typer.Option(help="Seconds for an attempt.", min=0.1)] = 120.0,
    extra_body: Annotated[
        str | None,
        typer.Option(
            help="More fields of an endpoint's requests, as JSON such as "
            """'{"reasoning_effort": "low"}'; they are recorded, so no secrets."""
        ),
    ] = None,
    prices: Annotated[
        str | None,
        typer.Option(help="US dollars for a million tokens in and out, such as 2.5,10."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Let a model, an endpoint or a baseline answer a dataset, and score its answers."""
    from star_r1.evaluate.run import evaluate as run

    run(
        model,
        data,
        out,
        tuple(views.split(",")) if views is not None else None,
        limit,
        batch_size,
        max_new_tokens,
        seed,
        prompt=prompt,
        few_shot=few_shot,
        examples=examples,
        samples_per_prompt=samples_per_prompt,
        temperature=_temperature(temperature),
        top_p=top_p,
        chat_template_kwargs=_json("--chat-template-kwargs", chat_template_kwargs),
        detail=detail,
        concurrency=concurrency,
        retries=retries,
        timeout=timeout,
        extra_body=_json("--extra-body", extra_body),
        prices=_prices(prices),
    )
    record = json.loads((out / "metrics.json").read_bytes())
    _print_record(record)
    sys.exit(1 if record["answers"]["failed"] else 0)


def _temperature(text: str) -> float | None:
    if text == "default":
        return None
    try:
        temperature = float(text)
    except ValueError:
        temperature = -1.0
    # Logits divided by less overflow, and vLLM takes no less; nothing but greedy is meant by it.
    if temperature != 0 and not 0.01 <= temperature < float("inf"):
        raise UserError(f"--temperature {text}: give 0, a number from 0.01 on, or 'default'")
    return temperature


def _json(flag: str, text: str | None) -> dict[str, Any]:
    try:
        value = {} if text is None else json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{flag} {text}: give a JSON object, such as '{{\"name\": true}}'")
    return value


def _prices(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        once, twice = map(float, text.split(","))
    except ValueError:
        once = twice = -1.0
    if not (0 <= once < float("inf") and 0 <= twice < float("inf")):
        raise UserError(f"--prices {text}: give two numbers of dollars, such as 2.5,10")
    return once, twice


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
    unanswered: Annotated[
        Literal["fail", "wrong", "leave-out"],
        typer.Option(
            help="Broken lines and rows without a prediction: stop; count the rows as wrong; score "
            "the other rows alone."
        ),
    ] = "fail",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute the 11 metrics of any predictions file, or TRANCE's."""
    from star_r1.evaluate.scoring import score_file

    record = score_file(data, predictions, metrics, unanswered)
    if as_json:
        print(json.dumps(record, indent=2))
    else:
        _print_record(record)


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
    from star_r1.tvr.answer import parse_answer, whole
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
    answer = parse_answer(whole(completion), vocabulary)
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


def _print_record(record: Mapping[str, Any]) -> None:
    """What a metrics.json holds: the metrics, those of several completions a row, the counts."""
    from star_r1.metrics import BESIDE_GROUPS

    _print_scores({group: of for group, of in record.items() if group not in BESIDE_GROUPS})
    if "samples" in record:
        _print_table(record["samples"])
    if answers := record.get("answers"):
        counts = ", ".join(
            f"{n:,} {status.replace('_', ' ')}"
            for status, n in answers.items()
            if status != "malformed" and n
        )
        print(f"completions: {counts or 'none'}; {answers['malformed']:.1%} are malformed")


def _print_scores(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """The metrics as a table: shares in percent, the 95% interval by scenes below each value."""
    from rich.console import Console

    from star_r1 import metrics, trance_metrics

    lower = [
        name
        for name in (*metrics.COUNTS, *trance_metrics.LOWER_IS_BETTER)
        if name in scores["overall"]
    ]
    note = f"; lower is better: {', '.join(lower)}" if lower else ""
    Console().print(f"[dim]shares in percent, 95% intervals by scenes{note}[/dim]")
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
    value = form.format(measured["value"]).rstrip("%")
    if measured["ci95"] is None:
        return value
    low, high = (form.format(bound).rstrip("%") for bound in measured["ci95"])
    return f"{value}\n[dim]{low}–{high}[/dim]"
