"""A change of one attribute of one object; replay on a scene; difference of two scenes."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from star_r1.tvr.scene import Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, MOVES, N_OBJECTS, STANDARD, Vocabulary

_CHANGEABLE: Final = (*ATTRIBUTES, "position")


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """``index.attribute.value``: object ``index`` takes ``value`` for ``attribute``.

    The value of ``position`` is a move, ``direction.steps``: by where it goes, not where it ends.

    Attributes:
        index: 0-9.
        attribute: one of ``ATTRIBUTES``, or ``position``.
        value: as the vocabulary of the scene has it.
        options: of a true move out of sight, all moves that end out of sight as well, ``value``
            among them: the pictures cannot tell which it was (TRANCE). Else empty. Two changes
            are equal whatever their options.

    Raises:
        ValueError: the index is not 0-9, or there is no such attribute or move.

    >>> str(Change(2, "color", "cyan")), str(Change(3, "position", "front-left.2"))
    ('2.color.cyan', '3.position.front-left.2')
    """

    index: int
    attribute: str
    value: str
    options: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if type(self.index) is not int or not 0 <= self.index < N_OBJECTS:
            raise ValueError(f"object index {self.index!r} is not in 0-{N_OBJECTS - 1}")
        if self.attribute not in _CHANGEABLE:
            known = ", ".join(_CHANGEABLE)
            raise ValueError(f"attribute {self.attribute!r} is not one of {known}")
        if not isinstance(self.value, str):
            raise ValueError(f"{self.attribute} {self.value!r} is not text")
        for value in (self.value, *self.options) if self.attribute == "position" else ():
            STANDARD.check("position", value)
        if self.options and (self.attribute != "position" or self.value not in self.options):
            raise ValueError(f"{self}: its options {', '.join(self.options)} do not hold it")

    def __str__(self) -> str:
        return f"{self.index}.{self.attribute}.{self.value}"

    def accepts(self, other: "Change") -> bool:
        """Whether ``other`` is as good an answer: the same change, or one of the options.

        >>> out = Change(3, "position", "left.2", ("left.2", "front-left.2"))
        >>> out.accepts(Change(3, "position", "front-left.2"))
        True
        """
        return other == self or (
            (other.index, other.attribute) == (self.index, self.attribute)
            and other.value in self.options
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; ``options`` only where there are some."""
        plain = {"index": self.index, "attribute": self.attribute, "value": self.value}
        return plain | ({"options": list(self.options)} if self.options else {})

    @classmethod
    def from_dict(cls, raw: Any, vocabulary: Vocabulary = STANDARD) -> "Change":
        """Read what ``to_dict`` wrote.

        Raises:
            ValueError: a field is missing, unknown, or not in the vocabulary.
        """
        try:
            change = cls(**{**raw, "options": tuple(raw.get("options", ()))})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a change: {error}") from None
        return _known(change, vocabulary)

    @classmethod
    def parse(cls, text: str, vocabulary: Vocabulary = STANDARD) -> "Change":
        """Read the strict form that ``str`` writes.

        Raises:
            ValueError: ``text`` is not a change of an attribute that may change.

        >>> Change.parse("2.color.cyan")
        Change(index=2, attribute='color', value='cyan')
        """
        index, _, rest = text.partition(".")
        attribute, _, value = rest.partition(".")
        if not value or len(index) != 1 or index not in "0123456789":
            raise ValueError(f"{text!r} is not of the form index.attribute.value")
        return _known(cls(int(index), attribute, value), vocabulary)


def _known(change: Change, vocabulary: Vocabulary) -> Change:
    if change.attribute not in vocabulary.attributes:
        known = ", ".join(vocabulary.attributes)
        raise ValueError(f"attribute {change.attribute!r} is not one of {known}")
    vocabulary.check(change.attribute, change.value)
    return change


def format_changes(changes: Iterable[Change]) -> str:
    """Write changes as an answer does, ``none`` where there are none.

    >>> format_changes([Change(2, "color", "cyan"), Change(0, "shape", "cube")])
    '2.color.cyan, 0.shape.cube'
    """
    return ", ".join(map(str, changes)) or "none"


def parse_changes(text: str, vocabulary: Vocabulary = STANDARD) -> tuple[Change, ...]:
    """Read the strict form that ``format_changes`` writes.

    Raises:
        ValueError: an item is not a valid triplet.

    >>> [str(change) for change in parse_changes("2.color.cyan, 0.shape.cube")]
    ['2.color.cyan', '0.shape.cube']
    """
    text = text.strip()
    if text in ("", "none"):
        return ()
    return tuple(Change.parse(item.strip(), vocabulary) for item in text.split(","))


def same_changes(said: Iterable[Change], truth: Iterable[Change]) -> bool:
    """Whether an answer names exactly the true changes; their order is not looked at.

    Changes of looks compare as sets: to say one twice says nothing else. A move said twice is made
    twice, so moves are counted: they pair off one to one with the true ones, where any of its
    ``options`` serves as a true move out of sight.

    >>> from star_r1.tvr import TRANCE
    >>> truth = parse_changes("2.color.cyan, 3.position.left.1", TRANCE)
    >>> twice = parse_changes("3.position.left.1, 2.color.cyan, 2.color.cyan", TRANCE)
    >>> same_changes(twice, truth), same_changes(twice[:1] + twice, truth)
    (True, False)
    """
    looks, moves = split_moves(said)
    true_looks, true_moves = split_moves(truth)
    return looks == true_looks and len(moves) == len(true_moves) and _pair_off(moves, true_moves)


def split_moves(changes: Iterable[Change]) -> tuple[set[Change], list[Change]]:
    """Changes of looks, of which a repeat says nothing else, and moves, which add up.

    >>> from star_r1.tvr import TRANCE
    >>> said = "2.color.cyan, 3.position.left.1, 2.color.cyan, 3.position.left.1"
    >>> looks, moves = split_moves(parse_changes(said, TRANCE))
    >>> len(looks), len(moves)
    (1, 2)
    """
    looks: set[Change] = set()
    moves: list[Change] = []
    for change in changes:
        if change.attribute == "position":
            moves.append(change)
        else:
            looks.add(change)
    return looks, moves


def _pair_off(moves: list[Change], true_moves: list[Change]) -> bool:
    if not true_moves:
        return True
    first, *rest = true_moves
    for move in set(moves):
        if first.accepts(move):
            left = list(moves)
            left.remove(move)
            if _pair_off(left, rest):
                return True
    return False


def replay(scene: Scene, changes: Iterable[Change]) -> Scene:
    """Apply ``changes`` to ``scene`` in order; a later one wins over an earlier one.

    Raises:
        ValueError: a move leaves the table, or a value is not in the scene's vocabulary.
    """
    objects = list(scene.objects)
    for change in changes:
        thing = objects[change.index]
        if change.attribute == "position":
            (x, y), (dx, dy) = thing.position, MOVES[change.value]
            objects[change.index] = replace(thing, position=(x + dx, y + dy))
        else:
            objects[change.index] = replace(
                thing,
                **{change.attribute: change.value},  # type: ignore[arg-type]
            )
    return replace(scene, objects=tuple(objects))


def difference(before: Scene, after: Scene) -> tuple[Change, ...]:
    """The changes of looks that turn ``before`` into ``after``, by index, then as ``ATTRIBUTES``.

    Moves are left out: where an object stands says nothing of the steps that took it there.
    """
    return tuple(
        Change(old.index, attribute, new.attribute(attribute))
        for old, new in zip(before.objects, after.objects, strict=True)
        for attribute in ATTRIBUTES
        if old.attribute(attribute) != new.attribute(attribute)
    )
