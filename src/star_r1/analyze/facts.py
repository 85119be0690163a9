"""What a reasoning has said so far of each object, and what it took back.

A thing of which the text has not yet said which object it is has a negative index, until it does.
"""

from dataclasses import dataclass, field
from typing import Final

from star_r1.tvr.change import Change
from star_r1.tvr.sample import Sample
from star_r1.tvr.vocabulary import ATTRIBUTES

_NAMES: Final = (*ATTRIBUTES, "position")


@dataclass(slots=True)
class Facts:
    """Grows with the sentences of one reasoning; an index may be one that is not visible."""

    sample: Sample
    sentence: int = 0
    corrected: int = -1
    """The number of ``recent`` statements when the text last said "wait" or "no": they may be
    replaced."""
    mentioned: dict[int, int] = field(default_factory=dict)
    compared: dict[int, int] = field(default_factory=dict)
    corresponding: dict[int, int] = field(default_factory=dict)
    stated: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)
    """Index, attribute -> values, each with its place in ``recent``."""
    before: dict[tuple[int, str], str] = field(default_factory=dict)
    unplaced: dict[tuple[int, str], str] = field(default_factory=dict)
    """How a thing looks, where the text does not say in which picture."""
    recent: list[tuple[int, tuple[int, str], str]] = field(default_factory=list)
    """What was stated or found, in order: the sentence, the key of ``stated``, and the value."""
    taken_back: int = 0
    """So many of ``recent`` were looked at to be taken back."""
    latest: dict[int, int] = field(default_factory=dict)
    """The last sentence that spoke of an object in the final picture."""

    def mention(self, index: int, place: int) -> None:
        """Note that an object is named at ``place`` in the text."""
        self.mentioned[index] = min(place, self.mentioned.get(index, place))

    def compare(self, index: int) -> None:
        """Note that an object was looked at in both pictures."""
        self.compared.setdefault(index, self.sentence)
        self.latest[index] = self.sentence

    def correspond(self, index: int) -> None:
        """Note that an object was found in the final picture."""
        self.compare(index)
        if index not in self.corresponding:
            self.corresponding[index] = self.sentence
            self.recent.append((self.sentence, (index, ""), ""))

    def say_before(self, index: int, attribute: str, value: str) -> None:
        """Note how the text says that an object was."""
        self.before[index, attribute] = value

    def was(self, index: int, attribute: str) -> str:
        """How an object was: as the text said, else as the question did; empty if neither."""
        if (index, attribute) in self.before:
            return self.before[index, attribute]
        return self.sample.initial.objects[index].attribute(attribute) if self.knows(index) else ""

    def knows(self, index: int) -> bool:
        """Whether the question told how an object looks."""
        told = "position" in self.sample.vocabulary.attributes
        return index >= 0 and (told or self.sample.initial.objects[index].visible)

    def say_after(self, index: int, attribute: str, value: str) -> None:
        """Note how the text says that an object is at the end; a change, if it was different."""
        self.compare(index)
        key = index, attribute
        self._replace(key)
        if value != self.was(index, attribute):
            self._state(key, value)

    def state(self, change: Change) -> None:
        """Note a change that is written as one."""
        self.compare(change.index)
        self._state((change.index, change.attribute), change.value)

    def _state(self, key: tuple[int, str], value: str) -> None:
        self.stated.setdefault(key, {}).setdefault(value, len(self.recent))
        self.recent.append((self.sentence, key, value))

    def say_same(self, index: int, attribute: str | None) -> None:
        """Note that a compared object, or one of its attributes, did not change."""
        for name in _NAMES:
            if attribute in (None, name):
                self._replace((index, name))

    def identify(self, thing: int, index: int, found: bool = True) -> None:
        """Note which object a thing is.

        Args:
            thing: its negative index.
            index: the object's.
            found: whether the text says it, so that the thing is a correspondence.
        """
        for name in _NAMES:
            old, new = (thing, name), (index, name)
            if old in self.before:
                self.before.setdefault(new, self.before.pop(old))
            shown = self.unplaced.pop(old, None)
            if shown is not None and thing not in self.compared:
                self.before.setdefault(new, shown)
            elif shown is not None and shown != self.was(*new):
                self._state(new, shown)
            for value in self.stated.pop(old, {}):
                if value != self.was(*new):
                    self._state(new, value)
        if self.compared.pop(thing, None) is not None:
            self.compare(index)
        if self.corresponding.pop(thing, None) is not None and found:
            self.correspond(index)

    def _replace(self, key: tuple[int, str]) -> None:
        """Drop what was stated before the last correction."""
        values = self.stated.get(key, {})
        for value in [value for value, at in values.items() if at < self.corrected]:
            del values[value]

    def withdraw(self, index: int) -> None:
        """Drop what this sentence stated of an object."""
        for name in _NAMES:
            values = self.stated.get((index, name), {})
            for value in [v for v, at in values.items() if self.recent[at][0] == self.sentence]:
                del values[value]

    def correct(self) -> None:
        """Note that the text says "wait" or "no"."""
        self.corrected = len(self.recent)

    def take_back(self) -> None:
        """Drop what the sentence before the correction stated and found."""
        last = self.sentence - 1
        start, self.taken_back = self.taken_back, len(self.recent)
        for sentence, key, value in self.recent[start:]:
            if sentence < last:
                continue
            if value:
                self.stated.get(key, {}).pop(value, None)
            elif self.corresponding.get(key[0]) == last:
                del self.corresponding[key[0]]

    @property
    def changes(self) -> frozenset[Change]:
        """All that is stated."""
        return frozenset(
            Change(index, attribute, value)
            for (index, attribute), values in self.stated.items()
            for value in values
            if index >= 0
        )
