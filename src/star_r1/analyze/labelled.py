"""The reader of reasonings against labels: precision and recall."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from star_r1.analyze.reading import Reading, read_reasoning
from star_r1.errors import UserError
from star_r1.tvr.change import parse_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import N_OBJECTS, TABLE_CELLS

FIELDS: Final = ("mentioned", "compared", "corresponding", "stated")
"""What is compared: sets of objects, and of changes."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A completion and what a person found in it.

    Attributes:
        id: such as ``dev-07``.
        sample: what was asked about.
        completion: the whole text.
        mentioned: indices, by first mention.
        labels: field of ``FIELDS`` -> indices, or changes as text.
    """

    id: str
    sample: Sample
    completion: str
    mentioned: tuple[int, ...]
    labels: dict[str, frozenset[Any]]


def read_labelled(path: Path, prefix: str = "") -> list[Labelled]:
    """The completions of a file of labels whose id begins with ``prefix``.

    Args:
        path: one JSON object a line: ``id``, ``view``, ``initial`` (pairs of an index and "size
            color material shape"), ``truth``, ``completion`` and ``FIELDS``.
        prefix: ``dev-`` or ``test-`` for one half of this project's labels.

    Raises:
        UserError: the file cannot be read, or a line is no such object.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # texts may hold other line ends
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}; give a file of labelled completions") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if row["id"].startswith(prefix):
                found.append(_labelled(row))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}:{number}: no labelled completion ({error})") from None
    return found


def _labelled(row: dict[str, Any]) -> Labelled:
    shown = {index: description.split() for index, description in row["initial"]}
    objects = []
    for index in range(N_OBJECTS):
        size, color, material, shape = shown.get(index, ("small", "gray", "rubber", "cube"))
        place = (0 if index in shown else TABLE_CELLS, 4 * index - 18)  # in sight, or not
        objects.append(Object(index, color, shape, size, material, place))
    sample = Sample(
        f"{row['id']}-{row['view']}",
        Scene(tuple(objects)),
        parse_changes(row["truth"]),
        row["view"],
    )
    labels = {field: frozenset(row[field]) for field in FIELDS}
    return Labelled(row["id"], sample, row["completion"], tuple(row["mentioned"]), labels)


def validate(path: Path, prefix: str = "") -> dict[str, Any]:
    """How well the reader finds what a person found.

    Args:
        path, prefix: see ``read_labelled``.

    Returns:
        ``n`` completions; ``order``, the share of them whose objects are mentioned in exactly the
        labelled order; and field -> ``precision``, ``recall`` over all objects (for ``stated``
        changes) of all completions together, with the counts ``found``, ``labelled``, ``both``.

    Raises:
        UserError: as ``read_labelled``.
    """
    rows = read_labelled(path, prefix)
    readings = [read_reasoning(row.completion, row.sample) for row in rows]
    in_order = [
        reading.mentioned == row.mentioned for reading, row in zip(readings, rows, strict=True)
    ]
    figures: dict[str, Any] = {"n": len(rows), "order": sum(in_order) / max(len(rows), 1)}
    for field in FIELDS:
        pairs = [
            (found_in(reading, field), row.labels[field])
            for reading, row in zip(readings, rows, strict=True)
        ]
        figures[field] = precision_recall(pairs)
    return figures


def found_in(reading: Reading, field: str) -> frozenset[Any]:
    """A field of a reading in the form of the labels: indices, or changes as text."""
    if field == "stated":
        return frozenset(map(str, reading.stated))
    return frozenset(getattr(reading, field))


def precision_recall(
    pairs: Sequence[tuple[frozenset[Any], frozenset[Any]]],
) -> dict[str, float | int | None]:
    """Micro-averaged precision and recall of sets against the sets that they should be.

    Args:
        pairs: found, wanted. A ratio of nothing is None.

    >>> precision_recall([(frozenset({1, 2}), frozenset({1})), (frozenset(), frozenset({4}))])
    {'precision': 0.5, 'recall': 0.5, 'found': 2, 'labelled': 2, 'both': 1}
    """
    found = sum(len(one) for one, _ in pairs)
    wanted = sum(len(other) for _, other in pairs)
    both = sum(len(one & other) for one, other in pairs)
    return {
        "precision": both / found if found else None,
        "recall": both / wanted if wanted else None,
        "found": found,
        "labelled": wanted,
        "both": both,
    }
