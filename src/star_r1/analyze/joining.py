"""The words of a sentence that join: verbs, marks, pronouns, and what doubts or denies."""

from star_r1.analyze.items import role_at, text_at
from star_r1.analyze.naming import INSTEAD, Naming
from star_r1.analyze.words import Word


class Joining(Naming):
    """Reads words that say nothing themselves; each method takes the place of a word and it."""

    def _predicate(self, n: int, word: Word) -> None:
        if text_at(self.items, n - 1) != "what":
            self.connected = True
            self._verb()

    def _connect(self, n: int, word: Word) -> None:
        self.connected = True
        self.contrast |= word.role == "from"
        if word.value == "both" and self.phase != "open" and not self.hushed:
            self._verb()
            self._judge(self._target, "same", ("",))  # "appears in both pictures"
        if word.role == "to" and role_at(self.items, n - 1) == "reference":
            self._verb()  # "I match object 3 to ..."
        described = role_at(self.items, n + 1) in ("reference", "value")
        if word.role == "time" and role_at(self.items, n - 1) == "reference" and described:
            self._verb()  # "gray cube now green cube"

    def _mark(self, n: int, word: Word) -> None:
        if word.text in ("(", "["):
            behind = self.phase == "naming" and role_at(self.items, n - 1) == "reference"
            self.inside = tuple(self.group[-1:]) if behind else None
            self.connected = True
        elif word.text in (")", "]"):
            self.inside = None
        elif word.text == ":" or (word.text == "|" and self.sentence.row):
            if self.phase == "naming":
                self._verb()
                self.phase = "open"
                self.topic = self.subject or () if word.text == ":" else self.topic
            self.connected, self.negated, self.hushed = True, False, False
        elif word.text in (",", "—", "–", "|") and self.inside is None:
            self._part(n, word)

    def _part(self, n: int, word: Word) -> None:
        """A comma or "but": another subject may follow."""
        self._begin_part()
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
        self.instead |= word.text in INSTEAD
        self.hushed |= self.negated  # "I cannot find"

    def _instead(self, n: int, word: Word) -> None:
        self.instead = True
