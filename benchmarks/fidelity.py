"""How true the pictures are: the same scenes by both renderers beside TRANCE's real pictures.

    python benchmarks/fidelity.py --out results/fidelity --cache DIR

A small classifier learns color, shape, size and material from crops of our renders alone, and then
names them in TRANCE's real pictures; one that learned from Blender Cycles' renders of the same
scenes is the yardstick. Strips of the same scenes are for the eye. It needs the extras ``render``
and ``train``, Cycles as ``star_r1.render.cycles`` finds it, and some real samples in TRANCE's
published layout. Pictures are kept in the cache: stopped, it goes on when called again.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from fidelity.classifier import BATCH, EPOCHS, LEARNING_RATE, Classifier, predict, train
from fidelity.crops import HALF_WIDTH, Crops, cut
from fidelity.pictures import (
    RENDERERS,
    SAMPLES_PER_PIXEL,
    SIZE,
    ShotList,
    draw,
    drawn_shots,
    read_real,
    real_shots,
)
from fidelity.scores import (
    COLUMNS,
    SLICES,
    accuracy,
    confusions,
    correctness,
    interval,
    slices,
)
from fidelity.strips import FITTED, fitted_shots, strip
from PIL import Image

from star_r1.errors import UserError
from star_r1.files import write_atomic
from star_r1.provenance import provenance
from star_r1.tvr.vocabulary import VALUES

ROOT: Final = Path(__file__).resolve().parents[1]
NAMES: Final = {"mitsuba": "Mitsuba (ours)", "cycles": "Cycles", "real": "real TRANCE"}

TRAINING: Final = ShotList(seed=20, pictures=800, visible=(5, 10))
HELD_OUT: Final = ShotList(seed=21, pictures=100, visible=(1, 10))
"""Training scenes are full, for many crops a picture; the others are as full as TRANCE's."""
SEEDS: Final = (0, 1, 2)


def main() -> None:
    """Draw, train, test, write; one line instead of a traceback where the input is wrong."""
    flags = _flags()
    torch.set_num_threads(1)
    try:
        real = real_shots(flags.real)
        training, held_out = drawn_shots(TRAINING), drawn_shots(HELD_OUT)
        originals, copies = fitted_shots(real)
        drawn = {
            name: draw(name, [*training, *held_out, *copies], flags.cache) for name in RENDERERS
        }

        first, last = len(training), len(training) + len(held_out)
        crops = {name: cut(training, drawn[name][:first]) for name in RENDERERS}
        tests = {name: cut(held_out, drawn[name][first:last]) for name in RENDERERS}
        tests["real"] = cut(real, [read_real(shot) for shot in real])
        result = {
            "command": "python benchmarks/fidelity.py",  # its flags name folders only
            **provenance(),
            "settings": _settings(),
            "counts": _counts(len(real), crops, tests),
            **_compare(crops, tests),
        }
        rows = [f"TRANCE\n{fit.sample}\n{fit.view}" for fit in FITTED]
        columns = {NAMES[name]: drawn[name][last:] for name in RENDERERS}
        write_atomic(flags.out / "strip.png", _png(strip(rows, columns)))
        if flags.with_real:
            pictures = [read_real(shot) for shot in originals]
            sheet = strip(rows, {NAMES["real"]: pictures, **columns})
            write_atomic(flags.with_real / "strip-with-real.png", _png(sheet))
        write_atomic(flags.out / "README.md", _page(result))
        write_atomic(flags.out / "classifier.json", json.dumps(result, indent=1) + "\n")
    except UserError as error:
        sys.exit(f"error: {error}")
    print(_table(result))


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How true the pictures are; see the module.")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "fidelity")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "star-r1-fidelity",
        help="folder that keeps the renders for the next call",
    )
    parser.add_argument(
        "--real",
        type=Path,
        default=ROOT.parent / "shared" / "trance_sample",
        help="real samples in TRANCE's published layout: data.json, image/",
    )
    parser.add_argument(
        "--with-real",
        type=Path,
        metavar="DIR",
        help="folder outside the repository for the strip with real pictures (CC BY-NC 4.0)",
    )
    flags = parser.parse_args()
    if flags.with_real and flags.with_real.resolve().is_relative_to(ROOT):
        parser.error("--with-real: real pictures do not belong into the repository")
    return flags


def _compare(crops: dict[str, Crops], tests: dict[str, Crops]) -> dict[str, Any]:
    """Train on each renderer with each seed, and test on everything."""
    predictions: dict[str, dict[str, list[Any]]] = {}
    for name in RENDERERS:
        predictions[name] = {test: [] for test in tests}
        for seed in SEEDS:
            print(f"Training on {NAMES[name]}, seed {seed}", file=sys.stderr, flush=True)
            model = train(crops[name], seed)
            for test in tests:
                predictions[name][test].append(predict(model, tests[test]))
    real = tests["real"]
    ours, yardstick = (correctness(predictions[name]["real"], real) for name in RENDERERS)
    cells = interval(ours - yardstick, real.samples)
    return {
        "accuracy": {
            name: {test: accuracy(found[test], tests[test]) for test in tests}
            for name, found in predictions.items()
        },
        "ours_minus_cycles_on_real": dict(zip(COLUMNS, cells, strict=True)),
        "real_by_value": {name: slices(found["real"], real) for name, found in predictions.items()},
        "confusions_on_real": {
            name: confusions(found["real"], real) for name, found in predictions.items()
        },
    }


