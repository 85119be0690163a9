"""A reference in its sentence -> what it does there: names a subject, or tells how one looks."""

from typing import Final

from star_r1.analyze.items import Reference, role_at, text_at
from star_r1.analyze.sides import Spoken
from star_r1.analyze.statements import Statements
from star_r1.analyze.story import Indices
from star_r1.analyze.syntax import (
    VERBS,
    begins_line,
    follows_index,
    has_verb,
    is_landmark,
    is_measure,
)

INSTEAD: Final = frozenset(
    ("instead", "in its place", "in their place", "at its place", "where it was", "where it stood")
)
"""What says that a thing stands for what the text spoke of."""


def refer(said: Statements, n: int, reference: Reference) -> None:
    """Read the reference at place ``n``: name what it names, or say how the target looks."""
    side = said.sides[n]
    if reference.indices:
        said.mention(reference.indices, reference.start)
    measure = is_measure(said.items, n)
    if measure or is_landmark(said.items, n):
        if not reference.indices:
            _name(said, said.story.resolve(reference, side), reference)
        said.put("" if measure else side)
    elif reference.indices:
        _refer_by_index(said, n, reference, side)
    else:
        _refer_by_phrase(said, n, reference, side)


def _refer_by_index(said: Statements, n: int, reference: Reference, side: Spoken) -> None:
    if said.excepting:
        said.judge(reference.indices, "changed")  # all are the same but this one
    if said.hushed:
        said.add(reference.indices)
        return
    if side == "before":
        said.story.listed |= set(reference.indices)
    elif side == "after":
        for index in said.story.listed & set(reference.indices):
            said.facts.compare(index)
    telling = said.phase == "telling" and said.connected
    target = said.target
    if len(target) == 1 and target[0] < 0 and (telling or said.inside is not None):
        _identify(said, target[0], reference.indices[0])
        return
    if said.inside:
        return
    if telling and said.told is not None and said.subject == (said.told[1],):
        _replace(said, *said.told, reference.indices[0])
        return
    if said.pending and said.group and role_at(said.items, n + 1) in ("value", "arrow"):
        said.judge(tuple(said.group), said.pending)  # "same 0, 8; 3 brown"
        said.pending, said.group = "", []
    starts = text_at(said.items, n + 1) in ("that", "which", "who", ":") or said.likewise
    starts |= role_at(said.items, n + 1) in VERBS or role_at(said.items, n + 2) == "arrow"
    if telling and said.subject and said.named and not starts:
        return  # "object 3 looks like object 5"
    said.add(reference.indices)
    if reference.traits:
        said.describe(reference.indices, reference, side)


def _refer_by_phrase(said: Statements, n: int, phrase: Reference, side: Spoken) -> None:
    before = text_at(said.items, n - 1)
    definite = before in ("the", "this", "that")
    _look_ahead(said, n)
    silent = said.negated or said.hushed
    if silent and not definite:
        said.contrast |= said.negated  # "there is no red cube, but a blue one"
        return
    target = said.target
    index = said.story.resolve(phrase, side)
    if not silent:
        if _describes(said, n, phrase, side, target):
            if target[0] < 0 and index is not None and side != "after" and definite:
                _name(said, index, phrase)
                if side == "before" or text_at(said.items, n - 2) == "where":
                    said.facts.correspond(target[0])
                _identify(said, target[0], index)
                return
            said.describe(target, phrase, said.side_of(phrase, side, target))
            if said.phase == "open":
                said.subject, said.phase = target, "telling"
            return
        if said.phase == "telling" and said.connected and said.subject == ():
            return
        if said.exists and phrase.plural:
            return
    if index is None and len(target) == 1 and definite and said.story.agrees(phrase, target[0]):
        index = target[0]  # "object 5: the sphere ..."
    if before in ("this", "that") and len(target) == 1 and target[0] >= 0:
        index = target[0]
    if silent:
        _name(said, index, phrase)
        if said.hushed and index is not None:
            said.add((index,))
    elif phrase.plural:
        said.add(())
    elif index is None or (
        side == "after"
        and index in said.story.initial
        and not (definite and phrase.fits(said.story.initial[index]))
    ):
        thing = said.story.add_thing(phrase.start, index)
        said.add((thing,))
        said.describe((thing,), phrase, side)
    else:
        for thing in said.story.last:
            if thing < 0 and said.story.things[-thing - 1][1] == index and side == "before":
                said.settle((thing,), True)
        said.told = (phrase, index, index not in said.facts.mentioned)
        _name(said, index, phrase)
        said.add((index,))
        if said.excepting:
            said.judge((index,), "changed")
        if said.exists and said.placed and side == "after":
            said.facts.correspond(index)


def _look_ahead(said: Statements, n: int) -> None:
    """See "in its place" before what stands there is read."""
    for place in range(n + 1, n + 6):
        if role_at(said.items, place) in ("mark", "end", "reference"):
            return
        if text_at(said.items, place) in INSTEAD:
            said.exists = said.instead = True


def _replace(said: Statements, phrase: Reference, index: int, fresh: bool, other: int) -> None:
    """A phrase that fitted one object is of another: "the metal one is object 8"."""
    if other == index:
        return
    if fresh:
        said.facts.mentioned.pop(index, None)
    said.told, said.subject = None, (other,)
    said.describe((other,), phrase, "after")


def _name(said: Statements, index: int | None, phrase: Reference) -> None:
    if index is not None:
        said.mention((index,), phrase.start)


def _identify(said: Statements, thing: int, index: int) -> None:
    """The text says which object a thing is."""
    said.story.identify(thing, index)
    said.put_in_place(thing, index)


def _describes(said: Statements, n: int, phrase: Reference, side: Spoken, target: Indices) -> bool:
    """Whether a phrase says how the target looks, rather than names another thing."""
    many = phrase.plural and len(target) == 1
    if not target or many or (said.pending and said.subject is None):
        return False
    if said.inside is not None or follows_index(said.items, n):
        return True
    if said.sentence.opens and begins_line(said.items, n):
        return False
    if said.exists and _found_again(said, n, phrase, side, target):
        return True
    if said.sentence.question and said.subject is None and said.phase == "telling":
        return False  # "Is the cube ...?"
    if said.corrects and text_at(said.items, n - 1) == "the":
        return False  # "no, that is the cylinder"
    if said.phase == "telling":
        return said.connected
    single = len(target) == 1
    agreement = said.story.agreement(phrase, target[0])
    if has_verb(said.items, n):
        return said.is_item(target) and side == "after" and agreement > 0
    short = "shape" not in phrase.traits or (len(phrase.traits) == 1 and target[0] >= 0)
    if single and short and text_at(said.items, n - 1) in ("a", "an"):
        return True  # "..., a small one", "so a sphere"
    return _found_again(said, n, phrase, side, target)


def _found_again(
    said: Statements, n: int, phrase: Reference, side: Spoken, target: Indices
) -> bool:
    """Whether a thing that the text finds in a picture is the one spoken of."""
    if len(target) != 1 or phrase.plural:
        return False
    final = side in ("after", "both") or said.exists
    if said.is_item(target):
        return final or said.connected
    definite = text_at(said.items, n - 1) == "the"
    if said.instead and not definite and said.named:
        return True
    return final and not definite and said.story.agreement(phrase, target[0]) > 0
