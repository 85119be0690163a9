"""Commands that make, check, import, export and show data."""

import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from star_r1.cli.options import Workers
from star_r1.errors import UserError

if TYPE_CHECKING:
    from star_r1.data.counts import Counts
    from star_r1.data.intake import Imported

app = typer.Typer()
import_app = typer.Typer(help="Turn data of others into a dataset, checking every sample.")
app.add_typer(import_app, name="import")

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
    workers: Workers = 1,
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
        Literal["trance", "reason-rft", "jsonl", "verl", "easyr1", "ms-swift", "lmms-eval"],
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
    """Write a dataset as TRANCE or Reason-RFT have theirs, or to train or evaluate elsewhere."""
    chosen = tuple(views.split(",")) if views is not None else None
    if layout in ("verl", "easyr1", "ms-swift"):
        from star_r1.data.export_engines import export_engine

        exported = export_engine(layout, data, out, chosen, val)
    elif val is not None:
        raise UserError(f"--val {val}: {layout} has no such part; export it by itself")
    elif layout == "lmms-eval":
        from star_r1.data.export_lmms_eval import export_lmms_eval

        exported = export_lmms_eval(data, out, chosen)
    else:
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


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if not match:
        raise UserError(f"--shard {text}: give i/n, such as 2/8 for the second of eight parts")
    return int(match[1]), int(match[2])


def _print_counts(splits: "Mapping[str, Counts]") -> None:
    """How the rows are spread, one line a count."""
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    for split, counts in splits.items():
        console.print(f"[bold]{escape(split)}[/bold]  {counts.samples} samples, {counts.rows} rows")
        for title, table in counts.tables().items():
            if table:
                line = "  ".join(f"{key} {n}" for key, n in table.items())
                console.print(f"[dim]{title}:[/dim] {escape(line)}", highlight=False)
