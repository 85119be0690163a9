"""How the rows of a dataset are spread: what its card says, and ``verify`` prints."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from star_r1.tvr.rules import move_type, moved
from star_r1.tvr.vocabulary import VISIBLE_CELLS

COUNTED: Final = ("id", "view", "initial", "changes")
"""The columns that ``count`` reads."""


@dataclass(slots=True)
class Counts:
    """What occurs how often in the rows that were added.

    Attributes:
        views: rows by view of the final picture.
        visible: samples by visible objects of the initial picture.
        changes: samples by number of changes.
        attributes: changes by attribute.
        values: changes by new value, such as ``color.cyan``.
        objects: changes by index of the object.
        moves: moves by type: inner (in sight before and after), out, in, other (TRANCE has none).
    """

    views: Counter[str] = field(default_factory=Counter)
    visible: Counter[int] = field(default_factory=Counter)
    changes: Counter[int] = field(default_factory=Counter)
    attributes: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    objects: Counter[int] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    _last: str | None = None

    @property
    def rows(self) -> int:
        """One a (sample, view)."""
        return self.views.total()

    @property
    def samples(self) -> int:
        """Scenes with their changes, each seen from some views."""
        return self.visible.total()

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row, of which nothing is kept.

        Args:
            row: columns ``COUNTED``. The rows of one sample follow each other: what they have in
                common counts once.
        """
        self.views[row["view"]] += 1
        sample = row["id"].rpartition("-")[0]
        if sample == self._last:
            return
        self._last = sample
        places: dict[int, tuple[int, int]] = {
            thing["index"]: (thing["position"][0], thing["position"][1])
            for thing in json.loads(row["initial"])
        }
        changes = json.loads(row["changes"])
        self.visible[sum(map(_in_sight, places.values()))] += 1
        self.changes[len(changes)] += 1
        for change in changes:
            index, attribute, value = change["index"], change["attribute"], change["value"]
            self.objects[index] += 1
            self.attributes[attribute] += 1
            self.values[f"{attribute}.{value}"] += 1
            if attribute == "position":
                before, places[index] = places[index], moved(places[index], value)
                self.moves[move_type(before, places[index]) or "other"] += 1

    def tables(self) -> dict[str, dict[Any, int]]:
        """Title of each count -> what was counted, in order -> how often it occurs."""
        return {
            "rows by view": dict(self.views),
            "samples by visible objects": _sorted(self.visible),
            "samples by changes": _sorted(self.changes),
            "changes by attribute": dict(self.attributes.most_common()),
            "changes by new value": _sorted(self.values),
            "changes by object": _sorted(self.objects),
            "moves by type": _sorted(self.moves),
        }


def count(rows: Iterable[Mapping[str, Any]]) -> Counts:
    """Count rows in their order, holding none of them; columns as ``Counts.add``."""
    counts = Counts()
    for row in rows:
        counts.add(row)
    return counts


def _sorted(counter: Counter[Any]) -> dict[Any, int]:
    return dict(sorted(counter.items()))


def _in_sight(cell: tuple[int, int]) -> bool:
    return max(map(abs, cell)) <= VISIBLE_CELLS
