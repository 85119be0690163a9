"""The vocabulary of TVR and TRANCE's constants: attributes, values, grid, cameras, lamps.

All numbers are those of the TRANCE dataset (Hong et al., CVPR 2021), read from its public
generator and scene files. Lengths are in world units, positions on the table in integer cells
of ``CELL`` world units.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final, TypeAlias

Rgb: TypeAlias = tuple[int, int, int]

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "color": ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"),
    "shape": ("cube", "sphere", "cylinder"),
    "size": ("small", "medium", "large"),
    "material": ("rubber", "metal", "glass"),
}
"""Attribute -> its values in TRANCE."""

ATTRIBUTES: Final[tuple[str, ...]] = tuple(VALUES)
"""What an object looks like. STAR-R1 changes these four; TRANCE changes its position too."""

VIEWS: Final[tuple[str, ...]] = ("center", "left", "right")
"""TRANCE's cameras. The initial picture is always ``center``; the final one may be any view."""

N_OBJECTS: Final = 10
"""Objects in a scene, visible or not. Their index 0-9 is the order of creation, not of place."""

COLOR_RGB: Final[dict[str, Rgb]] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
"""0-255. TRANCE feeds value / 255 to the renderer as *linear* reflectance."""

SIZE_RADIUS: Final[dict[str, float]] = {"small": 0.3, "medium": 0.6, "large": 0.9}
"""Radius on the ground, world units. A cube's half edge is radius / sqrt(2)."""

CELL: Final = 0.15
GAP_CELLS: Final = 1
"""Free cells between the outlines of two objects."""
TABLE_CELLS: Final = 40
"""Positions lie in [-40, 40] on both axes ..."""
VISIBLE_CELLS: Final = 20
"""... and an object is visible where both coordinates lie in [-20, 20]; else it is hidden."""

DIRECTIONS: Final[dict[str, tuple[int, int]]] = {
    "front": (-1, 0),
    "behind": (1, 0),
    "left": (0, -1),
    "right": (0, 1),
    "front-left": (-1, -1),
    "front-right": (-1, 1),
    "behind-left": (1, -1),
    "behind-right": (1, 1),
}
"""x and y of each direction, whatever the view: ``behind`` is *toward* the center camera, down in
its picture, as TRANCE has it."""
STEPS: Final = (1, 2)
STEP_CELLS: Final = 10
"""Cells of one step, along each axis of the direction."""
MOVES: Final[dict[str, tuple[int, int]]] = {
    f"{direction}.{steps}": (steps * STEP_CELLS * x, steps * STEP_CELLS * y)
    for direction, (x, y) in DIRECTIONS.items()
    for steps in STEPS
}
"""The values of ``position``, such as ``front-left.2`` -> how far it moves, in cells."""

MIN_VISIBLE_PIXELS: Final = 150
"""An object with fewer mask pixels in a 320 x 240 picture counts as occluded."""
REFERENCE_SIZE: Final[tuple[int, int]] = (320, 240)
"""Width, height of the picture in which ``MIN_VISIBLE_PIXELS`` is measured."""

CAMERA_POSITION: Final[dict[str, tuple[float, float, float]]] = {
    "center": (9.48113, 0.0, 6.34367),
    "left": (7.48113, -6.50764, 6.34367),
    "right": (7.48113, 6.50764, 6.34367),
}
"""All look at the origin with z up."""
CAMERA_JITTER: Final = 0.5
"""Each axis of each camera moves by U(-0.5, 0.5) a sample, the same before and after."""
TOP_CAMERA_HEIGHT: Final = 12.0
"""Of the view ``top``, which TRANCE does not have: a little farther away than its cameras, so that
what stands at the border of the visible square is in the picture."""
CAMERA_FOV_X: Final = 49.1343
"""Horizontal field of view in degrees: lens 35 mm on a 32 mm sensor."""