def _settings() -> dict[str, Any]:
    return {
        "size": SIZE,
        "samples_per_pixel": SAMPLES_PER_PIXEL,
        "training": TRAINING._asdict(),
        "held_out": HELD_OUT._asdict(),
        "seeds": SEEDS,
        "epochs": EPOCHS,
        "batch": BATCH,
        "learning_rate": LEARNING_RATE,
        "parameters": sum(p.numel() for p in Classifier().parameters()),
        "crop_width": 2 * HALF_WIDTH,
    }


def _counts(pictures: int, crops: dict[str, Crops], tests: dict[str, Crops]) -> dict[str, Any]:
    return {
        "training_crops": {name: len(found.pixels) for name, found in crops.items()},
        "test_crops": {name: len(found.pixels) for name, found in tests.items()},
        "real_pictures": pictures,
        "real_samples": len(set(tests["real"].samples.tolist())),
    }


def _table(result: dict[str, Any]) -> str:
    """Every classifier on every test, in Markdown."""
    rows = [
        [NAMES[name], NAMES[test], *(_cell(scores[column]) for column in COLUMNS)]
        for test in ("real", *RENDERERS)
        for name in RENDERERS
        for scores in [result["accuracy"][name][test]]
    ]
    return _markdown(["trained on", "tested on", *COLUMNS], rows)


def _page(result: dict[str, Any]) -> str:
    """The README of the folder."""
    counts, settings = result["counts"], result["settings"]
    machine = result["machine"]
    by_value = [
        [value, str(cells["crops"]), NAMES[name], *(f"{100 * cells[c]:.1f}" for c in COLUMNS)]
        for attribute in SLICES
        for value in VALUES[attribute]
        for name in RENDERERS
        for cells in [result["real_by_value"][name][value]]
    ]
    mistakes = [
        [
            NAMES[name],
            attribute,
            ", ".join(f"{row['is']} → {row['named']} {row['crops']:g}" for row in rows) or "none",
        ]
        for name in RENDERERS
        for attribute, rows in result["confusions_on_real"][name].items()
    ]
    difference = [_signed(result["ours_minus_cycles_on_real"][column]) for column in COLUMNS]
    training, held_out = settings["training"]["pictures"], settings["held_out"]["pictures"]
    return f"""# Fidelity

Written by `{result["command"]}`
(commit {result["commit"]}, {result["date"]}, {machine["processor"]}, {machine["cores"]} cores).

## A classifier that knows our renders alone

A small network ({settings["parameters"]} weights) learns color, shape, size and material from
{counts["training_crops"]["mitsuba"]} crops of {training} renders at {SIZE[0]} x {SIZE[1]}, and then
names them in {counts["test_crops"]["real"]} crops of the {counts["real_pictures"]} real pictures of
{counts["real_samples"]} TRANCE samples: every object with at least 150 mask pixels at 320 x 240.
The yardstick learns from Blender Cycles' renders of the same scenes. Crops are cut in the same way
everywhere: around the object's place on the floor as the camera without jitter sees it,
{settings["crop_width"]:g} world units wide whatever the object's size. The classifier was neither
trained nor tuned on real pictures; the looks of our renders were compared with them. Percent
right, mean of {len(SEEDS)} seeds, with 95 % intervals (bootstrap by sample); {held_out} held-out
renders each.

{_table(result)}

Ours less Cycles on real pictures, in points: {
        ", ".join(f"{column} {cell}" for column, cell in zip(COLUMNS, difference, strict=True))
    }.

On real pictures, by what the object is:

{_markdown(["object", "crops", "trained on", *COLUMNS], by_value)}

The commonest mistakes on real pictures (truth → named, crops a seed):

{_markdown(["trained on", "attribute", "mistakes"], mistakes)}

## For the eye

Scenes of real samples, by both renderers. Where cameras and lamps stood and how cubes were turned,
which the published data leave out, was found by fitting the real pictures. Those are CC BY-NC 4.0
and not part of this repository: `--with-real DIR` writes the strip with them into a folder.

![The same scenes by Mitsuba and by Cycles](strip.png)
"""


def _cell(score: dict[str, float]) -> str:
    return f"{100 * score['mean']:.1f} ({100 * score['low']:.1f}-{100 * score['high']:.1f})"


def _signed(score: dict[str, float]) -> str:
    low, high = (f"{100 * score[end]:+.1f}" for end in ("low", "high"))
    return f"{100 * score['mean']:+.1f} ({low} to {high})"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
