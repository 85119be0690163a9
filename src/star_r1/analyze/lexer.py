"""Text -> words, each with the part it plays. One pass, linear whatever the text."""

import re
from collections.abc import Iterator
from typing import Final

from star_r1.analyze.words import Lexicon, Role, Word

_TOKEN: Final = re.compile(
    r"(?P<triplet>(?<![\w.])[0-9]\.(?:colou?r|shape|size|material|position)\b"
    r"(?:\.[a-z][a-z0-9-]*(?:\.[12])?)?)"
    r"|(?P<short>\b(?:(?:vs|nr|obj|idx|i\.e|e\.g)\.|no\.(?= ?[0-9])))"
    r"|(?P<word>[0-9]+(?:st|nd|rd|th)\b|'s\b|[a-z][a-z0-9]*(?:['-][a-z0-9]+)*)"
    r"|(?P<number>[0-9]+)"
    r"|(?P<arrow>[-=–—]{1,2}>|[→⇒➔➜⟶↦⟹⮕↔⇔⟷]|<[-=]>|(?<=[a-z]) ?> ?(?=[a-z]))"
    r"|(?P<newline>\n)"
    r"|(?P<mark>[^\s\w*`\"'“”‘])"
)
_ROLES: Final[dict[str, Role]] = {
    "short": "other",
    "number": "number",
    "arrow": "arrow",
    "newline": "newline",
}
_SIGNS: Final[dict[str, Role]] = {
    "&": "and",
    **dict.fromkeys("✓✔✅", "same"),
    **dict.fromkeys("≠✗✘❌", "changed"),
}
_OBJECT_3: Final = re.compile(r"(obj|object|index|idx|id|item)s?-?([0-9])")
_N_T: Final = re.compile(r"[a-z]+n't")


def lex(text: str, lexicon: Lexicon) -> list[Word]:
    """The words of ``text``, asterisks and quotation marks left out."""
    plain: list[Word] = []
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "word" and token[0] in lexicon.words:
            plain.append(Word("other", token[0], token.start()))
        else:
            plain += _split(token)
    words: list[Word] = []
    place = 0
    while place < len(plain):
        word, used = _longest(plain, place, lexicon)
        words.append(word)
        place += used
    return words


def _split(token: re.Match[str]) -> Iterator[Word]:
    kind, text, start = token.lastgroup, token[0], token.start()
    if kind == "word":
        yield from _split_word(text, start)
    elif kind == "triplet":
        index, attribute, *value = text.replace("colour", "color").split(".", 2)
        yield Word("triplet", index, start, attribute, "".join(value))
    else:
        yield Word(_SIGNS.get(text, _ROLES.get(kind or "", "mark")), text, start)


def _split_word(text: str, start: int) -> Iterator[Word]:
    """A word, or the parts of ``small-sized``, ``object's`` and ``object3``."""
    if match := _OBJECT_3.fullmatch(text):
        yield Word("other", match[1], start)
        yield Word("number", match[2], start + match.start(2))
    elif _N_T.fullmatch(text):
        yield Word("not", text, start)
    else:
        for part in re.finditer(r"'s\b|[^'-]+", text):
            yield Word("other", part[0], start + part.start())


def _longest(words: list[Word], place: int, lexicon: Lexicon) -> tuple[Word, int]:
    """The longest known expression that begins at ``place``, and how many words it has."""
    first = words[place]
    if first.role != "other":
        return first, 1
    text = first.text
    best, used = lexicon.words.get(text), 1
    for n in range(1, lexicon.longest.get(text, 1)):
        if place + n >= len(words) or words[place + n].role not in ("other", "number"):
            break
        text = f"{text} {words[place + n].text}"
        if text in lexicon.words:
            best, used = lexicon.words[text], n + 1
    if best is None:
        return first, 1
    said = " ".join(word.text for word in words[place : place + used])
    return Word(best[0], said, first.start, *best[1:]), used
