"""Items, of which sentences consist once references are found: words and references."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from star_r1.analyze.words import Word
from star_r1.tvr.scene import Object


class Reference(NamedTuple):
    """What a text points at.

    Attributes:
        indices: the objects that it names by number; empty for an attribute phrase alone.
        traits: attribute -> value of the phrase; empty for numbers alone.
        start: its place in the text.
        plural: "the red cubes", which is no single object.
    """

    indices: tuple[int, ...]
    traits: Mapping[str, str]
    start: int
    plural: bool = False

    def fits(self, thing: Object) -> bool:
        """Whether an object has all traits."""
        return all(thing.attribute(name) == value for name, value in self.traits.items())


Item: TypeAlias = Word | Reference


def role_at(items: Sequence[Item], place: int) -> str:
    """The role of an item; ``reference`` or ``end`` where there is none."""
    if not 0 <= place < len(items):
        return "end"
    item = items[place]
    return "reference" if isinstance(item, Reference) else item.role


def text_at(items: Sequence[Item], place: int) -> str:
    """The text of an item, empty where it is no word."""
    item = items[place] if 0 <= place < len(items) else None
    return item.text if isinstance(item, Word) else ""
