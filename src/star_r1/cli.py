"""The command line: reads flags, calls what does the work, prints a mistake as one line."""

import json
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from star_r1.errors import UserError

if TYPE_CHECKING:
    from star_r1.data.counts import Counts
    from star_r1.data.intake import Imported

app = typer.Typer(
    name="star-r1",
    help="Transformation-driven visual reasoning by reinforcement learning: data, training, "
    "evaluation (arXiv 2505.15804).",
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train a model by GRPO or by supervised fine-tuning.")
app.add_typer(train_app, name="train")
import_app = typer.Typer(help="Turn data of others into a dataset, checking every sample.")
app.add_typer(import_app, name="import")

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
    "yaml": "data",
    "h5py": "h5",
    "huggingface_hub": "data",
    "torch": "train",
    "transformers": "train",
    "trl": "train",
    "peft": "train",
    "accelerate": "train",
    "jinja2": "report",
    "matplotlib": "report",
}
"""Package -> the extra of star-r1 that installs it."""

_RESUMABLE: Final = ("generate", "import", "export", "train", "pretrain", "evaluate", "demo")
"""Commands that go on from what is finished when they are called again."""

Data = Annotated[Path, typer.Option("--data", help="Dataset folder, or FOLDER/SPLIT.")]
Seed = Annotated[int, typer.Option(help="0 or greater.", min=0)]
Workers = Annotated[int, typer.Option(help="Processes; no effect on the bytes.", min=1)]
Faults = Annotated[
    Literal["fail", "skip"], typer.Option(help="End at samples with faults, or leave them out.")
]


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder: new, empty, or of an interrupted run.")],
    samples: Annotated[
        int | None, typer.Option(help="How many; each gives one row a view.", min=1)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML whose keys are flags, for one or more splits; flags override it."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="0 or greater.", min=0, show_default="0")] = None,
    size: Annotated[
        str | None, typer.Option(help="Width x height in pixels.", show_default="320x240")
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(
            help="Of the final picture; also top, and az0 to az359 (degrees from center).",
            show_default="center,left,right",
        ),
    ] = None,
    objects: Annotated[
        str | None, typer.Option(help="Fewest-most visible objects.", show_default="1-10")
    ] = None,
    changes: Annotated[
        str | None, typer.Option(help="Fewest-most changes a sample.", show_default="1-4")
    ] = None,
    attributes: Annotated[
        str | None,
        typer.Option(
            help="What may change; also position (TRANCE's full setting).",
            show_default="color,shape,size,material",
        ),
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(help="YAML with colors, sizes, shapes, materials.", show_default="TRANCE's"),
    ] = None,
    renderer: Annotated[
        str | None, typer.Option(help="mitsuba, or cycles (slow).", show_default="mitsuba")
    ] = None,
    samples_per_pixel: Annotated[
        int | None, typer.Option(help="Light paths; 8 is coarse.", min=1, show_default="16")
    ] = None,
    extras: Annotated[
        str | None, typer.Option("--with", help="More columns: masks,boxes,depth.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Name of the split.", show_default="train")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; no effect on the bytes.", min=1)] = 1,
    shard: Annotated[
        str,
        typer.Option(help="i/n makes the i-th of n parts, such as 2/8; no effect on the bytes."),
    ] = "1/1",
    ray: Annotated[
        str | None,
        typer.Option(help="Let a Ray cluster do it: auto, host:port, ray://host:port, local."),
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Upload the finished dataset, such as to me/pairs.")
    ] = None,
) -> None:
    """Draw scenes and changes, render them, write a dataset (parquet with a card)."""
    from star_r1.data.build import build
    from star_r1.data.settings import read_settings

    flags = {
        "samples": samples,
        "seed": seed,
        "size": size,
        "views": views,
        "objects": objects,
        "changes": changes,
        "attributes": attributes,
        "vocabulary": None if vocabulary is None else str(vocabulary),
        "renderer": renderer,
        "samples-per-pixel": samples_per_pixel,
        "with": extras,
        "split": split,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    splits = read_settings(given, config)
    if push_to_hub is not None:
        from star_r1.data.hub import create, push

        create(push_to_hub)
    started = time.monotonic()
    built = build(out, splits, workers, _part(shard), ray)
    count = sum(settings.samples for settings in splits)
    rows = sum(settings.samples * len(settings.views) for settings in splits)
    done = f"{out}: {count} samples, {rows} rows"
    if built.missing:
        print(f"{done}; part {shard} is complete, {built.missing} shards of others are not")
        return
    if built.made:
        print(f"{done} in {out / 'data'}, described in {out / 'README.md'}")
        print(f"{built.made} samples made in {time.monotonic() - started:.0f} s")
        one = out if len(splits) == 1 else out / splits[0].split
        view = splits[0].views[0]
        print(f"look at one: star-r1 show {one} --id 000000-{view} --out pair.png")
    else:
        print(f"{done}, complete already; nothing to do")
    if push_to_hub is not None:
        print(push(out, push_to_hub))


@app.command()
def verify(
    data: Annotated[Path, typer.Argument(help="Dataset folder.")],
    quick: Annotated[bool, typer.Option("--quick", help="Do not decode the pictures.")] = False,
) -> None:
    """Check a dataset: files, hashes, rows, pictures, replay, rules; print how it is spread."""
    from star_r1.data.verify import verify as check

    found = check(data, print, pictures=not quick)
    rows = sum(counts.rows for counts in found.counts.values())
    _print_counts(found.counts)
    faults = f"{found.faults or 'no'} fault{'s' * (found.faults != 1)}"
    print(f"{data}: {found.files} files, {rows} sound rows, {faults}")
    sys.exit(1 if found.faults else 0)


@import_app.command("trance")
def import_trance(
    source: Annotated[
        Path, typer.Argument(help="Folder of data.jsonl and image/, or TRANCE's data.h5.")
    ],
    out: Annotated[Path, typer.Option(help="Folder: new, empty, or of an interrupted import.")],
    attributes: Annotated[
        str,
        typer.Option(
            help="Only samples that change nothing else; add position for all, with every step."
        ),
    ] = "color,shape,size,material",
    views: Annotated[str, typer.Option(help="Of the final picture.")] = "center,left,right",
    split: Annotated[
        str, typer.Option(help="train, val or test of TRANCE; with --indices any name.")
    ] = "train",
    indices: Annotated[
        str | None, typer.Option(help="First-last idx instead of TRANCE's split, such as 0-99.")
    ] = None,
    faults: Faults = "fail",
    workers: Workers = 1,
) -> None:
    """Import TRANCE as it is published: jsonl, a JSON list, or h5."""
    from star_r1.data.trance import import_trance as run

    span = None if indices is None else _span(indices)
    names, seen = tuple(attributes.split(",")), tuple(views.split(","))
    imported = run(source, out, names, seen, split, span, faults == "skip", workers)
    _print_imported(out, imported, f"change more than {attributes.replace(',', ', ')}")


@import_app.command("reason-rft")
def import_reason_rft(
    source: Annotated[Path, typer.Argument(help="JSON file of Reason-RFT's TRANCE part.")],
    out: Annotated[Path, typer.Option(help="Folder: new, empty, or of an interrupted import.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of its pictures; image/ beside SOURCE if not given.")
    ] = None,
    split: Annotated[str, typer.Option(help="Name of the split.")] = "train",
    faults: Faults = "fail",
    workers: Workers = 1,
) -> None:
    """Import Reason-RFT's TRANCE part, the rows in which nothing moves."""
    from star_r1.data.reason_rft import import_reason_rft as run

    imported = run(source, out, images, split, faults == "skip", workers)
    _print_imported(out, imported, "move objects, and do not say how far")


def _span(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", text, re.ASCII)
    if not match:
        raise UserError(f"--indices {text}: give the first and the last idx, such as 0-99")
    return int(match[1]), int(match[2])


def _print_imported(out: Path, imported: "Imported", others: str) -> None:
    print(f"{out}: {imported.samples} samples, {imported.rows} rows in {out / 'data'}")
    if imported.left_out:
        print(f"left out: {imported.left_out} that {others}")
    if imported.faulty:
        print(f"skipped: {imported.faulty} with faults, listed in {out / 'faults.jsonl'}")
    print(f"look at one: star-r1 show {out} --id {imported.first} --out pair.png")


@app.command("export")
def export_command(
    layout: Annotated[
        Literal["trance", "reason-rft", "jsonl", "verl", "easyr1", "ms-swift"],
        typer.Argument(help="Whose files to write."),
    ],
    data: Annotated[Path, typer.Argument(help="Folder that 'star-r1 generate' wrote.")],
    out: Annotated[Path, typer.Option(help="Folder: new, empty, or of an interrupted export.")],
    views: Annotated[str | None, typer.Option(help="Only these, such as center,left.")] = None,
    val: Annotated[
        Path | None,
        typer.Option(help="For verl, easyr1, ms-swift: another folder to validate on, all views."),
    ] = None,
) -> None:
    """Write a dataset as TRANCE or Reason-RFT have theirs, as JSON lines, or to train elsewhere."""
    chosen = tuple(views.split(",")) if views is not None else None
    if layout in ("verl", "easyr1", "ms-swift"):
        from star_r1.data.export_engines import export_engine

        exported = export_engine(layout, data, out, chosen, val)
    else:
        if val is not None:
            raise UserError(f"--val {val}: {layout} has no such part; export it by itself")
        from star_r1.data.export import export

        exported = export(layout, data, out, chosen)
    print(f"{out}: {exported.samples} samples, {exported.rows} rows; {out / 'README.md'} says how")


@app.command()
def show(
    data: Annotated[Path, typer.Argument(help="Dataset folder, or FOLDER/SPLIT.")],
    sample_id: Annotated[str, typer.Option("--id", help="Of the row, such as 000012-left.")],
    out: Annotated[Path, typer.Option(help="Picture to write, such as pair.png.")],
) -> None:
    """Draw one pair: both pictures with indices on the objects, the true changes below."""
    from star_r1.data.show import show as draw

    draw(data, sample_id, out)
    print(out)


@train_app.command("grpo", **_PASS_ON)
def train_grpo(context: typer.Context) -> None:
    """Train by GRPO: --config recipes/X.yaml and any flag of TRL's GRPOConfig; --dry-run."""
    from star_r1.train.grpo import main as run
    from star_r1.train.run import leave

    leave(run(context.args))


@train_app.command("sft", **_PASS_ON)
def train_sft(context: typer.Context) -> None:
    """Train on the answers: --config recipes/X.yaml, any flag of TRL's SFTConfig; --dry-run."""
    from star_r1.train.run import leave
    from star_r1.train.sft import main as run

    leave(run(context.args))


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


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if not match:
        raise UserError(f"--shard {text}: give i/n, such as 2/8 for the second of eight parts")
    return int(match[1]), int(match[2])


def _print_counts(splits: "Mapping[str, Counts]") -> None:
    """How the rows are spread, one line a count."""
    from rich.console import Console

    console = Console()
    for split, counts in splits.items():
        console.print(f"[bold]{split}[/bold]  {counts.samples} samples, {counts.rows} rows")
        for title, table in counts.tables().items():
            if table:
                line = "  ".join(f"{key} {n}" for key, n in table.items())
                console.print(f"[dim]{title}:[/dim] {line}", highlight=False)


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


if __name__ == "__main__":
    main()
