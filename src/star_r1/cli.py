"""The command line: reads flags, calls what does the work, prints a mistake as one line."""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from star_r1.errors import UserError

app = typer.Typer(
    name="star-r1",
    help="Transformation-driven visual reasoning by reinforcement learning: data, training, "
    "evaluation (arXiv 2505.15804).",
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train a model by GRPO or by supervised fine-tuning.")
app.add_typer(train_app, name="train")

# Flags that another parser reads, --help among them.
_PASS_ON: Final[dict[str, Any]] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "add_help_option": False,
}

_EXTRA: Final = {
    "mitsuba": "render",
    "mitsuba_oidn": "render",
    "drjit": "render",
    "datasets": "data",
    "pyarrow": "data",
    "torch": "train",
    "transformers": "train",
    "trl": "train",
    "peft": "train",
    "accelerate": "train",
    "jinja2": "report",
    "matplotlib": "report",
}
"""Package -> the extra of star-r1 that installs it."""

_RESUMABLE: Final = ("generate", "train", "pretrain", "evaluate", "demo")
"""Commands that go on from what is finished when they are called again."""

Data = Annotated[Path, typer.Option("--data", help="Folder that 'star-r1 generate' wrote.")]
Seed = Annotated[int, typer.Option(help="0 or greater.", min=0)]


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder: new, empty, or of an interrupted run.")],
    samples: Annotated[int, typer.Option(help="How many; each gives one row a view.", min=1)],
    seed: Seed = 0,
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "320x240",
    views: Annotated[str, typer.Option(help="Of the final picture.")] = "center,left,right",
    workers: Annotated[int, typer.Option(help="Processes; no effect on the bytes.", min=1)] = 1,
    objects: Annotated[str, typer.Option(help="Fewest-most visible objects, 1-10.")] = "1-10",
    changes: Annotated[str, typer.Option(help="Fewest-most changes a sample.")] = "1-4",
    split: Annotated[str, typer.Option(help="Name of the split.")] = "train",
    samples_per_pixel: Annotated[int, typer.Option(help="Light paths; 8 is coarse.")] = 16,
) -> None:
    """Draw scenes and changes, render them, write a dataset (parquet with a card)."""
    from star_r1.data.build import generate as build
    from star_r1.tvr.sampler import SceneRules

    rules = SceneRules(visible=_range("--objects", objects), changes=_range("--changes", changes))
    names = tuple(views.split(","))
    made = build(out, samples, seed, _size(size), names, rules, workers, split, samples_per_pixel)
    done = f"{out}: {samples} samples, {samples * len(names)} rows"
    if not made:
        print(f"{done}, complete already; nothing to do")
        return
    print(f"{done} in {out / 'data'}, described in {out / 'README.md'}")
    print(f"look at one: star-r1 show {out} --id 000000-{names[0]} --out pair.png")


@app.command()
def show(
    data: Annotated[Path, typer.Argument(help="Folder that 'star-r1 generate' wrote.")],
    sample_id: Annotated[str, typer.Option("--id", help="Of the row, such as 000012-left.")],
    out: Annotated[Path, typer.Option(help="Picture to write, such as pair.png.")],
) -> None:
    """Draw one pair: both pictures with indices on the objects, the true changes below."""
    from star_r1.data.show import show as draw

    draw(data, sample_id, out)
    print(out)


@train_app.command("grpo", **_PASS_ON)
def train_grpo(context: typer.Context) -> None:
    """Train by GRPO: --config recipes/mini-grpo.yaml and any flag of TRL's GRPOConfig."""
    from star_r1.train.grpo import main as run

    sys.exit(run(context.args))


@train_app.command("sft", **_PASS_ON)
def train_sft(context: typer.Context) -> None:
    """Train on the answers: --config recipes/mini-sft.yaml and any flag of TRL's SFTConfig."""
    from star_r1.train.sft import main as run

    sys.exit(run(context.args))


