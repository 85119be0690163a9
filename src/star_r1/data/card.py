"""The dataset card: what every column holds, how the rows are spread, where they come from."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from star_r1 import __version__
from star_r1.data.counts import Counts
from star_r1.data.shards import DEPTH_LIMIT, DEPTH_UNIT
from star_r1.render.visibility import BACKGROUND
from star_r1.tvr.vocabulary import (
    CAMERA_FOV_X,
    CELL,
    MIN_VISIBLE_PIXELS,
    REFERENCE_SIZE,
    STEP_CELLS,
    TABLE_CELLS,
    VISIBLE_CELLS,
)

_REFERENCE: Final = "{}x{}".format(*REFERENCE_SIZE)

FIELDS: Final[dict[str, tuple[str, str]]] = {
    "id": (
        "string",
        "Name of the sample, `-`, view of the final picture, such as `000012-left`. Unique in its "
        "split.",
    ),
    "images": (
        "List(Image)",
        "Two RGB pictures (PNG): the initial one, always seen from `center`, then the final one.",
    ),
    "prompt": (
        "list of messages",
        "Chat messages: a system message with task, vocabulary and output format, and a user "
        "message with two image placeholders and the visible initial objects, one a line, as "
        "`index: size color material shape`; where objects move, all ten with their places. "
        "`text` is null in a placeholder.",
    ),
    "answer": (
        "string",
        "The true changes as a model should write them: `2.color.cyan, 0.shape.cube`. Their order "
        "carries no meaning, unless objects move.",
    ),
    "view": ("string", "Camera of the final picture; a key of `cameras` in `rig`."),
    "initial": (
        "string (JSON)",
        "The ten objects before the changes, in order of their index: `index` 0-9, `color`, "
        f"`shape`, `size`, `material`, `position` ([x, y], integer cells of {CELL} world units, x "
        "toward the center camera, y to its right), `rotation` (radians about the vertical). An "
        f"object is in the picture where both coordinates lie in -{VISIBLE_CELLS}..{VISIBLE_CELLS}"
        f", else hidden; none is outside -{TABLE_CELLS}..{TABLE_CELLS}.",
    ),
    "final": ("string (JSON)", "The same ten objects after the changes."),
    "changes": (
        "string (JSON)",
        "The true changes in the order in which they were made: a list of `index`, `attribute`, "
        "`value` (the new one). The value of `position` is a move, `direction.steps`: "
        f"`front-left.2` goes 2 x {STEP_CELLS} cells toward -x and as many toward -y. `options`, "
        "of a move out of sight, are all the moves that are right answers as well. Without "
        "`position` no (index, attribute) occurs twice.",
    ),
    "rig": (
        "string (JSON)",
        "`cameras` (center, left, right and those of other views) and `lamps` (key, fill, back) "
        "-> [x, y, z] in world units, with the jitter of this sample; the same before and after.",
    ),
    "pixels": (
        "string (JSON)",
        "`initial` and `final` -> index of a visible object -> its visible pixels in that "
        f"picture, measured at {_REFERENCE} whatever the size. Below {MIN_VISIBLE_PIXELS} an "
        "object counts as occluded (TRANCE).",
    ),
    "vocabulary": (
        "string (JSON)",
        "`colors` (name -> RGB 0-255, linear reflectance), `sizes` (name -> radius on the floor in "
        "world units), `shapes`, `materials`: what objects may look like. `attributes`: which of "
        "their attributes may change.",
    ),
    "masks": (
        "List(Image)",
        "Of both pictures, at their size, 8 bits: the index of the object that the centre of each "
        f"pixel shows, {BACKGROUND} where there is none. Glass hides what is behind it.",
    ),
    "boxes": (
        "string (JSON)",
        "`initial` and `final` -> index of an object -> [x0, y0, x1, y1], the bounding box of its "
        "mask in pixels from the top left corner, x1 and y1 exclusive. An object without pixels "
        "has none.",
    ),
    "depth": (
        "List(Image)",
        "Of both pictures, at their size, 16 bits: how far along the axis of the camera (z-depth, "
        "not the length of the ray) the object or floor at the centre of each pixel is, in steps "
        f"of {DEPTH_UNIT} world units; {DEPTH_LIMIT} where there is nothing.",
    ),
}
"""Column -> (type, meaning); those of ``EXTRA_FEATURES`` last."""

_GEOMETRY: Final = f"""\
World coordinates are right-handed: x toward the center camera, y to its right, z up, the floor at
z = 0. A cell is {CELL} world units; thin lines on the floor, a little lighter than it, mark the
visible square, {CELL * VISIBLE_CELLS:g} units from the origin on each side. An object stands on the
floor at its position: a sphere or cylinder has its size's radius r (a cylinder is 2 r high), a cube
half edges of r / sqrt(2).

