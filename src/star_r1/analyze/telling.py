"""Reads one sentence: what its words say of what it names."""

from collections.abc import Callable
from typing import Final

from star_r1.analyze.items import Reference, role_at
from star_r1.analyze.joining import Joining
from star_r1.analyze.sentences import Sentence
from star_r1.analyze.story import Story, Verdict
from star_r1.analyze.syntax import CLOSING, scope
from star_r1.analyze.words import Word
from star_r1.tvr.change import Change
from star_r1.tvr.vocabulary import DIRECTIONS, MOVES


def tell(story: Story, sentence: Sentence) -> None:
    """Add what a sentence says to the story."""
    story.open(sentence)
    if not sentence.heading:
        _Telling(story, sentence).tell()


class _Telling(Joining):
    """Reads all items; the handler of a word is that of its role."""

    def tell(self) -> None:
        """Read all items."""
        for n, item in enumerate(self.items):
            if isinstance(item, Reference):
                self._refer(n, item)
            elif (handler := _HANDLERS.get(item.role)) is not None:
                handler(self, n, item)
        verdict = self.pending or (self.judged if self.likewise else "")
        if verdict and self.phase == "naming" and not self.excepting:
            self._judge(tuple(self.group), verdict)
        if self.subject is not None and self.phase != "naming":
            about = self.subject
        elif self.named:
            about = tuple(self.group) if len(self.group) == 1 else ()
        else:
            about = self.story.last
        self.story.close(self.sentence, about, self.topic, self.named, self.judged)

    def _value(self, n: int, word: Word) -> None:
        if self.hushed:
            return
        self._verb()
        target = self._target
        if self.negated:
            for index in target:
                if self.facts.was(index, word.attribute) == word.value:
                    self.facts.compare(index)  # "is not red any more"
            return
        for index in self._settle(target, True) if self.sides[n] == "before" else target:
            side, key = self.sides[n], (index, word.attribute)
            if not side and self.facts.was(*key) != word.value:
                side = "after"  # what the table does not say, the text must have seen
            if side:
                self._say(index, word.attribute, word.value, side)

    def _equals(self, n: int, word: Word) -> None:
        """A mark; "=" alone says that nothing changed."""
        if word.text == "=" and role_at(self.items, n + 1) in CLOSING | {"reference"}:
            self._verdict(n, word)
        else:
            self._mark(n, word)

    def _hidden(self, n: int, word: Word) -> None:
        """What is hidden is not looked at."""
        self._predicate(n, word)
        self.hushed = True

    def _place(self, n: int, word: Word) -> None:
        self.placed = True
        named = self.phase == "naming" and role_at(self.items, n - 1) == "reference"
        if named and self.sides[n] == "after" and self.group and self.group[-1] >= 0:
            self.facts.correspond(self.group[-1])  # "object 6 next to it, ..."
        if self.phase != "naming" or self.inside is not None:
            now = self.subject is not None and not self.named and not self.sides[n]
            now = now and all(map(self.story.is_now, self._target))
            self._put("after" if now else self.sides[n])

    def _verdict(self, n: int, word: Word) -> None:
        if word.role == "changed":
            self.changing = not self.negated
        if self.hushed or self.sentence.question:
            return
        self._verb()
        verdict: Verdict = "changed" if word.role == "changed" and not self.negated else "same"
        later = n < self.last_reference
        if self.inside is None and self.subject is None and (later or not self.story.last):
            self.pending, self.phase = verdict, "telling"
            return
        attributes = scope(self.items, n)
        self._judge(self._target, verdict, attributes)
        plain = word.text.isalpha() and not attributes
        if verdict == "same" and plain and role_at(self.items, n + 1) in CLOSING:
            for index in self._target:  # "small cube now large cube same": the verdict decides
                self.facts.withdraw(index)

    def _triplet(self, n: int, word: Word) -> None:
        index = int(word.text)
        self._mention((index,), word.start)
        if not word.value:
            self._add((index,))
            return
        try:
            change = Change.parse(
                f"{index}.{word.attribute}.{word.value}", self.facts.sample.vocabulary
            )
        except ValueError:
            return
        if self.hushed or self.negated or self.sentence.question:
            return
        if role_at(self.items, n + 1) == "arrow":
            self.facts.say_before(index, word.attribute, word.value)
        elif role_at(self.items, n - 1) == "arrow" and word.attribute != "position":
            self.facts.say_after(index, word.attribute, word.value)
        else:
            self.facts.state(change)

    def _move(self, n: int, word: Word) -> None:
        """ "moved 2 steps to the front left", where objects may move."""
        self._predicate(n, word)
        if "position" not in self.facts.sample.vocabulary.attributes:
            return
        direction = steps = ""
        for item in self.items[n + 1 : n + 10]:
            if isinstance(item, Reference) or item.role == "but":
                break
            text = item.value if item.role == "direction" else item.text
            direction = text if text in DIRECTIONS and not direction else direction
            steps = item.text if item.role == "number" and not steps else steps
        said = not (self.hushed or self.negated or self.sentence.question)
        if said and f"{direction}.{steps}" in MOVES:
            for index in self._settle(self._target, False):
                self.facts.state(Change(index, "position", f"{direction}.{steps}"))

    def _still(self, n: int, word: Word) -> None:
        self._predicate(n, word)
        if not self.hushed and not self.sentence.question:
            self._judge(self._target, "same", ("",))

    def _yes(self, n: int, word: Word) -> None:
        if self.sentence.row:
            self._judge(self._target, "changed")
        elif n == 0:
            for index in self.story.asked:
                self.facts.compare(index)

    def _no(self, n: int, word: Word) -> None:
        if self.sentence.row:
            self._judge(self._target, "same")
        elif role_at(self.items, n + 1) in ("mark", "end", "wait", "no"):
            self._yes(n, word)
            self._wait(n, word)
        else:
            self.negated = True

    def _wait(self, n: int, word: Word) -> None:
        self.facts.correct()
        self.corrects = True

    def _take_back(self, n: int, word: Word) -> None:
        self.facts.take_back()


_HANDLERS: Final[dict[str, Callable[[_Telling, int, Word], None]]] = {
    "value": _Telling._value,
    "triplet": _Telling._triplet,
    "mark": _Telling._equals,
    "and": _Telling._and,
    "but": _Telling._part,
    "still": _Telling._still,
    "pronoun": _Telling._pronoun,
    "blanket": _Telling._blanket,
    "except": _Telling._except,
    "doubt": _Telling._doubt,
    "not": _Telling._not,
    "nor": _Telling._nor,
    "also": _Telling._also,
    "hidden": _Telling._hidden,
    "exist": _Telling._exist,
    "instead": _Telling._instead,
    "yes": _Telling._yes,
    "no": _Telling._no,
    "wait": _Telling._wait,
    "take back": _Telling._take_back,
    **dict.fromkeys(("same", "changed"), _Telling._verdict),
    **dict.fromkeys(("place", "beside"), _Telling._place),
    "move": _Telling._move,
    **dict.fromkeys(("past", "present", "become", "link", "arrow"), _Telling._predicate),
    **dict.fromkeys(("from", "to", "picture", "time"), _Telling._connect),
}
