"""Words -> items: references, by an index, an attribute phrase or both, and the words between."""

from collections.abc import Sequence
from typing import Final

from star_r1.analyze.indices import Numbers, is_digit, is_plural
from star_r1.analyze.items import Item, Reference, role_at, text_at
from star_r1.analyze.words import SHAPE_ADJECTIVES, Word
from star_r1.tvr.scene import Object

_BULLETS: Final = frozenset("-•–—+>|:([·●▪<")
_FILLERS: Final = frozenset(
    ("dark", "bright", "light", "pale", "deep", "solid", "very", "clearly", "slightly", "plain")
)
_DETERMINERS: Final = frozenset(("the", "a", "an", "this", "that", "only", "one"))


def find_references(words: Sequence[Word], visible: Sequence[Object]) -> list[Item]:
    """The words with references in place of those that make them up; numbers of lists as bullets.

    Args:
        words: from ``lex``.
        visible: the objects of the table that a number may repeat.
    """
    return _Scanner(words, visible).scan()


class _Scanner:
    """One pass over the words; each step looks a few words ahead at most."""

    def __init__(self, words: Sequence[Word], visible: Sequence[Object]) -> None:
        self.words = words
        self.numbers = Numbers(words, visible)
        self.items: list[Item] = []

    def scan(self) -> list[Item]:
        place, fresh = 0, True  # fresh: nothing but bullets since the line began
        while place < len(self.words):
            word = self.words[place]
            if word.role == "number":
                item, place = self._number(place, fresh)
                self.items.append(item)
                fresh = False
                continue
            if word.role == "value" and (phrase := self._phrase(place, fresh)) is not None:
                reference, place = self._beside(*phrase)
                self.items.append(reference)
                fresh = False
                continue
            self.items.append(word)
            place += 1
            fresh = word.role == "newline" or (fresh and word.text in _BULLETS)
        return self.items

    def _number(self, place: int, fresh: bool) -> tuple[Item, int]:
        """The index or indices that begin here, or the number as a word, and where it ends."""
        word = self.words[place]
        if self.numbers.is_index(place, fresh):
            indices, end = self.numbers.read(place, fresh)
            return Reference(indices, {}, word.start), end
        if fresh and text_at(self.words, place + 1) in (".", ")"):
            return Word("mark", "•", word.start), place + 2  # the number of an item
        return word, place + 1

    def _phrase(self, place: int, fresh: bool) -> tuple[Reference, int] | None:
        """The attribute phrase that begins here, and where it ends."""
        start, first = self.words[place].start, place
        traits: dict[str, str] = {}
        while role_at(self.words, place) == "value":
            word = self.words[place]
            if word.attribute in traits:
                return None
            traits[word.attribute] = word.value
            place += 1
            if word.attribute == "shape" and not (
                word.text in SHAPE_ADJECTIVES or text_at(self.words, place) == "shaped"
            ):
                break
            place = self._skip_fillers(place, len(traits))
        else:
            if role_at(self.words, place) != "noun":
                return None
            place += 1
        plural = is_plural(self.words[place - 1])
        end = place
        if list(traits) == ["shape"] and role_at(self.words, first - 1) == "attribute":
            return None  # "shape cube, color red"
        place = self._more(place, traits)
        if list(traits) == ["shape"] and not self._is_noun(first, end, fresh):
            return None
        return Reference((), traits, start, plural), place

    def _is_noun(self, first: int, place: int, fresh: bool) -> bool:
        """Whether a shape alone names a thing: "the cube", "cube 3", not "shape: cube"."""
        if text_at(self.words, first - 1) in _DETERMINERS or is_plural(self.words[first]):
            return True
        if is_digit(self.words, place) and self.numbers.is_index(place, False):
            return True
        after = role_at(self.words, place)
        fresh |= text_at(self.words, first - 1) in (".", "!", ";")
        return (
            after in ("present", "past")
            or text_at(self.words, place) == "("
            or (fresh and text_at(self.words, place) == ":")
        )

    def _skip_fillers(self, place: int, values: int) -> int:
        """Past what joins two values of a phrase; not at all where the phrase does not go on."""
        comma = joined = False
        for ahead in range(place, place + 3):
            role, text = role_at(self.words, ahead), text_at(self.words, ahead)
            if role == "value":
                shape = self.words[ahead].attribute == "shape"
                adjective = text in SHAPE_ADJECTIVES
                return place if shape and comma and values < 2 and not adjective else ahead
            if role == "noun" and not joined:
                return ahead
            comma |= text == ","
            joined |= text in (",", "/") or role == "and"
            fills = role in ("and", "attribute") or text in (",", "-", "/") or text in _FILLERS
            if not fills:
                break
        return place

    def _more(self, place: int, traits: dict[str, str]) -> int:
        """Read what follows the noun: "made of glass", ", small, matte", "(small, metal)"."""
        joint = text_at(self.words, place)
        if joint in (",", "(", "of", "made of", "with", "–", "-", "/"):
            ahead = place + 1
        elif joint in ("that", "which") and text_at(self.words, place + 1) in ("is", "looks"):
            ahead = place + 2
        else:
            return place
        more: dict[str, str] = {}
        end = ahead
        while True:
            role, text = role_at(self.words, ahead), text_at(self.words, ahead)
            if role == "value":
                word = self.words[ahead]
                if word.attribute in traits or word.attribute in more:
                    break
                more[word.attribute] = word.value
                end = ahead + 1
            elif text not in (",", "/") and role not in ("and", "article", "attribute"):
                break
            ahead += 1
        after = role_at(self.words, end)
        if not more or after in ("noun", "value"):
            return place
        if joint == "(":
            if text_at(self.words, end) != ")":
                return place
            end += 1
        elif joint in (",", "–", "-", "/") and after not in ("mark", "newline", "arrow", "end"):
            return place
        traits |= more
        return end

    def _beside(self, phrase: Reference, place: int) -> tuple[Reference, int]:
        """Join a phrase with the index beside it: "the red cube (object 3)", "the red cube #3"."""
        words = self.words
        bracket = text_at(words, place) in ("(", "[")
        comma = text_at(words, place) in (",", "–", "—")
        ahead = place + (bracket or comma)
        while ahead < place + 5 and role_at(words, ahead) != "number":
            joins = role_at(words, ahead) in ("noun", "label", "time", "article")
            if not joins and text_at(words, ahead) not in ("#", ":", "="):
                return phrase, place
            ahead += 1
        if not is_digit(words, ahead):
            return phrase, place
        indices, end = self.numbers.read(ahead)
        if text_at(words, place) == "=" and role_at(words, end) in ("mark", "newline", "end"):
            pass  # "red cube = 1"
        elif bracket:
            if text_at(words, end) not in (")", "]"):
                return phrase, place
            end += 1
        elif ahead == place:
            if not self.numbers.is_index(ahead, False):
                return phrase, place
        elif len(indices) > 1 or not self.numbers.is_labelled(ahead):
            return phrase, place
        elif comma:
            thing = self.numbers.things.get(indices[0])
            if thing is None or not phrase.fits(thing):
                return phrase, place
        return Reference(indices, phrase.traits, phrase.start, phrase.plural), end
