"""The classical baseline: changes from the colors and outlines of segmented objects, unlearned.

All it knows beforehand are the numbers of the studio: where the cameras stand before jitter, how
large the shapes are, and how the three materials look. Every object of the table is paired with a
segment of the final picture, and takes the attributes that explain the segment best, where each
change costs as much as it is rare.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import product
from typing import Any, Final

import numpy as np

from star_r1.errors import UserError
from star_r1.evaluate.outlines import Bits, Fit, Outline, fit, outlines
from star_r1.render.cameras import Floats
from star_r1.render.visibility import Mask, instance_mask
from star_r1.tvr.change import Change
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import UNKNOWN_RIG, Object
from star_r1.tvr.vocabulary import ATTRIBUTES, Vocabulary


@dataclass(frozen=True, slots=True)
class Material:
    """How a material looks: means and spreads (standard deviations) over objects.

    Attributes:
        gain, power: its median pixel, in linear light, is about gain * albedo ** power. Light
            passes the colored glass more than once.
        brightness: spread of the logarithm of that, its mean over red, green and blue.
        tint: spread of each of the three about that mean.
        relief, relief_spread: see ``Look``.
    """

    gain: float
    power: float
    brightness: float
    tint: float
    relief: float
    relief_spread: float


MATERIALS: Final[dict[str, Material]] = {
    "rubber": Material(0.355, 1.0, 0.15, 0.035, -1.39, 0.23),
    "metal": Material(0.26, 1.0, 0.18, 0.04, -0.36, 0.47),
    "glass": Material(0.11, 1.5, 0.39, 0.16, -0.32, 0.29),
}
"""Of Mitsuba's pictures. These numbers and those below were measured and chosen on 450 pairs (seed
4077, 160 x 120) that are no part of any test set."""

CHANGED: Final = 0.2
"""Chance that some attribute of an object changed. It is one in ten in truth; but deviations cost
less here than normal ones would (``_FREEDOM``)."""
MISFIT: Final = 0.06
"""Spread of the misfit of the right shape, whose edges meet those of the pixels only nearly."""
PLACE: Final = 0.2
"""Spread of the distance between both places of an object, world units: jitter of the cameras."""
STEADY: Final = 0.5
"""Spreads of brightness and relief shrink by this where light and view are the same."""
_FREEDOM: Final = 6.0
"""Beyond so many squared spreads a deviation costs ever less: highlights and hidden parts are far
from normal."""
_UNPAIRED: Final = 100.0
"""Cost of an object that no segment shows: more than that of any poor match."""
_DARK: Final = 0.002
"""Added to light before its logarithm is taken, so that black has one."""
_STEPS: Final = 8
"""Neighbouring pixels that a relief is the mean of, at least."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the pixels of a segment look like.

    Attributes:
        color: logarithm of the median linear red, green and blue.
        relief: logarithm of the mean step in brightness from pixel to pixel inside, as it would be
            at one size of the object: mirrors and glass have sharp edges. None on small segments.
    """

    color: Floats
    relief: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """An object in one picture."""

    outline: Outline
    look: Look


def compare_pixels(
    sample: Sample, images: Sequence[Any], rng: np.random.Generator
) -> tuple[Change, ...]:
    """Find the changes of looks; moves are not looked for.

    It uses what a model is given, that is both pictures, table and view, and besides them the
    segments of the objects: in the initial picture by index, in the final one without it, in an
    order of chance. Of the sample's truth nothing else is used.

    1. Every shape and size is laid over every segment (``outlines.fit``); that gives its misfit and
       the place on the table.
    2. An object and a segment belong together as far as place, outline, color and relief agree, at
       the attributes that cost least. How a color and material look follows from the albedo. Where
       both pictures are from one view, an object's look and outline in the initial one say more.
    3. The pairing of least total cost is taken, and the attributes that it implies.

    Args:
        sample: its truth makes the segments.
        images: the initial and the final picture, Pillow images.
        rng: orders the segments.

    Raises:
        UserError: nobody knows where the objects stand (imported data): there are no segments.
    """
    if sample.rig == UNKNOWN_RIG:
        raise UserError(
            f"{sample.id}: no segments of its objects: this data does not say where cameras and "
            "objects stand, which baseline:pixels needs; choose another baseline"
        )
    first, second = images
    initial = instance_mask(sample.initial, sample.rig, "center", first.size)
    final = instance_mask(sample.final, sample.rig, sample.view, second.size)
    before = _segments(initial, first)
    unnamed = list(_segments(final, second).values())
    after = [unnamed[place] for place in rng.permutation(len(unnamed))]

    vocabulary, view = sample.vocabulary, sample.view
    forms = [_fits(segment.outline, view, vocabulary) for segment in after]
    things = sample.initial.visible
    costs = np.zeros((len(things), len(after)))
    values: dict[tuple[int, int], dict[str, str]] = {}
    for row, thing in enumerate(things):
        seen = before.get(thing.index)
        known = seen if view == "center" else None
        place = None
        if seen is not None:
            place = fit(seen.outline, thing.shape, thing.size, "center", vocabulary).place
        for column, segment in enumerate(after):
            look, color = _best_color(thing, known, segment.look, vocabulary)
            form, shape = _best_form(
                thing, known, place, segment.outline, forms[column], vocabulary
            )
            costs[row, column] = look + form
            values[row, column] = color | shape
    return tuple(
        Change(thing.index, attribute, values[row, column][attribute])
        for row, (thing, column) in enumerate(zip(things, assign(costs, _UNPAIRED), strict=True))
        if column is not None
        for attribute in ATTRIBUTES
        if values[row, column][attribute] != thing.attribute(attribute)
    )


def assign(costs: Floats, unpaired: float) -> tuple[int | None, ...]:
    """Pair rows with columns at least total cost, exactly, over subsets of the columns.

    Args:
        costs: shape (rows, columns), at most ten columns or so.
        unpaired: what a row without a column costs.

    Returns:
        The column of each row, each column once at most, None where it has none.

    >>> assign(np.array([[1.0, 2.0], [1.5, 9.0], [7.0, 7.0]]), unpaired=5.0)
    (1, 0, None)
    """
    table = costs.tolist()

    @cache
    def best(row: int, used: int) -> tuple[float, tuple[int | None, ...]]:
        if row == len(table):
            return 0.0, ()
        cost, rest = best(row + 1, used)
        found: tuple[float, tuple[int | None, ...]] = (cost + unpaired, (None, *rest))
        for column, own in enumerate(table[row]):
            if not used >> column & 1:
                cost, rest = best(row + 1, used | 1 << column)
                if cost + own < found[0]:
                    found = cost + own, (column, *rest)
        return found

    return best(0, 0)[1]


def _segments(mask: Mask, picture: Any) -> dict[int, Segment]:
    srgb = np.asarray(picture.convert("RGB"), np.float64) / 255
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return {
        label: Segment(outline, _look(light, outline)) for label, outline in outlines(mask).items()
    }


def _look(light: Floats, outline: Outline) -> Look:
    own = outline.own
    return Look(_log(np.median(light[own], axis=0)), _relief(light.mean(-1), own, outline.area))


def _relief(grey: Floats, own: Bits, area: int) -> float | None:
    inner = own.copy()  # without the pixels at the border, which show other things too
    inner[1:] &= own[:-1]
    inner[:-1] &= own[1:]
    inner[:, 1:] &= own[:, :-1]
    inner[:, :-1] &= own[:, 1:]
    logs = _log(grey)
    across = np.abs(np.diff(logs, axis=1))[inner[:, 1:] & inner[:, :-1]]
    down = np.abs(np.diff(logs, axis=0))[inner[1:] & inner[:-1]]
    steps = np.concatenate([across, down])
    if len(steps) < _STEPS:
        return None
    # An edge is one step, however large the object: the mean falls as its size grows.
    return float(math.log(0.01 + steps.mean()) + math.log(area) / 4)


def _log(light: Floats) -> Floats:
    logs: Floats = np.log(light + _DARK)
    return logs


def _best_color(
    thing: Object, known: Segment | None, look: Look, vocabulary: Vocabulary
) -> tuple[float, dict[str, str]]:
    """Cost of the color and material of ``thing`` that explain a look best, and these.

    Args:
        known: it in the initial picture, where both are from one view.
    """
    charge = {name: _charge(name, vocabulary) for name in ("color", "material")}
    found: tuple[float, dict[str, str]] = (math.inf, {})
    for color, name in product(vocabulary.colors, vocabulary.materials):
        material = MATERIALS[name]
        expected, relief = _expected(color, name, vocabulary), material.relief
        if known is not None and name == thing.material:
            expected = expected + known.look.color - _expected(thing.color, name, vocabulary)
            relief = relief if known.look.relief is None else known.look.relief
            material = replace(
                material,
                brightness=STEADY * material.brightness,
                relief_spread=STEADY * material.relief_spread,
            )
        apart = look.color - expected
        mean = float(apart.mean())
        cost = (
            _deviation((mean / material.brightness) ** 2)
            + _deviation(float(np.square((apart - mean) / material.tint).sum()))
            + 2 * math.log(material.brightness * material.tint**2)
        )
        if look.relief is not None:
            off = (look.relief - relief) / material.relief_spread
            cost += _deviation(off**2) + 2 * math.log(material.relief_spread)
        cost += charge["color"] if color != thing.color else 0.0
        cost += charge["material"] if name != thing.material else 0.0
        if cost < found[0]:
            found = cost, {"color": color, "material": name}
    return found


@lru_cache(maxsize=1024)
def _expected(color: str, material: str, vocabulary: Vocabulary) -> Floats:
    """The ``Look.color`` of an object of the table."""
    albedo = np.array(vocabulary.colors[color]) / 255
    return _log(MATERIALS[material].gain * albedo ** MATERIALS[material].power)


def _fits(outline: Outline, view: str, vocabulary: Vocabulary) -> dict[tuple[str, str], Fit]:
    return {
        (shape, size): fit(outline, shape, size, view, vocabulary)
        for shape, size in product(vocabulary.shapes, vocabulary.sizes)
    }


def _best_form(
    thing: Object,
    known: Segment | None,
    place: Floats | None,
    outline: Outline,
    fits: Mapping[tuple[str, str], Fit],
    vocabulary: Vocabulary,
) -> tuple[float, dict[str, str]]:
    """Cost of the shape and size of ``thing`` that explain an outline best, and these.

    Args:
        known: it in the initial picture, where both are from one view.
        place: where it stood, if it was seen.
    """
    charge = {name: _charge(name, vocabulary) for name in ("shape", "size")}
    found: tuple[float, dict[str, str]] = (math.inf, {})
    for (shape, size), option in fits.items():
        misfit = option.misfit
        if known is not None and (shape, size) == (thing.shape, thing.size):
            # What hid a part of it before does not count either.
            misfit = min(misfit, outline.misfit(known.outline.own, 0, 0))
        cost = _deviation((misfit / MISFIT) ** 2)
        if place is not None:
            cost += _deviation(float(np.square((option.place - place) / PLACE).sum()))
        cost += charge["shape"] if shape != thing.shape else 0.0
        cost += charge["size"] if size != thing.size else 0.0
        if cost < found[0]:
            found = cost, {"shape": shape, "size": size}
    return found


def _deviation(squared: float) -> float:
    """Cost of a squared deviation in spreads, as of Student's t distribution."""
    return _FREEDOM * math.log1p(squared / _FREEDOM)


def _charge(attribute: str, vocabulary: Vocabulary) -> float:
    """Cost of a change to one of the other values: minus twice the logarithm of its odds."""
    if attribute not in vocabulary.attributes:
        return math.inf
    others = len(vocabulary.values(attribute)) - 1
    return -2 * math.log(CHANGED / (1 - CHANGED) / others)