@app.command(**_PASS_ON)
def pretrain(context: typer.Context) -> None:
    """Make the embedded model from scratch; its own flags, see --help."""
    from star_r1.model.pretrain import main as run

    run(context.args)


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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute the 11 metrics of any predictions file."""
    from star_r1.evaluate.run import score_file

    scores = score_file(data, predictions)
    if as_json:
        print(json.dumps(scores, indent=2))
    else:
        _print_scores(scores)


@app.command()
def reward(
    truth: Annotated[str, typer.Option(help='Such as "2.color.cyan, 0.shape.cube", or none.')],
    completion: Annotated[str, typer.Option(help="Text of the model; - reads stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute the STAR reward of one completion, term by term."""
    from star_r1.reward.star import star
    from star_r1.tvr.answer import parse_answer
    from star_r1.tvr.change import parse_changes

    try:
        changes = parse_changes(truth)
    except ValueError as error:
        raise UserError(f"--truth {truth!r}: {error}") from None
    if completion == "-":
        completion = sys.stdin.buffer.read().decode(errors="replace")
    answer = parse_answer(completion)
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


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of training and evaluation runs.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page: curves, metrics before and after, a gallery."""
    from star_r1.report.page import write_report

    write_report(runs, out)
    print(out)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, runs and the page.")] = Path("demo"),
    seed: Seed = 0,
) -> None:
    """The whole loop in minutes: pictures, base model, GRPO, evaluation, page."""
    from star_r1.demo import run

    run(out, seed)


def main() -> None:
    """Run the command line; the exit status is 2 for mistakes in the input, 130 for Ctrl-C.

    A mistake prints one line ``error: ...`` and never a traceback, unless ``STAR_R1_DEBUG=1``.
    """
    arguments = sys.argv[1:] or ["--help"]
    try:
        status = app(arguments, prog_name="star-r1", standalone_mode=False) or 0
        if status == 130:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        hint = "; the same command goes on from what is finished"
        status = _fail("interrupted" + (hint if arguments[0] in _RESUMABLE else ""), 130)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        if os.environ.get("STAR_R1_DEBUG") == "1":
            raise
        status = _fail(*_explain(error))
    sys.exit(status)


def _explain(error: Exception) -> tuple[str, int]:
    """The line for an error, and the exit status."""
    if isinstance(error, UserError):
        return f"error: {error}", 2
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "star-r1"
        message = error.format_message().rstrip(".")
        return f"error: {message}; see '{command} --help'", 2
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in _EXTRA:
            install = f"pip install 'star-r1[{_EXTRA[package]}]'"
            return f"error: this needs {package}, which is not installed; {install}", 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"error: {error.filename}: {error.strerror}", 2
    return (
        f"error: unexpected {type(error).__name__}: {error}; this is a bug, "
        "STAR_R1_DEBUG=1 shows where",
        1,
    )


def _fail(line: str, status: int) -> int:
    print(" ".join(line.split()), file=sys.stderr)
    return status


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
    if not match:
        raise UserError(f"--size {text}: give width x height in pixels, such as 320x240")
    return int(match[1]), int(match[2])


def _range(flag: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", text, re.ASCII)
    if not match:
        raise UserError(f"{flag} {text}: give one number or fewest-most, such as 2-5")
    return int(match[1]), int(match[2] or match[1])


def _print_scores(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """The metrics as a table: accuracies in percent, the 95% interval below each value."""
    from rich.console import Console
    from rich.table import Table

    title = "accuracies in percent; diff and ndiff: lower is better"
    table = Table(title=title, title_style="dim", box=None, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for group, metrics in scores.items():
        table.add_column(f"{group}\nn={metrics['tacc']['n']}", justify="right", no_wrap=True)
    for metric in scores["overall"]:
        table.add_row(metric, *(_cell(metric, group[metric]) for group in scores.values()))
    Console().print(table)


def _cell(metric: str, measured: Mapping[str, Any]) -> str:
    if measured["value"] is None:
        return "-"
    form = "{:.2f}" if metric in ("diff", "ndiff") else "{:.1%}"
    low, high = (form.format(bound).rstrip("%") for bound in measured["ci95"])
    return f"{form.format(measured['value']).rstrip('%')}\n[dim]{low}–{high}[/dim]"


if __name__ == "__main__":
    main()
