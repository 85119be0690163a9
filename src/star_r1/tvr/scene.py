"""What is on the table: objects, scenes, and where cameras and lamps stand; JSON in and out."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from star_r1.tvr.vocabulary import (
    ATTRIBUTES,
    CAMERA_POSITION,
    LAMP_POSITION,
    N_OBJECTS,
    STANDARD,
    TABLE_CELLS,
    VISIBLE_CELLS,
    Vocabulary,
    camera_position,
)

Vec3 = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Object:
    """One object of a scene.

    Attributes:
        index: 0-9, the order of creation.
        color, shape, size, material: values of the scene's vocabulary.
        position: x, y of the centre in cells; x grows toward the center camera, y to its right.
        rotation: about the vertical, radians in [0, 2 pi).
    """

    index: int
    color: str
    shape: str
    size: str
    material: str
    position: tuple[int, int]
    rotation: float = 0.0

    def __post_init__(self) -> None:
        x, y = self.position
        if not (-TABLE_CELLS <= x <= TABLE_CELLS and -TABLE_CELLS <= y <= TABLE_CELLS):
            raise ValueError(f"position {self.position} is off the table (+-{TABLE_CELLS} cells)")
        if not math.isfinite(self.rotation):
            raise ValueError(f"rotation {self.rotation} is not a finite number")

    @property
    def visible(self) -> bool:
        """Whether the object stands in the visible square; an object outside it is not drawn."""
        x, y = self.position
        return -VISIBLE_CELLS <= x <= VISIBLE_CELLS and -VISIBLE_CELLS <= y <= VISIBLE_CELLS

    def attribute(self, name: str) -> str:
        """The value of one of ``ATTRIBUTES``."""
        value: str = getattr(self, name)
        return value

    def describe(self) -> str:
        """Size, color, material, shape in words.

        >>> Object(0, "cyan", "cube", "small", "metal", (0, 0)).describe()
        'small cyan metal cube'
        """
        return f"{self.size} {self.color} {self.material} {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """The ten objects on the table, by index; those outside the visible square are hidden.

    Raises:
        ValueError: not ten objects in order of their index, or one has a value that is not in the
            vocabulary.
    """

    objects: tuple[Object, ...]
    vocabulary: Vocabulary = STANDARD

    def __post_init__(self) -> None:
        if [o.index for o in self.objects] != list(range(N_OBJECTS)):
            raise ValueError(f"a scene has {N_OBJECTS} objects, indices 0-{N_OBJECTS - 1} in order")
        for attribute in ATTRIBUTES:
            known = self.vocabulary.values(attribute)
            for thing in self.objects:
                if getattr(thing, attribute) not in known:
                    self.vocabulary.check(attribute, thing.attribute(attribute))

    @property
    def visible(self) -> tuple[Object, ...]:
        """The objects that are drawn, by index."""
        return tuple(o for o in self.objects if o.visible)

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back exactly."""
        return json.dumps([asdict(o) for o in self.objects], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, vocabulary: Vocabulary = STANDARD) -> "Scene":
        """Read what ``to_json`` wrote; the vocabulary is not part of it.

        Raises:
            ValueError: not JSON, a field is missing, unknown, or out of range.
        """
        try:
            rows: list[dict[str, Any]] = json.loads(text)
            for row in rows:
                row["position"] = _cell(row["position"])
                if type(row["index"]) is not int:
                    raise TypeError(f"index {row['index']} is not an integer")
                if "rotation" in row:
                    _number(row["rotation"])
            return cls(tuple(Object(**row) for row in rows), vocabulary)
        except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a scene: {error}") from None


@dataclass(frozen=True, slots=True)
class Rig:
    """Where the cameras and lamps of one sample stand (world units), jitter included.

    TRANCE's three cameras are always there, others (``camera_position``) may be; but for
    ``UNKNOWN_RIG``, which has none.
    """

    cameras: dict[str, Vec3]
    lamps: dict[str, Vec3]

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back exactly."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Rig":
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: not JSON, or not a rig.
        """
        try:
            raw = json.loads(text)
            rig = cls(
                {name: _vec3(v) for name, v in raw["cameras"].items()},
                {name: _vec3(v) for name, v in raw["lamps"].items()},
            )
        except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a rig: {error}") from None
        if rig == UNKNOWN_RIG:
            return rig
        for name, place in rig.cameras.items():
            if math.hypot(*place) < _NEAREST_CAMERA:
                raise ValueError(f"not a rig: camera {name} stands where it looks to, at {place}")
        if not set(rig.cameras) >= set(CAMERA_POSITION) or set(rig.lamps) != set(LAMP_POSITION):
            raise ValueError(
                f"not a rig: it has {', '.join((*rig.cameras, *rig.lamps)) or 'nothing'}"
            )
        for view in rig.cameras.keys() - CAMERA_POSITION.keys():
            camera_position(view)
        return rig


STANDARD_RIG = Rig(dict(CAMERA_POSITION), dict(LAMP_POSITION))
"""Cameras and lamps without jitter."""
UNKNOWN_RIG = Rig({}, {})
"""Of imported pictures of which nobody says where anything stands; positions are then made up."""


def _cell(value: Any) -> tuple[int, int]:
    x, y = value
    if type(x) is not int or type(y) is not int:
        raise TypeError(f"position {value} is not two integers")
    return x, y


def _vec3(value: Any) -> Vec3:
    x, y, z = map(_number, value)
    if not all(-_FARTHEST <= axis <= _FARTHEST for axis in (x, y, z)):  # nor is it NaN
        raise ValueError(f"not a rig: {value} is not a point within {_FARTHEST} units")
    return x, y, z


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


_FARTHEST = 1000
"""World units; the table is 12 wide."""
_NEAREST_CAMERA = 0.1
"""World units from the origin, which all cameras look at."""
