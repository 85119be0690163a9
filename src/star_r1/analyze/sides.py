"""The items of a sentence -> which of the two pictures each description in it speaks of."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from star_r1.analyze.items import Item, Reference, role_at, text_at
from star_r1.analyze.words import Word

Spoken: TypeAlias = Literal["before", "after", "both", ""]
"""The picture that a description speaks of; empty where the sentence does not say."""

_POINTING: Final = frozenset(("from", "to", "become", "still", "arrow"))
_VERBS: Final = frozenset(("past", "present", "link", "move"))


def is_break(item: Item) -> bool:
    """Whether a part of a sentence ends here."""
    return isinstance(item, Word) and (
        item.role in ("and", "but") or (item.role == "mark" and item.text in ",;:|()[]–—-")
    )


def is_description(item: Item) -> bool:
    """Whether the item can say how something looks, or where it is."""
    return isinstance(item, Reference) or item.role in ("value", "place", "beside")


def spoken_sides(items: Sequence[Item], section: Spoken) -> list[Spoken]:
    """A side for each item of a sentence; only those of descriptions mean something.

    A marker ("in the second picture", "now") at the beginning of a part of the sentence holds from
    there on; behind a description it is of that one; words of direction ("from", "to", "turned",
    an arrow) are of what they point at, and win.

    Args:
        items: a sentence.
        section: the side of the lines that it stands in.
    """
    return _Sides(items, section).assign()


class _Sides:
    def __init__(self, items: Sequence[Item], section: Spoken) -> None:
        self.items = items
        self.sides: list[Spoken] = [""] * len(items)
        self.carry: Spoken = section
        self.after_before = False  # something was said of the first picture
        self.pointed: Spoken = ""  # by a word of direction
        self.marked: set[int] = set()  # descriptions whose side a marker told
        self.last_mark: tuple[int, Spoken] = (-9, "")
        self.begin()

    def begin(self) -> None:
        """A new part of the sentence."""
        self.led: Spoken = ""  # by the marker that the part begins with
        self.tense: Spoken = ""
        self.open: list[int] = []  # descriptions that a marker behind them may still claim
        self.content = False

    def assign(self) -> list[Spoken]:
        pointed_reference: Spoken = ""
        for n, item in enumerate(self.items):
            if isinstance(item, Reference) or is_description(item):
                pointed = pointed_reference if isinstance(item, Reference) else self.pointed
                self.sides[n] = pointed or self.led or self.tense or self.carry
                if not pointed and self.carry:
                    self.marked.add(n)
                self.after_before |= self.sides[n] == "before"
                if not pointed:
                    self.open.append(n)
                self.content = True
            elif is_break(item):
                if item.role == "but" or (self.pointed == "before" and item.role == "mark"):
                    self.pointed = ""  # "no longer red, blue", not "from red and small to ..."
                if item.text not in ("(", "["):
                    pointed_reference = ""
                self.begin()
            elif item.role in ("picture", "time"):
                if pointed := self._mark(n, item):
                    self.pointed = pointed_reference = pointed
            elif item.role in _POINTING:
                self.pointed = pointed_reference = "before" if item.role == "from" else "after"
                if item.role == "arrow":
                    self._point_back(n)
                self._verb()
            elif item.role in _VERBS:
                self.pointed = pointed_reference = ""
                self._verb()
                self._tense(n, item)
        return self.sides

    def _verb(self) -> None:
        self.open, self.content = [], True

    def _tense(self, n: int, item: Word) -> None:
        if item.role == "past":
            self.tense = "" if (self.led or self.carry) == "after" else "before"
        elif item.role == "present":
            self.tense = "after" if self.after_before else ""

    def _mark(self, n: int, item: Word) -> Spoken:
        """Use a marker; returns its side where it is of what follows in this part."""
        if item.text == "finally" and text_at(self.items, n + 1) == ",":
            return ""  # of the text, not of the pictures
        side: Spoken = item.value  # type: ignore[assignment]
        last, self.last_mark = self.last_mark, (n, side)
        if (
            n - last[0] <= 4
            and {side, last[1]} == {"before", "after"}
            and not self._told(last[0], n)
        ):
            self.carry = self.led = ""  # "from the first picture to the second"
            return ""
        self.after_before |= side == "before"
        if not self.content:
            self.carry = self.led = side
            return ""
        if (item.role == "picture" and self.open) or not self._follows(n):
            values = False
            for place in reversed(self.open):
                reference = isinstance(self.items[place], Reference)
                if reference and values:
                    break
                values |= role_at(self.items, place) == "value"
                self.sides[place] = side
                if reference:
                    break
            self.open = []
            return ""
        return side

    def _told(self, start: int, end: int) -> bool:
        """Whether a description stands between two markers."""
        return any(map(is_description, self.items[start + 1 : end]))

    def _follows(self, n: int) -> bool:
        """Whether a description follows before this part ends."""
        for item in self.items[n + 1 : n + 12]:
            if is_break(item):
                return False
            if is_description(item):
                return True
        return False

    def _point_back(self, n: int) -> None:
        """What stands left of an arrow is before."""
        for place in range(n - 1, max(n - 6, -1), -1):
            item = self.items[place]
            if isinstance(item, Word) and item.text in ("(", ")", "[", "]"):
                continue
            index = isinstance(item, Reference) and not item.traits
            if not is_description(item) or index or place in self.marked:
                break
            self.sides[place] = "before"