LAMP_POSITION: Final[dict[str, tuple[float, float, float]]] = {
    "key": (6.44671, -2.90517, 4.2584),
    "fill": (-4.67112, -4.0136, 5.01122),
    "back": (-1.1685, 2.64602, 5.81574),
}
"""Square area lamps that look at the origin."""
LAMP_JITTER: Final = 1.0
"""Each axis of each lamp moves by U(-1, 1) a sample."""


def camera_position(view: str) -> tuple[float, float, float]:
    """Where the camera of a view stands, without jitter.

    Besides TRANCE's three there are ``top``, straight above the table, and ``az<degrees>``, as
    high and as far away as ``center``: az0 is ``center``, az90 looks from the right, az180 from
    the back, az270 from the left.

    Raises:
        ValueError: there is no such view.

    >>> camera_position("center")
    (9.48113, 0.0, 6.34367)
    >>> [round(x, 2) for x in camera_position("az90")]
    [0.0, 9.48, 6.34]
    """
    if view in CAMERA_POSITION:
        return CAMERA_POSITION[view]
    away, _, height = CAMERA_POSITION["center"]
    if view == "top":
        return 0.0, 0.0, TOP_CAMERA_HEIGHT
    if re.fullmatch(r"az(0|[1-9]\d{0,2})", view, re.ASCII) and int(view[2:]) < 360:
        azimuth = math.radians(int(view[2:]))
        return away * math.cos(azimuth), away * math.sin(azimuth), height
    raise ValueError(
        f"view {view!r} is unknown; choose from {', '.join(VIEWS)}, top, and az0 to az359"
    )


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What objects may look like, and which of their attributes may change.

    The default is STAR-R1's setting: TRANCE's values, no moves. Names are lower case letters,
    digits and hyphens.

    Attributes:
        colors: name -> red, green, blue, 0-255, used as TRANCE does (see ``COLOR_RGB``).
        sizes: name -> radius on the ground in world units, more than 0 and at most 1.5.
        shapes: some of TRANCE's three.
        materials: some of TRANCE's three.
        attributes: those that may change: some of ``ATTRIBUTES``, and ``position``.

    Raises:
        ValueError: a name or number is not of that kind, or nothing is left to choose from.

    >>> TRANCE.attributes
    ('color', 'shape', 'size', 'material', 'position')
    >>> pastel = Vocabulary(colors={"pink": (255, 180, 200), "mint": (170, 240, 200)})
    >>> pastel.values("color")
    ('pink', 'mint')
    """

    colors: Mapping[str, Rgb] = field(default_factory=lambda: COLOR_RGB)
    sizes: Mapping[str, float] = field(default_factory=lambda: SIZE_RADIUS)
    shapes: tuple[str, ...] = VALUES["shape"]
    materials: tuple[str, ...] = VALUES["material"]
    attributes: tuple[str, ...] = ATTRIBUTES

    def __post_init__(self) -> None:
        for name, rgb in self.colors.items():
            if len(rgb) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in rgb):
                raise ValueError(f"colors: {name} is {rgb}; give red, green, blue, each 0-255")
        for name, radius in self.sizes.items():
            if type(radius) not in (int, float) or not 0 < radius <= _MAX_RADIUS:
                raise ValueError(
                    f"sizes: {name} is {radius}; give a radius above 0, at most {_MAX_RADIUS}"
                )
        for attribute in ATTRIBUTES:
            values = self.values(attribute)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{attribute}s: give at least one, each once")
            for value in values:
                if not isinstance(value, str) or not _NAME.fullmatch(value):
                    raise ValueError(
                        f"{attribute}s: {value!r} is no name; use lower case letters, digits, -"
                    )
        for attribute in ("shape", "material"):
            for value in self.values(attribute):
                if value not in VALUES[attribute]:
                    known = ", ".join(VALUES[attribute])
                    raise ValueError(f"{attribute}s: {value!r} is not one of {known}")
        if not self.attributes or len(set(self.attributes)) < len(self.attributes):
            raise ValueError("attributes: give at least one, each once")
        for attribute in self.attributes:
            if attribute not in (*ATTRIBUTES, "position"):
                known = ", ".join((*ATTRIBUTES, "position"))
                raise ValueError(f"attributes: {attribute!r} is not one of {known}")
            if len(self.values(attribute)) < 2:
                raise ValueError(f"attributes: {attribute} has one value only, it cannot change")

    def __eq__(self, other: object) -> bool:
        # By its text: the order of the values counts, as in the prompt.
        return isinstance(other, Vocabulary) and self._json == other._json

    def __hash__(self) -> int:
        return hash(self._json)

    def values(self, attribute: str) -> tuple[str, ...]:
        """The values of an attribute, in order; those of ``position`` are the 16 moves.

        Raises:
            ValueError: there is no such attribute.
        """
        try:
            return self._values[attribute]
        except KeyError:
            known = ", ".join((*ATTRIBUTES, "position"))
            raise ValueError(f"attribute {attribute!r} is not one of {known}") from None

    @cached_property
    def _values(self) -> dict[str, tuple[str, ...]]:
        return {
            "color": tuple(self.colors),
            "shape": self.shapes,
            "size": tuple(self.sizes),
            "material": self.materials,
            "position": tuple(MOVES),
        }

    @property
    def grammar(self) -> dict[str, tuple[str, ...]]:
        """Each attribute that may change -> its values."""
        return {attribute: self.values(attribute) for attribute in self.attributes}

    def check(self, attribute: str, value: str) -> None:
        """Raise a ValueError unless ``value`` is one of the values of ``attribute``."""
        if value not in (values := self.values(attribute)):
            raise ValueError(f"{attribute} {value!r} is not one of {', '.join(values)}")

    def radius_cells(self, size: str) -> int:
        """The radius of a size in whole cells, rounded up as TRANCE does.

        >>> [STANDARD.radius_cells(size) for size in ("small", "medium", "large")]
        [2, 4, 6]
        """
        return _cells(self.sizes[size])

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back exactly."""
        return self._json

    @cached_property
    def _json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """Read what ``to_json`` wrote; what is absent is as in ``STANDARD``.

        Raises:
            ValueError: not JSON, or not a vocabulary.
        """
        return _vocabulary_of_json(text)

    @classmethod
    def from_dict(cls, raw: Any) -> "Vocabulary":
        """The vocabulary of parsed JSON or YAML; what is absent is as in ``STANDARD``.

        Raises:
            ValueError: a field is unknown or does not hold what it should.

        >>> Vocabulary.from_dict({"attributes": ["color", "position"]}).attributes
        ('color', 'position')
        """
        if not isinstance(raw, dict):
            raise ValueError(f"not a mapping of {', '.join(_FIELDS)}")
        if unknown := [name for name in raw if name not in _FIELDS]:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(_FIELDS)}")
        for name, value in raw.items():
            kind = dict if name in ("colors", "sizes") else list
            if not isinstance(value, kind):
                form = "a mapping" if kind is dict else "a list"
                raise ValueError(f"{name}: {value!r} is not {form}")
        fields: dict[str, Any] = {
            name: dict(value) if isinstance(value, dict) else tuple(value)
            for name, value in raw.items()
        }
        try:
            if "colors" in fields:
                fields["colors"] = {name: tuple(rgb) for name, rgb in fields["colors"].items()}
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"not a vocabulary: {error}") from None


_FIELDS: Final = ("colors", "sizes", "shapes", "materials", "attributes")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
_MAX_RADIUS: Final = 1.5


def _cells(length: float) -> int:
    # 0.9 / 0.15 is 6.000000000000001 in floating point.
    return math.ceil(round(length / CELL, 9))


@lru_cache(maxsize=64)
def _vocabulary_of_json(text: str) -> Vocabulary:
    try:
        raw = json.loads(text)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    return Vocabulary.from_dict(raw)


STANDARD: Final = Vocabulary()
"""STAR-R1's setting: color, shape, size and material change."""

TRANCE: Final = Vocabulary(attributes=(*ATTRIBUTES, "position"))
"""TRANCE's full setting: objects also move."""

RADIUS_CELLS: Final[dict[str, int]] = {size: STANDARD.radius_cells(size) for size in SIZE_RADIUS}
