"""The state while one sentence is read, and how statements enter it."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from star_r1.analyze.items import Reference
from star_r1.analyze.sentences import Sentence
from star_r1.analyze.sides import Spoken
from star_r1.analyze.story import Indices, Story, Verdict
from star_r1.tvr.vocabulary import N_OBJECTS

Phase: TypeAlias = Literal["open", "naming", "telling"]


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
        changing: whether something is said to change, so that a value of no picture is the new one.
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
        self.named = self.changing = False
        self.instead = False  # what is found next stands for the subject
        self.corrects = False
        self.taken = False  # something has taken the place of what the text spoke of
        self.told: tuple[Reference, int, bool] | None = None  # the last phrase, and what it named
        self.contrast = False  # "no longer a cube": what follows "but" is new
        self._begin_part()

    def _begin_part(self) -> None:
        self.connected = False  # a verb or marker stands before what comes
        self.hushed = False  # what comes is not said
        self.negated = False
        self.exists = False  # "there is"
        self.placed = False  # a place was told
        self.excepting = False
        self.likewise = False

    @property
    def _target(self) -> Indices:
        """What a description or verdict at this place is of."""
        if self.inside is not None:
            return self.inside
        if self.phase == "naming":
            return tuple(self.group)
        return self.story.last if self.subject is None else self.subject

    def _side_of(self, phrase: Reference, side: Spoken, target: Indices) -> Spoken:
        """The side of a description; of one that says none, after where only that makes sense."""
        if side or len(target) != 1:
            return side
        if self.instead:
            return "after"
        if not self.story.differs(phrase, target[0]):
            return ""
        now = self.exists or self.changing or self.corrects or self.contrast
        return "after" if now or (not self.named and self.story.is_now(target[0])) else ""

    def _describe(self, target: Indices, phrase: Reference, side: Spoken) -> None:
        if self.hushed or self.negated:
            return
        for index in target:
            if side in ("after", "both"):
                self.facts.compare(index)
                if set(phrase.traits) != {"shape"}:
                    self.facts.correspond(index)
            for attribute, value in phrase.traits.items():
                if index < 0 or not side or self.facts.was(index, attribute):
                    self._say(index, attribute, value, side)

    def _say(self, index: int, attribute: str, value: str, side: Spoken) -> None:
        if not side and index < 0:
            self.facts.unplaced[index, attribute] = value
        elif side not in ("after", "both"):
            self.facts.say_before(index, attribute, value)
        elif not self.sentence.question:
            self.facts.say_after(index, attribute, value)

    def _put(self, side: Spoken) -> None:
        """Say where the target is."""
        if self.hushed or self.sentence.question or side not in ("after", "both"):
            return
        if self.subject is not None or self.phase == "naming" or self._about(self._target):
            for index in self._target:
                self.facts.correspond(index)

    def _judge(self, target: Indices, verdict: Verdict, attributes: Sequence[str] = ()) -> None:
        self.judged = verdict
        for index in self._settle(target, False):
            self.facts.compare(index)
            for attribute in (attributes or (None,)) if verdict == "same" else ():
                self.facts.say_same(index, attribute)

    def _about(self, target: Indices) -> bool:
        """Whether the line is about the target."""
        return len(target) == 1 and target in (self.topic, self.story.item)

    def _mention(self, indices: Indices, start: int) -> None:
        for index in indices:
            if index in self.story.initial:
                self.facts.mention(index, start)
        self.story.named = [*self.story.named, *indices][-N_OBJECTS:]

    def _settle(self, target: Indices, found: bool) -> Indices:
        """Take things for the objects that they seem to be."""
        settled = []
        for index in target:
            taken = self.story.settle(index, found) if index < 0 else index
            self._put_in_place(index, taken)
            settled.append(taken)
        return tuple(settled)

    def _put_in_place(self, thing: int, index: int) -> None:
        self.group = [index if one == thing else one for one in self.group]
        for name in ("subject", "inside"):
            if there := getattr(self, name):
                setattr(self, name, tuple(index if one == thing else one for one in there))
        if self.subject is None and self.phase == "telling":
            self.subject = (index,)

    def _verb(self) -> None:
        """What was named before is the subject of what follows."""
        if self.inside is not None:
            return
        if self.phase == "naming":
            self.subject, self.group = () if self.excepting else tuple(self.group), []
            self.excepting = False
            if self.pending and not self.hushed:
                self._judge(self.subject, self.pending)
                self.pending = ""
        self.phase = "telling"
