"""The sentences so far -> what the next may refer to: the object of its item, "it", "both"."""

from typing import Final, Literal, TypeAlias

from star_r1.analyze.facts import Facts
from star_r1.analyze.items import Reference, role_at, text_at
from star_r1.analyze.sentences import Sentence
from star_r1.analyze.sides import Spoken
from star_r1.tvr.sample import Sample

Indices: TypeAlias = tuple[int, ...]
Verdict: TypeAlias = Literal["same", "changed", ""]

_GOES_ON: Final = frozenset(
    (
        *(
            "picture",
            "to",
            "from",
            "attribute",
            "same",
            "changed",
            "still",
            "pronoun",
            "present",
            "past",
        ),
        "not",
    )
)
"""Roles of the first word of a line that goes on about what the line before it was about."""


class Story:
    """What is known after some sentences of a reasoning.

    Attributes:
        facts: what was said so far.
        item: what the lines below a heading ("Object 3:") or behind a bullet are about.
        last: what the last sentence was about, for "it".
        named: the objects named last, for "both".
        asked: what the question just asked is about, for "no".
        judged: the last verdict, for "neither has the cube".
        listed: the objects named where the text speaks of the first picture.
        things: those without an index yet, of index -1, -2, ...: where each was named, and which
            object it may be.
    """

    def __init__(self, sample: Sample) -> None:
        """Nothing is read yet."""
        self.facts = Facts(sample)
        self.initial = {thing.index: thing for thing in sample.initial.visible}
        self.final = {index: sample.final.objects[index] for index in self.initial}
        self.item: Indices = ()
        self.last: Indices = ()
        self.named: list[int] = []
        self.asked: Indices = ()
        self.judged: Verdict = ""
        self.listed: set[int] = set()
        self.things: list[tuple[int, int | None]] = []

    def open(self, sentence: Sentence) -> None:
        """Begin a sentence."""
        self.facts.sentence += 1
        if not sentence.opens:
            return
        self.facts.corrected = -1
        if not sentence.bullet and not self._goes_on(sentence):
            self.item = self.last = ()
        self.last = self.item or self.last

    def _goes_on(self, sentence: Sentence) -> bool:
        """Whether a line is about what the line before it was about."""
        roles = [role_at(sentence.items, n) for n in range(min(len(sentence.items), 8))]
        roles = [role for role in roles if role not in ("article", "mark")] + ["end", "end"]
        if roles[0] == "time":  # "Now it ...", "After: red", not "Now the final picture"
            return roles[1] not in ("picture", "other")
        field = text_at(sentence.items, 1) == ":" and len(sentence.items) < 5  # "new: glass"
        return roles[0] in _GOES_ON or (field and "reference" not in roles)

    def close(
        self, sentence: Sentence, about: Indices, topic: Indices, named: bool, judged: Verdict
    ) -> None:
        """End a sentence.

        Args:
            sentence: that was read.
            about: what a pronoun in the next one would mean.
            topic: what stands before a colon.
            named: whether it named anything as what it is about.
            judged: its last verdict.
        """
        if sentence.opens and named:
            self.item = topic or (about if sentence.bullet and len(about) == 1 else ())
        self.last, self.judged = about, judged
        self.asked = about if sentence.question else ()

    def resolve(self, phrase: Reference, side: Spoken) -> int | None:
        """The one object that an attribute phrase fits, in the final picture first where asked."""
        if phrase.plural:
            return None
        tables = (self.final, self.initial) if side in ("after", "both") else (self.initial,)
        for things in tables:
            fitting = [index for index, thing in things.items() if phrase.fits(thing)]
            if len(fitting) == 1:
                return fitting[0]
        return None

    def add_thing(self, start: int, guess: int | None) -> int:
        """The negative index of a new thing, which may be an object."""
        self.things.append((start, guess))
        return -len(self.things)

    def identify(self, thing: int, index: int, found: bool = True) -> None:
        """Note which object a thing is."""
        self.things[-thing - 1] = (self.things[-thing - 1][0], None)
        self.facts.identify(thing, index, found)
        self.last = tuple(index if one == thing else one for one in self.last)

    def settle(self, thing: int, found: bool = False) -> int:
        """The object that a thing is taken for, where the text goes on as if it had said so."""
        start, guess = self.things[-thing - 1]
        if guess is None:
            return thing
        self.facts.mention(guess, start)
        self.identify(thing, guess, found)
        return guess

    def end(self) -> None:
        """What was named in the final picture alone is mentioned, no more."""
        for start, guess in self.things:
            if guess is not None:
                self.facts.mention(guess, start)

    def agreement(self, phrase: Reference, index: int) -> float:
        """The share of its traits that an object had, as far as text or question tell them."""
        same = sum(self.facts.was(index, name) == value for name, value in phrase.traits.items())
        return same / len(phrase.traits)

    def agrees(self, phrase: Reference, index: int) -> bool:
        """Whether an object had all of its traits."""
        return not phrase.plural and self.agreement(phrase, index) == 1

    def differs(self, phrase: Reference, index: int) -> bool:
        """Whether a description says something else than an object was."""
        return any(self.facts.was(index, name) != value for name, value in phrase.traits.items())

    def is_now(self, index: int) -> bool:
        """Whether an object was just spoken of in the final picture."""
        return 0 < self.facts.sentence - 1 <= self.facts.latest.get(index, -9)
