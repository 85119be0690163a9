"""Reads one sentence: what each word does to what was named and said."""

from collections.abc import Callable
from typing import Final

from star_r1.analyze.items import Reference, role_at, text_at
from star_r1.analyze.naming import Naming
from star_r1.analyze.sentences import Sentence
from star_r1.analyze.story import Indices, Story, Verdict
from star_r1.analyze.syntax import CLOSING, VERBS, scope
from star_r1.analyze.words import Word
from star_r1.tvr.change import Change
from star_r1.tvr.vocabulary import DIRECTIONS, MOVES


def tell(story: Story, sentence: Sentence) -> None:
    """Add what a sentence says to the story."""
    story.open(sentence)
    if sentence.heading:
        story.changing = any(
            isinstance(item, Word) and item.role == "changed" for item in sentence.items
        )
    else:
        _Telling(story, sentence).tell()


class _Telling(Naming):
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
        self.story.changing |= self.pending == "changed" and not self.named
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
                    self.contrast = True
            return
        for index in self._settle(target, True) if self.sides[n] == "before" else target:
            side, key = self.sides[n], (index, word.attribute)
            if not side and self.facts.was(*key) != word.value:
                side = "after"  # what the table does not say, the text must have seen
            if side:
                self._say(index, word.attribute, word.value, side)

    def _attribute(self, n: int, word: Word) -> None:
        """An attribute alone behind an index: "3 material"."""
        alone = (
            role_at(self.items, n - 1) == "reference"
            and role_at(self.items, n + 1) in ("mark", "end")
            and text_at(self.items, n + 1) not in (":", "(")
        )
        if alone and self.phase == "naming" and not self.hushed:
            self._judge(tuple(self.group), "changed")

    def _place(self, n: int, word: Word) -> None:
        self.placed = True
        named = self.phase == "naming" and role_at(self.items, n - 1) == "reference"
        if named and self.sides[n] == "after" and self.group and self.group[-1] >= 0:
            self.facts.correspond(self.group[-1])  # "object 6 next to it, ..."
        if self.phase != "naming" or self.inside is not None:
            self._put(self.sides[n])

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
            self._add((index,), "")
            return
        try:
            change = Change.parse(
                f"{index}.{word.attribute}.{word.value}", self.facts.sample.vocabulary
            )
        except ValueError:
            return
        if not (self.hushed or self.negated or self.sentence.question):
            self.facts.state(change)

    # Words that join

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

    def _predicate(self, n: int, word: Word) -> None:
        if text_at(self.items, n - 1) != "what":
            self.connected = True
            self._verb()

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

    def _connect(self, n: int, word: Word) -> None:
        self.connected = True
        self.contrast |= word.role == "from"
        if word.role == "to" and role_at(self.items, n - 1) == "reference":
            self._verb()  # "I match object 3 to ..."
        described = role_at(self.items, n + 1) in ("reference", "value")
        if word.role == "time" and role_at(self.items, n - 1) == "reference" and described:
            self._verb()  # "gray cube now green cube"
        if word.role == "picture" and self.phase == "open" and not word.text.startswith(_PREPOSED):
            self.hushed = text_at(self.items, n + 2) in _OF_PICTURES

    def _mark(self, n: int, word: Word) -> None:
        if word.text in ("(", "["):
            behind = self.phase == "naming" and role_at(self.items, n - 1) == "reference"
            self.inside = tuple(self.group[-1:]) if behind else self._open_things()
            self.connected = True
        elif word.text in (")", "]"):
            self.inside = None
        elif word.text == ":" or (word.text == "|" and self.sentence.row):
            if self.phase == "naming":
                self._verb()
                self.phase = "open"
                self.topic = self.subject or () if word.text == ":" else self.topic
            self.connected = True
        elif word.text in (",", "—", "–", "|") and self.inside is None:
            self._part(n, word)
        elif word.text == "=" and role_at(self.items, n + 1) in CLOSING | {"reference"}:
            self._verdict(n, word)

    def _open_things(self) -> Indices | None:
        """What a bracket behind a verb may say the index of."""
        return self.subject if self.subject and min(self.subject) < 0 else None

    def _part(self, n: int, word: Word) -> None:
        """A comma or "but": another subject may follow."""
        contrast = word.text == "but" and (self.contrast or self.judged == "same")
        self._begin_part()
        if contrast and self.phase == "telling":
            self.connected = self.changing = True  # "no longer a cube but a cylinder"
        else:
            self._and(n, word)

    def _and(self, n: int, word: Word) -> None:
        if self.inside is None and self.phase == "telling":
            self.phase, self.connected, self.negated = "open", False, False

    def _pronoun(self, n: int, word: Word) -> None:
        if self.phase == "naming" or self.inside is not None:
            return
        if self.phase == "telling" and word.text in ("that", "this"):
            return  # "it shows that ..."
        if word.text == "it 's" or text_at(self.items, n + 1) == "'s":
            self._predicate(n, word)
        after = role_at(self.items, n + 1)
        if word.text in ("both", "all three") and after not in (
            "pronoun",
            "attribute",
            "article",
            "value",
        ):
            count = 2 if word.text == "both" else 3
            self.subject = tuple(dict.fromkeys(reversed(self.story.named)))[:count]
            self.phase = "telling"
        elif self.subject is None:
            self.subject = self.story.last

    def _blanket(self, n: int, word: Word) -> None:
        if self.phase != "telling" and self.inside is None:
            self.group, self.subject, self.phase = [], (), "naming"

    def _except(self, n: int, word: Word) -> None:
        self.group, self.subject, self.phase = [], (), "open"
        self.excepting, self.negated = True, False

    def _camera(self, n: int, word: Word) -> None:
        moves = role_at(self.items, n + 1) in VERBS | {"move"}
        self.hushed |= self.phase == "open" and moves

    def _article(self, n: int, word: Word) -> None:
        if word.text == "only" and "same" in (self.judged, self.pending):
            self.changing = True  # "all are the same, only the cube is green"

    def _doubt(self, n: int, word: Word) -> None:
        self.hushed = True

    def _not(self, n: int, word: Word) -> None:
        self.negated = True

    def _nor(self, n: int, word: Word) -> None:
        if n == 0:
            self.pending = self.story.judged or "same"
        self.likewise = True

    def _also(self, n: int, word: Word) -> None:
        self.likewise = True

    def _exist(self, n: int, word: Word) -> None:
        self.exists = True
        self.instead |= word.text in _INSTEAD
        self.hushed |= self.negated  # "I cannot find"

    def _instead(self, n: int, word: Word) -> None:
        self.instead = True

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


_OF_PICTURES: Final = frozenset(
    (
        *("taken", "shot", "viewed", "captured", "seen", "made", "from", "rotated", "rendered"),
        *("mirrored", "photographed", "now"),
    )
)
"""What is said of a picture itself: "the final picture is taken from the left"."""
_PREPOSED: Final = ("in ", "of ", "from ", "on ", "by ")
_INSTEAD: Final = frozenset(
    ("instead", "in its place", "in their place", "at its place", "where it was", "where it stood")
)

_HANDLERS: Final[dict[str, Callable[[_Telling, int, Word], None]]] = {
    "value": _Telling._value,
    "attribute": _Telling._attribute,
    "triplet": _Telling._triplet,
    "mark": _Telling._mark,
    "and": _Telling._and,
    "but": _Telling._part,
    "still": _Telling._still,
    "pronoun": _Telling._pronoun,
    "blanket": _Telling._blanket,
    "except": _Telling._except,
    "camera": _Telling._camera,
    "doubt": _Telling._doubt,
    "article": _Telling._article,
    "not": _Telling._not,
    "nor": _Telling._nor,
    "also": _Telling._also,
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
