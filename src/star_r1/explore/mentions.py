"""Which words of a completion name an object: by its index, or by a phrase that fits it alone.

Conservative: what could mean two objects, or none, is left as plain text.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from star_r1.tvr.scene import Object
from star_r1.tvr.vocabulary import ATTRIBUTES, Vocabulary

Piece: TypeAlias = str | tuple[int, str]
"""Plain text, or the index of an object and the words that name it."""

_INDEX = (
    r"(?<![\w.])(?:object|obj\.?|item|index)[ \t]{0,2}[#:]?[ \t]{0,2}(?P<named>\d)(?![\w.]*\d)"
    r"|(?<![\w&])\#(?P<hash>\d)(?!\w)"
    r"|(?:^|(?<=>))[ \t]{0,8}(?:[-*•][ \t]{1,4})?\**(?P<line>\d)\**[ \t]?:(?!\d)"
    r"|(?<![\w.])(?P<triplet>\d)\.(?:colou?r|shape|size|material|position)\.[\w.-]{0,20}[\w]"
)
"""``object 3``, ``#3``, ``3:`` at the beginning of a line or after a tag, ``3.color.cyan``."""


def split(
    text: str, before: Iterable[Object], after: Iterable[Object], words: Vocabulary
) -> list[Piece]:
    """The pieces of a text, which give the text again when they are joined.

    Args:
        text: of a completion, whatever it holds. Linear in its length.
        before: the objects that may be named, at first.
        after: the same at the end; a phrase may describe either state.
        words: the vocabulary of the scene.

    >>> from star_r1.tvr import STANDARD
    >>> things = [Object(0, "red", "cube", "small", "metal", (0, 0)),
    ...           Object(3, "red", "cube", "large", "metal", (9, 9))]
    >>> split("The small red cube is object 0, a red cube.", things, things, STANDARD)
    ['The ', (0, 'small red cube'), ' is ', (0, 'object 0'), ', a red cube.']
    """
    states = [*before, *after]
    known = {thing.index for thing in states}
    pieces: list[Piece] = []
    end = 0
    for match in _pattern(words).finditer(text):
        index = _index(match, states, known)
        if index is None:
            continue
        if match.start() > end:
            pieces.append(text[end : match.start()])
        pieces.append((index, match.group()))
        end = match.end()
    if end < len(text):
        pieces.append(text[end:])
    return pieces


def _index(match: re.Match[str], states: list[Object], known: set[int]) -> int | None:
    """The object that a match names, None where that is not certain."""
    if match["phrase"] is None:
        digit = next(d for d in (match[g] for g in ("named", "hash", "line", "triplet")) if d)
        return int(digit) if int(digit) in known else None
    said = match["phrase"].lower().split()
    fitting = {
        thing.index
        for thing in states
        if set(said) <= {thing.attribute(attribute) for attribute in ATTRIBUTES}
    }
    return fitting.pop() if len(fitting) == 1 else None


@lru_cache(maxsize=64)
def _pattern(words: Vocabulary) -> re.Pattern[str]:
    def any_of(*attributes: str) -> str:
        values = (value for attribute in attributes for value in words.values(attribute))
        # The longest first: a value may begin with another one.
        return "|".join(map(re.escape, sorted(values, key=len, reverse=True)))

    looks = any_of("color", "size", "material")
    phrase = (
        rf"(?P<phrase>(?<![\w-])(?:(?:{looks})[ \t]{{1,2}}){{1,3}}(?:{any_of('shape')})(?![\w-]))"
    )
    return re.compile(
        f"{_INDEX}|{phrase}",
        re.IGNORECASE | re.MULTILINE | re.ASCII,
    )
