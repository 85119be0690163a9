"""The dataset card: what every column holds, how the rows are spread, what made them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from star_r1 import __version__
from star_r1.tvr.scene import Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, MIN_VISIBLE_PIXELS, VIEWS

FIELDS: Final[dict[str, tuple[str, str]]] = {
    "id": ("string", "Index of the sample (six digits), `-`, view of the final picture. Unique."),
    "images": (
        "List(Image)",
        "Two RGB pictures (PNG): the initial one, always seen from `center`, then the final one.",
    ),
    "prompt": (
        "list of messages",
        "Chat messages: a system message with task, vocabulary and output format, and a user "
        "message with two image placeholders and the visible initial objects, one a line, as "
        "`index: size color material shape`. `text` is null in a placeholder.",
    ),
    "answer": (
        "string",
        "The true changes as a model should write them: `2.color.cyan, 0.shape.cube`. "
        "Their order carries no meaning.",
    ),
    "view": ("string", f"Camera of the final picture: {', '.join(f'`{v}`' for v in VIEWS)}."),
    "initial": (
        "string (JSON)",
        "The ten objects before the changes, in order of their index: `index` 0-9, `color`, "
        "`shape`, `size`, `material`, `position` ([x, y], integer cells of 0.15 world units, x "
        "toward the center camera, y to its right), `rotation` (radians about the vertical). An "
        "object is in the picture where both coordinates lie in -20..20, else hidden.",
    ),
    "final": ("string (JSON)", "The same ten objects after the changes."),
    "changes": (
        "string (JSON)",
        "The true changes in the order in which they were made: a list of `index`, `attribute` "
        "(color, shape, size, material), `value` (the new one). No (index, attribute) occurs "
        "twice.",
    ),
    "rig": (
        "string (JSON)",
        "`cameras` (center, left, right) and `lamps` (key, fill, back) -> [x, y, z] in world "
        "units, with the jitter of this sample; the same before and after.",
    ),
    "pixels": (
        "string (JSON)",
        "`initial` and `final` -> index of a visible object -> its visible pixels in that "
        f"picture, measured at 320x240 whatever the size. Below {MIN_VISIBLE_PIXELS} an object "
        "counts as occluded (TRANCE); a changed one never is.",
    ),
}
"""Column -> (type, meaning)."""

COUNTED: Final = ("id", "view", "initial", "changes")
"""The columns that ``write_card`` counts."""


def write_card(rows: Iterable[Mapping[str, Any]], split: str, command: str) -> str:
    """The card (Markdown with the YAML header of the Hugging Face Hub) of a dataset.

    Args:
        rows: columns ``COUNTED`` of all its rows.
        split: its name, as in the names of the shards.
        command: what made it.
    """
    views: Counter[str] = Counter()
    visible: Counter[int] = Counter()
    changes: Counter[int] = Counter()
    attributes: Counter[str] = Counter()
    samples: set[str] = set()
    for row in rows:
        views[row["view"]] += 1
        sample = row["id"].rsplit("-", 1)[0]
        if sample not in samples:  # its other rows show the same scene and changes
            samples.add(sample)
            visible[len(Scene.from_json(row["initial"]).visible)] += 1
            changed = json.loads(row["changes"])
            changes[len(changed)] += 1
            attributes.update(change["attribute"] for change in changed)
    header = f"""\
---
pretty_name: TVR pairs rendered by star-r1
task_categories:
- image-text-to-text
- visual-question-answering
language:
- en
tags:
- transformation-driven-visual-reasoning
- trance
- synthetic
size_categories:
- {_size_category(views.total())}
configs:
- config_name: default
  data_files:
  - split: {split}
    path: data/{split}-*
---
"""
    fields = "\n".join(f"| `{name}` | {type_} | {text} |" for name, (type_, text) in FIELDS.items())
    counts: dict[str, list[tuple[Any, int]]] = {
        "rows by view": [(view, views[view]) for view in VIEWS if views[view]],
        "samples by visible objects": sorted(visible.items()),
        "samples by changes": sorted(changes.items()),
        "changes by attribute": [(name, attributes[name]) for name in ATTRIBUTES],
    }
    table = "\n".join(
        f"| {title} | {', '.join(f'{key}: {n}' for key, n in items)} |"
        for title, items in counts.items()
    )
    return f"""\
{header}
# TVR pairs rendered by star-r1

Transformation-driven visual reasoning: an initial and a final picture of one table, the latter
from the center, the left or the right camera; name every change of an object's color, shape,
size or material. Scenes, cameras and lamps follow the TRANCE dataset (Hong et al., CVPR 2021)
without its position changes; the pictures are rendered by star-r1 {__version__}. {len(samples)} \
samples,
{views.total()} rows: one row a (sample, view).

```
{command}
```

The same command gives the same bytes again, whatever `--workers`.

```python
from datasets import load_dataset

row = load_dataset("DIR", split="{split}")[0]
initial, final = row["images"]
```

## Fields

| column | type | meaning |
|---|---|---|
{fields}

## Counts

| what | how many |
|---|---|
{table}
"""


def _size_category(rows: int) -> str:
    """The Hub's name for a dataset of so many rows.

    >>> _size_category(999), _size_category(20_000)
    ('n<1K', '10K<n<100K')
    """
    steps = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next(
        (name for limit, name in steps if rows < limit), "100K<n<1M" if rows < 10**6 else "n>1M"
    )
