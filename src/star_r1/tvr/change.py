"""A change of one attribute of one object; replay on a scene; difference of two scenes."""

from collections import deque
from collections.abc import Iterable, Sequence
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
    if looks != true_looks or len(moves) != len(true_moves):
        return False
    return len(pair_moves(moves, true_moves)) == len(true_moves)


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


def pair_moves(said: Sequence[Change], truth: Sequence[Change]) -> dict[int, int]:
    """Pair as many changes as can be: each true one with one that it ``accepts``, each used once.

    Two moves out of sight may have options in common, so to take the first that serves is not
    enough: a maximum matching is found by augmenting paths. Linear in the length of ``said``.

    Returns:
        Place in ``truth`` -> place in ``said``; of equal ones in ``said`` the first are used.

    >>> from star_r1.tvr import TRANCE
    >>> out = Change(3, "position", "left.2", ("left.2", "front-left.2"))
    >>> truth = [out, Change(3, "position", "left.2")]
    >>> pair_moves(parse_changes("3.position.left.2, 3.position.front-left.2", TRANCE), truth)
    {0: 1, 1: 0}
    """
    places: dict[Change, list[int]] = {}
    for place, change in enumerate(said):
        places.setdefault(change, []).append(place)
    holders: dict[Change, list[int]] = {change: [] for change in places}
    held: dict[int, Change] = {}
    for start in range(len(truth)):
        reached: dict[Change, int] = {}
        waiting, free = deque([start]), None
        while waiting and free is None:
            true = truth[waiting[0]]
            for value in dict.fromkeys((true.value, *true.options)):
                change = Change(true.index, true.attribute, value)
                if change in reached or change not in places:
                    continue
                reached[change] = waiting[0]
                if len(holders[change]) < len(places[change]):
                    free = change
                    break
                waiting.extend(holders[change])
            waiting.popleft()
        while free is not None:  # each on the path takes what the next one leaves
            holder = reached[free]
            left = held.get(holder)
            held[holder] = free
            holders[free].append(holder)
            if left is not None:
                holders[left].remove(holder)
            free = left
    pairs = (
        (holder, place)
        for change, some in holders.items()
        for holder, place in zip(sorted(some), places[change], strict=False)
    )
    return dict(sorted(pairs))


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
