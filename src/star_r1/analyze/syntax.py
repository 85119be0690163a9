"""An item of a sentence -> what its neighbours say of it: subject, landmark, measure, scope."""

from collections.abc import Sequence
from typing import Final

from star_r1.analyze.items import Item, Reference, role_at, text_at
from star_r1.analyze.words import Word

VERBS: Final = frozenset(("past", "present", "become", "still", "changed", "same", "link", "arrow"))
CLOSING: Final = frozenset(("mark", "picture", "end"))
"""Roles behind the last word of a part of a sentence."""

_JOINTS: Final = frozenset((",", "(", "[", "-", "–", "—", ":", "|", "="))
_REACH: Final = 8
"""How many items away a word may still belong to another."""


def begins_line(items: Sequence[Item], n: int) -> bool:
    """Whether nothing but articles and marks stands before item ``n``."""
    return all(role_at(items, place) in ("article", "mark") for place in range(min(n, _REACH)))


def follows_index(items: Sequence[Item], n: int) -> bool:
    """Whether only marks stand between item ``n`` and an index: "object 3 (small red cube)"."""
    for place in range(n - 1, max(n - 5, -1), -1):
        item = items[place]
        if isinstance(item, Reference):
            return len(item.indices) == 1
        if item.role != "article" and item.text not in _JOINTS:
            return False
    return False


def has_verb(items: Sequence[Item], n: int) -> bool:
    """Whether a verb follows that makes item ``n`` its subject."""
    for place in range(n + 1, n + 4):
        role = role_at(items, place)
        if role in ("reference", "mark", "end"):
            return False
        if role in VERBS:
            return True
    return False


def is_landmark(items: Sequence[Item], n: int) -> bool:
    """Whether reference ``n`` only tells a place: "behind the red cube"."""
    place = n - 1
    while text_at(items, place) in ("the", "a", "an", "object", "of"):
        place -= 1
    role, text = role_at(items, place), text_at(items, place)
    if role == "place":
        of = any(text_at(items, between) == "of" for between in range(place + 1, n))
        return of or text in ("behind", "near")
    return role in ("beside", "hidden")


def is_measure(items: Sequence[Item], n: int) -> bool:
    """Whether reference ``n`` is what something is compared with: "as small as the sphere"."""
    place = n - 1
    while text_at(items, place) in ("the", "a", "an", "object"):
        place -= 1
    as_it = text_at(items, place) == "as" and role_at(items, place - 1) == "value"
    return as_it or text_at(items, place) == "than"


def scope(items: Sequence[Item], n: int) -> list[str]:
    """The attributes that verdict ``n`` is about: "same color", "shape and size unchanged"."""
    found = []
    for places in (range(n - 1, n - _REACH, -1), range(n + 1, n + _REACH)):
        for place in places:
            if role_at(items, place) in ("reference", "mark", "but", "value", "end"):
                break
            item = items[place]
            if isinstance(item, Word) and item.role == "attribute":
                found.append(item.attribute)
    return found
