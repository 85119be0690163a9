"""What the references of a sentence name: its subjects, or how a subject looks."""

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
from star_r1.tvr.vocabulary import N_OBJECTS

INSTEAD: Final = frozenset(
    ("instead", "in its place", "in their place", "at its place", "where it was", "where it stood")
)
"""What says that a thing stands for what the text spoke of."""
_MOST_SUBJECTS: Final = 2 * N_OBJECTS
"""Of which one verb can be, so that a text without verbs costs no more than its length."""


class Naming(Statements):
    """Reads references."""

    def _refer(self, n: int, reference: Reference) -> None:
        side = self.sides[n]
        if reference.indices:
            self._mention(reference.indices, reference.start)
        measure = is_measure(self.items, n)
        if measure or is_landmark(self.items, n):
            if not reference.indices:
                self._name(self.story.resolve(reference, side), reference)
            self._put("" if measure else side)
        elif reference.indices:
            self._refer_by_index(n, reference, side)
        else:
            self._refer_by_phrase(n, reference, side)

    def _refer_by_index(self, n: int, reference: Reference, side: Spoken) -> None:
        if self.excepting:
            self._judge(reference.indices, "changed")  # all are the same but this one
        if self.hushed:
            self._add(reference.indices)
            return
        if side == "before":
            self.story.listed |= set(reference.indices)
        elif side == "after":
            for index in self.story.listed & set(reference.indices):
                self.facts.compare(index)
        telling = self.phase == "telling" and self.connected
        target = self._target
        if len(target) == 1 and target[0] < 0 and (telling or self.inside is not None):
            self._identify(target[0], reference.indices[0])
            return
        if self.inside:
            return
        if telling and self.told is not None and self.subject == (self.told[1],):
            self._replace(*self.told, reference.indices[0])
            return
        if self.pending and self.group and role_at(self.items, n + 1) in ("value", "arrow"):
            self._judge(tuple(self.group), self.pending)  # "same 0, 8; 3 brown"
            self.pending, self.group = "", []
        starts = text_at(self.items, n + 1) in ("that", "which", "who", ":") or self.likewise
        starts |= role_at(self.items, n + 1) in VERBS or role_at(self.items, n + 2) == "arrow"
        if telling and self.subject and self.named and not self.pending and not starts:
            return  # "object 3 looks like object 5"
        self._add(reference.indices)
        if reference.traits:
            self._describe(reference.indices, reference, side)

    def _refer_by_phrase(self, n: int, phrase: Reference, side: Spoken) -> None:
        before = text_at(self.items, n - 1)
        definite = before in ("the", "this", "that")
        self._look_ahead(n)
        silent = self.negated or self.hushed
        if silent and not definite:
            self.contrast |= self.negated  # "there is no red cube, but a blue one"
            return
        target = self._target
        index = self.story.resolve(phrase, side)
        if not silent:
            if self._describes(n, phrase, side, target):
                if target[0] < 0 and index is not None and side != "after" and definite:
                    self._name(index, phrase)
                    if side == "before" or text_at(self.items, n - 2) == "where":
                        self.facts.correspond(target[0])
                    self._identify(target[0], index)
                    return
                self._describe(target, phrase, self._side_of(phrase, side, target))
                if self.phase == "open":
                    self.subject, self.phase = target, "telling"
                return
            if self.phase == "telling" and self.connected and self.subject == ():
                return
            if self.exists and phrase.plural:
                return
        if index is None and len(target) == 1 and definite and self.story.agrees(phrase, target[0]):
            index = target[0]  # "object 5: the sphere ..."
        if before in ("this", "that") and len(target) == 1 and target[0] >= 0:
            index = target[0]
        if silent:
            self._name(index, phrase)
            if self.hushed and index is not None:
                self._add((index,))
        elif phrase.plural:
            self._add(())
        elif index is None or (
            side == "after"
            and index in self.story.initial
            and not (definite and phrase.fits(self.story.initial[index]))
        ):
            thing = self.story.add_thing(phrase.start, index)
            self._add((thing,))
            self._describe((thing,), phrase, side)
        else:
            for thing in self.story.last:
                if thing < 0 and self.story.things[-thing - 1][1] == index and side == "before":
                    self._settle((thing,), True)
            self.told = (phrase, index, index not in self.facts.mentioned)
            self._name(index, phrase)
            self._add((index,))
            if self.excepting:
                self._judge((index,), "changed")
            if self.exists and self.placed and side == "after":
                self.facts.correspond(index)

    def _look_ahead(self, n: int) -> None:
        """See "in its place" before what stands there is read."""
        for place in range(n + 1, n + 6):
            if role_at(self.items, place) in ("mark", "end", "reference"):
                return
            if text_at(self.items, place) in INSTEAD:
                self.exists = self.instead = self.taken = True

    def _replace(self, phrase: Reference, index: int, fresh: bool, other: int) -> None:
        """A phrase that fitted one object is of another: "the metal one is object 8"."""
        if other == index:
            return
        if fresh:
            self.facts.mentioned.pop(index, None)
        self.told, self.subject = None, (other,)
        self._describe((other,), phrase, "after")

    def _add(self, indices: Indices) -> None:
        """Name a subject."""
        if self.phase != "naming":
            self.group, self.phase = [], "naming"
        self.named = True
        self.group += [index for index in indices if index not in self.group]
        self.group = self.group[-_MOST_SUBJECTS:]

    def _name(self, index: int | None, phrase: Reference) -> None:
        if index is not None:
            self._mention((index,), phrase.start)

    def _identify(self, thing: int, index: int) -> None:
        """The text says which object a thing is."""
        self.story.identify(thing, index)
        self._put_in_place(thing, index)

    def _describes(self, n: int, phrase: Reference, side: Spoken, target: Indices) -> bool:
        """Whether a phrase says how the target looks, rather than names another thing."""
        many = phrase.plural and len(target) == 1
        if not target or many or (self.pending and self.subject is None):
            return False
        if self.inside is not None or follows_index(self.items, n):
            return True
        if self.sentence.opens and begins_line(self.items, n):
            return False
        if self.exists and self._found_again(n, phrase, side, target):
            return True
        if self.sentence.question and self.subject is None and self.phase == "telling":
            return False  # "Is the cube ...?"
        if self.corrects and text_at(self.items, n - 1) == "the":
            return False  # "no, that is the cylinder"
        if self.phase == "telling":
            return self.connected
        single = len(target) == 1
        agreement = self.story.agreement(phrase, target[0])
        if has_verb(self.items, n):
            return self._about(target) and side == "after" and agreement > 0
        short = "shape" not in phrase.traits or (len(phrase.traits) == 1 and target[0] >= 0)
        if single and short and text_at(self.items, n - 1) in ("a", "an"):
            return True  # "..., a small one", "so a sphere"
        return self._found_again(n, phrase, side, target)

    def _found_again(self, n: int, phrase: Reference, side: Spoken, target: Indices) -> bool:
        """Whether a thing that the text finds in a picture is the one spoken of."""
        if len(target) != 1 or phrase.plural:
            return False
        final = side in ("after", "both") or self.exists
        if self._about(target):
            return final or self.connected
        definite = text_at(self.items, n - 1) == "the"
        if self.instead and not definite and (self.named or self.taken):
            return True
        return final and not definite and self.story.agreement(phrase, target[0]) > 0
