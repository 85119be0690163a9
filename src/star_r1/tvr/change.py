"""A change of one attribute of one object; replay on a scene; difference of two scenes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from star_r1.tvr.scene import Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, N_OBJECTS, VALUES


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """``index.attribute.value``: object ``index`` takes ``value`` for ``attribute``.

    Raises:
        ValueError: the index is not 0-9, or attribute or value is not in the vocabulary.

    >>> str(Change(2, "color", "cyan"))
    '2.color.cyan'
    """

    index: int
    attribute: str
    value: str

    def __post_init__(self) -> None:
        if not 0 <= self.index < N_OBJECTS:
            raise ValueError(f"object index {self.index} is not in 0-{N_OBJECTS - 1}")
        if self.attribute not in VALUES:
            raise ValueError(f"attribute {self.attribute!r} is not one of {', '.join(ATTRIBUTES)}")
        if self.value not in VALUES[self.attribute]:
            known = ", ".join(VALUES[self.attribute])
            raise ValueError(f"{self.attribute} {self.value!r} is not one of {known}")

    def __str__(self) -> str:
        return f"{self.index}.{self.attribute}.{self.value}"

    @classmethod
    def parse(cls, text: str) -> "Change":
        """Read the strict form that ``str`` writes.

        Raises:
            ValueError: ``text`` is not a valid triplet.

        >>> Change.parse("2.color.cyan")
        Change(index=2, attribute='color', value='cyan')
        """
        parts = text.split(".")
        if len(parts) != 3 or len(parts[0]) != 1 or parts[0] not in "0123456789":
            raise ValueError(f"{text!r} is not of the form index.attribute.value")
        return cls(int(parts[0]), parts[1], parts[2])


def format_changes(changes: Iterable[Change]) -> str:
    """Write changes as an answer does, ``none`` where there are none.

    >>> format_changes([Change(2, "color", "cyan"), Change(0, "shape", "cube")])
    '2.color.cyan, 0.shape.cube'
    """
    return ", ".join(map(str, changes)) or "none"


def parse_changes(text: str) -> tuple[Change, ...]:
    """Read the strict form that ``format_changes`` writes.

    Raises:
        ValueError: an item is not a valid triplet.

    >>> parse_changes("2.color.cyan, 0.shape.cube")[1]
    Change(index=0, attribute='shape', value='cube')
    """
    text = text.strip()
    if text in ("", "none"):
        return ()
    return tuple(Change.parse(item.strip()) for item in text.split(","))


def replay(scene: Scene, changes: Iterable[Change]) -> Scene:
    """Apply ``changes`` to ``scene`` in order; a later one wins over an earlier one."""
    objects = list(scene.objects)
    for change in changes:
        objects[change.index] = replace(
            objects[change.index],
            **{change.attribute: change.value},  # type: ignore[arg-type]
        )
    return Scene(tuple(objects))


def difference(before: Scene, after: Scene) -> tuple[Change, ...]:
    """The changes that turn ``before`` into ``after``, by index, then by order of ATTRIBUTES."""
    return tuple(
        Change(old.index, attribute, new.attribute(attribute))
        for old, new in zip(before.objects, after.objects, strict=True)
        for attribute in ATTRIBUTES
        if old.attribute(attribute) != new.attribute(attribute)
    )
