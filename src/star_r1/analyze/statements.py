"""The state while one sentence is read; what it says goes through here into the facts."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from star_r1.analyze.items import Reference
from star_r1.analyze.sentences import Sentence
from star_r1.analyze.sides import Spoken
from star_r1.analyze.story import Indices, Story, Verdict
from star_r1.tvr.vocabulary import N_OBJECTS

Phase: TypeAlias = Literal["open", "naming", "telling"]

_MOST_SUBJECTS: Final = 2 * N_OBJECTS
"""Of which one verb can be, so that a text without verbs costs no more than its length."""


class Statements:
    """The state while the items of a sentence are read from left to right.

    Attributes:
        phase: ``naming`` while subjects are named, ``telling`` behind their verb, ``open`` behind a
            comma or "and", where either may come.
        group: the subjects named so far.
        subject: of the verb; None before there is one, empty where the text names none we know.
        topic: what stands before a colon: the rest is about that.
        inside: what a bracket is about; None outside of brackets.
        pending: a verdict on what is named after it.
        judged: the last verdict.
        named: whether a subject was named.
        told: the phrase that named the last subject, the object it fitted, and whether that was
            its first mention: "the metal one is object 8" takes it back.

    The flags from ``changing`` on say what makes a value of no picture a new one; those of
    ``begin_part`` hold up to a comma.
    """

    def __init__(self, story: Story, sentence: Sentence) -> None:
        """Nothing of the sentence is read yet."""
        self.story, self.facts, self.sentence = story, story.facts, sentence
        references = (n for n, item in enumerate(sentence.items) if isinstance(item, Reference))
        self.last_reference = max(references, default=-1)
        self.items, self.sides = sentence.items, sentence.sides
        self.phase: Phase = "open"
        self.group: list[int] = []
        self.subject: Indices | None = None
        self.topic: Indices = ()
        self.inside: Indices | None = None
        self.pending: Verdict = ""
        self.judged: Verdict = ""
        self.named = False
        self.told: tuple[Reference, int, bool] | None = None
        self.changing = False  # "changed"
        self.instead = False  # "in its place": what is found next stands for the subject
        self.corrects = False  # "wait"
        self.contrast = False  # "no longer a cube": what follows "but" is new
        self.begin_part()

    def begin_part(self) -> None:
        """Forget what holds only up to a comma."""
        self.connected = False  # a verb or marker stands before what comes
        self.hushed = False  # what comes is not said
        self.negated = False  # "not"
        self.exists = False  # "there is"
        self.placed = False  # a place was told
        self.excepting = False  # "except": all are the same but what comes
        self.likewise = False  # "too": as what was judged before

    @property
    def target(self) -> Indices:
        """What a description or verdict at this place is of."""
        if self.inside is not None:
            return self.inside
        if self.phase == "naming":
            return tuple(self.group)
        return self.story.last if self.subject is None else self.subject

    def side_of(self, phrase: Reference, side: Spoken, target: Indices) -> Spoken:
        """The side of a description; of one that says none, after where only that makes sense."""
        if side or len(target) != 1:
            return side
        if self.instead:
            return "after"
        if not self.story.differs(phrase, target[0]):
            return ""
        now = self.exists or self.changing or self.corrects or self.contrast
        return "after" if now or (not self.named and self.story.is_now(target[0])) else ""

    def describe(self, target: Indices, phrase: Reference, side: Spoken) -> None:
        """Say how the target looks in a picture."""
        if self.hushed or self.negated:
            return
        for index in target:
            if side in ("after", "both"):
                self.facts.compare(index)
                if set(phrase.traits) != {"shape"}:
                    self.facts.correspond(index)
            for attribute, value in phrase.traits.items():
                if index < 0 or not side or self.facts.was(index, attribute):
                    self.say(index, attribute, value, side)

    def say(self, index: int, attribute: str, value: str, side: Spoken) -> None:
        """Say one value of one object."""
        if not side and index < 0:
            self.facts.unplaced[index, attribute] = value
        elif side not in ("after", "both"):
            self.facts.say_before(index, attribute, value)
        elif not self.sentence.question:
            self.facts.say_after(index, attribute, value)

    def put(self, side: Spoken) -> None:
        """Say where the target is."""
        if self.hushed or self.sentence.question or side not in ("after", "both"):
            return
        if self.subject is not None or self.phase == "naming" or self.is_item(self.target):
            for index in self.target:
                self.facts.correspond(index)

    def judge(self, target: Indices, verdict: Verdict, attributes: Sequence[str] = ()) -> None:
        """Say that the target, or some of its attributes, are the same or changed."""
        self.judged = verdict
        for index in self.settle(target, False):
            self.facts.compare(index)
            for attribute in (attributes or (None,)) if verdict == "same" else ():
                self.facts.say_same(index, attribute)

    def is_item(self, target: Indices) -> bool:
        """Whether the line is about the target."""
        return len(target) == 1 and target in (self.topic, self.story.item)

    def mention(self, indices: Indices, start: int) -> None:
        """Note that objects are named."""
        for index in indices:
            if index in self.story.initial:
                self.facts.mention(index, start)
        self.story.named = [*self.story.named, *indices][-N_OBJECTS:]

    def add(self, indices: Indices) -> None:
        """Name a subject."""
        if self.phase != "naming":
            self.group, self.phase = [], "naming"
        self.named = True
        self.group += [index for index in indices if index not in self.group]
        self.group = self.group[-_MOST_SUBJECTS:]

    def settle(self, target: Indices, found: bool) -> Indices:
        """Take things for the objects that they seem to be."""
        settled = []
        for index in target:
            taken = self.story.settle(index, found) if index < 0 else index
            self.put_in_place(index, taken)
            settled.append(taken)
        return tuple(settled)

    def put_in_place(self, thing: int, index: int) -> None:
        """Go on with an object where this sentence spoke of a thing."""
        self.group = [index if one == thing else one for one in self.group]
        for name in ("subject", "inside"):
            if there := getattr(self, name):
                setattr(self, name, tuple(index if one == thing else one for one in there))
        if self.subject is None and self.phase == "telling":
            self.subject = (index,)

    def verb(self) -> None:
        """What was named before is the subject of what follows."""
        if self.inside is not None:
            return
        if self.phase == "naming":
            self.subject, self.group = () if self.excepting else tuple(self.group), []
            self.excepting = False
            if self.pending and not self.hushed:
                self.judge(self.subject, self.pending)
                self.pending = ""
        self.phase = "telling"