Cameras are pinholes at `cameras` of `rig` that look at the origin with z up (from above the table,
`top`, with -x up). In a picture of W x H pixels the focal length is
f = W / 2 / tan({CAMERA_FOV_X} deg / 2) pixels on both axes, the principal point (W / 2, H / 2).
With F the unit vector from the camera C to the origin, R = F x z made a unit vector and D = F x R,
a world point P is at depth d = (P - C) . F in column W / 2 + f ((P - C) . R) / d and row
H / 2 + f ((P - C) . D) / d; the centre of the first pixel is (0.5, 0.5).
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a dataset comes from.

    Attributes:
        title: of the card.
        about: paragraphs of Markdown: whose scenes and whose pictures these are.
        command: what makes the same bytes again.
        license: the Hub's name of it, such as ``cc-by-nc-4.0``; None where nobody has said.
    """

    title: str
    about: str
    command: str
    license: str | None = None


def write_card(splits: Mapping[str, Counts], origin: Origin, extras: Collection[str] = ()) -> str:
    """The card (Markdown with the YAML header of the Hugging Face Hub) of a dataset.

    Args:
        splits: name of each, as in the names of the shards -> its counts.
        origin: where it comes from.
        extras: the columns of ``EXTRA_FEATURES`` that it has.
    """
    rows = sum(counts.rows for counts in splits.values())
    samples = sum(counts.samples for counts in splits.values())
    license_line = f"license: {origin.license}\n" if origin.license else ""
    files = "\n".join(f"  - split: {name}\n    path: data/{name}-*" for name in splits)
    columns = [name for name in FIELDS if name not in ("masks", "boxes", "depth") or name in extras]
    fields = "\n".join(f"| `{name}` | {FIELDS[name][0]} | {FIELDS[name][1]} |" for name in columns)
    return f"""\
---
pretty_name: {origin.title}
{license_line}task_categories:
- image-text-to-text
- visual-question-answering
language:
- en
tags:
- transformation-driven-visual-reasoning
- trance
- synthetic
size_categories:
- {_size_category(rows)}
configs:
- config_name: default
  data_files:
{files}
---

# {origin.title}

Transformation-driven visual reasoning: an initial and a final picture of one table, the latter
perhaps from another camera; name every change of an object. {samples} samples, {rows} rows: one
row a (sample, view).

{origin.about}

```
{origin.command}
```

```python
from datasets import load_dataset

row = load_dataset("DIR", split="{next(iter(splits))}")[0]
initial, final = row["images"]
```

`manifest.json` has the size, rows and SHA-256 of every file; `star-r1 verify DIR` checks them.

## Fields

| column | type | meaning |
|---|---|---|
{fields}

## Geometry

{_GEOMETRY}
## Counts

{_table(splits)}

Written by star-r1 {__version__}.
"""


def _table(splits: Mapping[str, Counts]) -> str:
    """What occurs how often, a column a split."""
    lines = [f"| what | {' | '.join(splits)} |", "|---" * (len(splits) + 1) + "|"]
    tables = [counts.tables() for counts in splits.values()]
    for title in tables[0]:
        cells = [", ".join(f"{key}: {n}" for key, n in table[title].items()) for table in tables]
        if any(cells):
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _size_category(rows: int) -> str:
    """The Hub's name for a dataset of so many rows.

    >>> _size_category(999), _size_category(20_000)
    ('n<1K', '10K<n<100K')
    """
    steps = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next(
        (name for limit, name in steps if rows < limit), "100K<n<1M" if rows < 10**6 else "n>1M"
    )
