"""The numbers among the words -> indices of objects, apart from those that count or enumerate."""

from collections.abc import Sequence
from typing import Final

from star_r1.analyze.items import role_at, text_at
from star_r1.analyze.words import Word
from star_r1.tvr.scene import Object
from star_r1.tvr.vocabulary import N_OBJECTS

_COUNTED: Final = frozenset(
    (
        *("change", "changes", "step", "steps", "picture", "pictures", "image", "images", "view"),
        *("views", "attribute", "attributes", "difference", "differences", "times", "objects"),
        *("of", "cubes", "spheres", "cylinders", "out", "other", "others", "more", "things"),
        *("items", "x", "px", "pixels", "percent", "%", "degrees", "units", "cells", "balls"),
    )
)
"""After a number that counts."""
_COUNTING: Final = frozenset(
    (
        *("step", "steps", "part", "point", "option", "figure", "stage", "phase", "pass", "round"),
        *("section", "row", "total", "count", "checked", "at", "about", "the", "all"),
        *("picture", "image", "view", "camera", "these", "those", "least", "most", "found"),
    )
)
"""Before a number that counts."""
_SAYS: Final = frozenset(
    ("present", "past", "become", "still", "same", "changed", "move", "arrow", "not", "link")
)
"""Roles of words behind a bare number that make it a subject."""
_BREAKS: Final = frozenset(("mark", "newline", "and", "but", "end"))
_NOUNLIKE: Final = frozenset(("present", "link", "not", "and", "but", "pronoun", "nor", "except"))
"""Roles of words that a bare number may follow as a noun: "these are 3 and 6"."""
_BEFORE_NOUN: Final = frozenset(("for", "with", "only", "in", "on", "also", "so"))


def is_digit(words: Sequence[Word], place: int) -> bool:
    """Whether a number of one digit stands here that is no part of a decimal."""
    if role_at(words, place) != "number" or len(words[place].text) > 1:
        return False
    for beside, other in ((place - 1, place - 2), (place + 1, place + 2)):
        if (
            text_at(words, beside) == "."
            and role_at(words, other) == "number"
            and abs(words[other].start - words[place].start) == 2
        ):
            return False
    return True


def is_plural(word: Word) -> bool:
    """Whether a noun means several things."""
    ends = word.text.endswith("s") and word.value != "glass"
    return ends and (word.role == "noun" or word.attribute == "shape")


