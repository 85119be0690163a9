"""Items -> sentences and rows of tables, each with the pictures that its items speak of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from star_r1.analyze.items import Item, Reference
from star_r1.analyze.sides import Spoken, spoken_sides
from star_r1.analyze.words import Word

_BULLETS: Final = frozenset("-•–—+|")
_OF_ITEMS: Final = frozenset(":-–—(|")
"""Behind the index that an item begins with."""
_SAYING: Final = frozenset(("value", "same", "still", "become", "exist", "triplet", "not"))
_MARKERS: Final = frozenset(("picture", "time"))


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, or a row of a table.

    Attributes:
        items: without the mark at its end.
        sides: a side for each item.
        question: ends with a question mark.
        opens: begins its line.
        heading: fills its line, and names nothing that could be described.
        bullet: its line begins with a bullet, number or index.
        row: of a table.
    """

    items: Sequence[Item]
    sides: Sequence[Spoken]
    question: bool
    opens: bool
    heading: bool
    bullet: bool
    row: bool


def split_sentences(items: Sequence[Item], text: str) -> Iterator[Sentence]:
    """The sentences of a text, in order.

    Args:
        items: from ``find_references``.
        text: that they were made from: where words touch, a period ends nothing.
    """
    section: Spoken = ""
    columns: dict[int, Spoken] = {}
    for line in _lines(items):
        if _text(line[0]) == "|" or (_is_cell(line) and sum(_text(i) == "|" for i in line) > 1):
            yield from _row(line, columns)
            continue
        columns = {}
        if _is_heading(line):
            section = _heading_side(line)
            yield Sentence(line, [""] * len(line), False, True, True, _is_bullet(line), False)
            continue
        opens = True
        for part, question in _parts(line, text):
            sides = spoken_sides(part, section)
            yield Sentence(part, sides, question, opens, False, _is_bullet(line), False)
            opens = False


def _lines(items: Sequence[Item]) -> Iterator[list[Item]]:
    line: list[Item] = []
    for item in items:
        if isinstance(item, Word) and item.role == "newline":
            if line:
                yield line
            line = []
        else:
            line.append(item)
    if line:
        yield line


def _text(item: Item) -> str:
    return item.text if isinstance(item, Word) else ""


def _parts(line: Sequence[Item], text: str) -> Iterator[tuple[list[Item], bool]]:
    """Sentences, each with whether it is a question."""
    part: list[Item] = []
    for item in line:
        mark = _text(item)
        ends = mark in ("!", "?", "…", ";") or (
            mark == "." and not text[item.start + 1 : item.start + 2].isalnum()
        )
        if not ends:
            part.append(item)
        elif part:
            yield part, mark == "?"
            part = []
    if part:
        yield part, False


def _is_bullet(line: Sequence[Item]) -> bool:
    for n, item in enumerate(line):
        if isinstance(item, Reference):
            return bool(item.indices) and n + 1 < len(line) and _text(line[n + 1]) in _OF_ITEMS
        if n == 0 and item.text in _BULLETS:
            return True
        if item.role not in ("noun", "label", "article", "mark"):
            return False
    return False


def _is_heading(line: Sequence[Item]) -> bool:
    roles = {item.role for item in line if isinstance(item, Word)}
    names = any(isinstance(item, Reference) for item in line)
    return not names and not roles & _SAYING and not {"pronoun", "changed"} <= roles


def _heading_side(line: Sequence[Item]) -> Spoken:
    """The picture that a heading names, where it is one."""
    markers = (item for item in line if isinstance(item, Word) and item.role in _MARKERS)
    sides = {item.value for item in markers}
    return sides.pop() if len(sides) == 1 else ""  # type: ignore[return-value]


def _is_cell(line: Sequence[Item]) -> bool:
    """Whether a line begins with an index or word that a bar follows."""
    return len(line) > 1 and "|" in (_text(line[1]), _text(line[-1]))


def _row(line: Sequence[Item], columns: dict[int, Spoken]) -> Iterator[Sentence]:
    """A row of a table: its cells speak of the picture that the head of their column names."""
    column = 0
    sides: list[Spoken] = []
    described = 0
    names = any(isinstance(item, Reference) for item in line)
    for item in line:
        column += _text(item) == "|"
        if isinstance(item, Word) and item.role in _MARKERS and not names:
            columns[column] = item.value  # type: ignore[assignment]
        described += isinstance(item, Reference) and bool(item.traits)
        sides.append(columns.get(column, "after" if described == 2 else ""))
    yield Sentence(line, sides, False, True, not names, True, True)