class Numbers:
    """The numbers of one text; ``fresh`` below: only bullets stand before it in its line."""

    def __init__(self, words: Sequence[Word], visible: Sequence[Object]) -> None:
        """The table that a number may repeat is that of the ``visible`` objects."""
        self.words = words
        self.things = {thing.index: thing for thing in visible}

    def is_index(self, place: int, fresh: bool) -> bool:
        """Whether the number at ``place`` names an object."""
        if not is_digit(self.words, place):
            return False
        words = self.words
        before, after = text_at(words, place - 1), text_at(words, place + 1)
        before_role, after_role = role_at(words, place - 1), role_at(words, place + 1)
        if self.is_labelled(place):
            return after not in ("of", "out")
        if after in _COUNTED and role_at(words, place + 2) not in ("from", "to", "attribute"):
            return False
        if before == "of" and role_at(words, place - 2) == "number":
            return False
        if after == "'s":
            return True
        if fresh:
            return self._begins_item(place)
        if before in _COUNTING:
            return False
        if before in ("(", "["):
            return self._closes(place) and role_at(words, place - 2) != "other"
        if after in (":", "?", "(") and self._is_told(place + 2):
            return after != ":" or before_role in ("mark", "newline", "value", *_SAYS)
        if after_role in _SAYS or after in ("that", "which") or self._is_subject(place):
            return True
        if (
            before in (",", "|", "/")
            and after_role in ("value", "attribute")
            and role_at(words, place + 2) in (*_BREAKS, "arrow")
            and not (before == "," and words[place + 1].attribute == "shape")  # "1 cylinder"
        ):
            return True  # "5 cyan, 3 metal"
        if before_role == "mark" and after in (":", "=", "-", "–", "—"):
            return role_at(words, place + 2) != "number"
        if before_role in ("same", "changed") and (after_role in _BREAKS or after_role == "number"):
            return True
        if before == ":" and role_at(words, place - 2) in ("same", "changed", "blanket"):
            return True
        if self._lists(place):
            return True
        if before_role in _NOUNLIKE or before in _BEFORE_NOUN:
            return after_role in _BREAKS or (before_role == "except" and after_role != "noun")
        return self._repeats(place)

    def _begins_item(self, place: int) -> bool:
        before, after = text_at(self.words, place - 1), text_at(self.words, place + 1)
        repeats = self._repeats(place)
        if before in ("(", "["):
            ahead = place + 2
            enumerates = role_at(self.words, ahead) == "article"  # "(1) The red cube ..."
            return after in (")", "]", ":", "-") and (repeats or not enumerates)
        if after in (".", ")"):
            return repeats
        if after in (":", "-", "–", "—", "|", "=", "]", "(", ">", "?"):
            return role_at(self.words, place + 2) != "number"
        role = role_at(self.words, place + 1)
        if role in ("value", "attribute"):
            return repeats or role_at(self.words, place + 2) in (*_BREAKS, "arrow", "time")
        return role in _SAYS or self._is_subject(place)

    def is_labelled(self, place: int) -> bool:
        """Whether "object", "index", "#" or a shape stands before, perhaps with marks between."""
        if text_at(self.words, place - 1) == "#":
            return self.words[place - 1].start + 1 == self.words[place].start
        for back in range(1, 4):
            role, text = role_at(self.words, place - back), text_at(self.words, place - back)
            if text == "number" and text_at(self.words, place - back - 1) in _COUNTING - {"the"}:
                return False
            if role == "label" or (role == "noun" and not text.startswith("one")):
                plural = is_plural(self.words[place - back])
                colon = text_at(self.words, place - back + 1) == ":"
                return not (plural and colon) or text_at(self.words, place + 1) in (",", "and")
            if role == "value" and self.words[place - back].attribute == "shape" and back == 1:
                return not is_plural(self.words[place - back])
            if text not in ("(", "[", "#", ":", "=", "number", "with"):
                return False
        return False

    def _is_told(self, place: int) -> bool:
        return role_at(self.words, place) in ("value", "attribute", "article", "time", *_SAYS)

    def _is_subject(self, place: int) -> bool:
        """Whether a verb follows behind the rest of a list: "0 and 1 and 7 did not change"."""
        ahead, joined = place + 1, False
        while ahead < place + 2 * N_OBJECTS and (
            is_digit(self.words, ahead)
            or role_at(self.words, ahead) == "and"
            or text_at(self.words, ahead) == ","
        ):
            joined |= is_digit(self.words, ahead)
            ahead += 1
        ends = role_at(self.words, ahead) in _SAYS or text_at(self.words, ahead) == ":"
        return joined and ends

    def _lists(self, place: int) -> bool:
        """Whether three or more indices of the table follow, parted by commas."""
        found: list[int] = []
        while is_digit(self.words, place) and len(found) <= N_OBJECTS:
            found.append(int(self.words[place].text))
            place += 1 + (text_at(self.words, place + 1) == ",")
        distinct = len(set(found)) == len(found) and set(found) <= set(self.things)
        return len(found) > 2 and distinct and role_at(self.words, place) in _BREAKS

    def _closes(self, place: int) -> bool:
        """Whether only numbers and what joins them follow until a bracket closes, or a value."""
        for ahead in range(place + 1, place + 2 * N_OBJECTS + 2):
            role, text = role_at(self.words, ahead), text_at(self.words, ahead)
            if text in (")", "]"):
                return True
            if role not in ("number", "and") and text not in (",", "/", "-", "–"):
                return self._repeats(place) or text == ":"
        return False

    def _repeats(self, place: int) -> bool:
        """Whether what follows describes the object of this index as the table does."""
        thing = self.things.get(int(self.words[place].text))
        if thing is None:
            return False
        seen = 0
        for word in self.words[place + 1 : place + 8]:
            if word.role == "value":
                if thing.attribute(word.attribute) != word.value or is_plural(word):
                    return False
                seen += 1
            elif word.role == "noun" and is_plural(word):
                return False
            elif word.role != "article" and word.text not in (".", ")", "(", ",", "-", "–", "="):
                break
        return seen > 0

    def read(self, place: int, fresh: bool = False) -> tuple[tuple[int, ...], int]:
        """The indices that begin here, and where they end: "3", "1, 4 and 7", "1-5"."""
        words = self.words
        indices = [int(words[place].text)]
        place += 1
        enumerated = text_at(words, place) in (".", ")")
        if fresh and enumerated and text_at(words, place - 2) not in ("(", "["):
            return tuple(indices), place + 1
        while (ahead := self._next(place)) is not None:
            last = int(words[ahead].text)
            ranged = ahead == place + 1 and text_at(words, place) in ("-", "–", "to", "through")
            indices += range(indices[-1] + 1, last + 1) if ranged else [last]
            place = ahead + 1
        return tuple(dict.fromkeys(indices)), place

    def _next(self, place: int) -> int | None:
        """Where the next index of a list stands, None where the list ends."""
        words, ahead = self.words, place
        while ahead < place + 3 and (
            text_at(words, ahead) in (",", "/", "#") or role_at(words, ahead) == "and"
        ):
            ahead += 1
        joined = ahead > place
        if joined and role_at(words, ahead) in ("noun", "label"):
            ahead += 1  # "object 1 and object 4"
        ranged = not joined and text_at(words, place) in ("-", "–", "to", "through")
        ahead += ranged
        if not is_digit(words, ahead):
            return None
        after, role = text_at(words, ahead + 1), role_at(words, ahead + 1)
        if ranged:
            return None if after in _COUNTED else ahead
        if after in _COUNTED or after in ("=", "(", "'s"):
            return None
        if after == ":" and role_at(words, ahead - 1) not in ("and", "noun"):
            return None
        if role in ("arrow", "value", "attribute", "same") and role_at(words, ahead - 1) != "and":
            return None  # the next item: "2 same, 3 cube -> sphere"
        return ahead
