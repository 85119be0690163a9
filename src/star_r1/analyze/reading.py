"""A completion -> its reading: objects named, compared and found again, and changes stated.

    text -lexer-> words -references-> items -sentences-> sentences -telling-> facts -> reading

``words`` has the lexicon, ``indices`` tells which numbers name objects, ``sides`` which picture
each part of a sentence speaks of. ``telling`` reads a sentence from left to right, ``naming`` its
references, of whose neighbours ``syntax`` knows; ``statements`` is the state meanwhile, ``story``
what is kept between sentences, ``facts`` what was said of each object.
"""

from dataclasses import dataclass
from typing import Final

from star_r1.analyze.items import role_at
from star_r1.analyze.lexer import lex
from star_r1.analyze.references import find_references
from star_r1.analyze.sentences import split_sentences
from star_r1.analyze.story import Story
from star_r1.analyze.telling import tell
from star_r1.analyze.words import lexicon
from star_r1.tvr.answer import Answer, parse_answer, whole
from star_r1.tvr.change import Change
from star_r1.tvr.sample import Sample

DEFINITIONS: Final = 1
"""The version of the definitions in docs/analysis.md; numbers of two versions do not compare."""
LONGEST: Final = 200_000
"""Characters of a reasoning that are read; about 50,000 tokens."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reasoning does; docs/analysis.md has the definitions.

    Attributes:
        mentioned: the objects that it names, by first mention. Objects are those visible in the
            initial picture.
        compared: those that it looks at in both pictures, by index.
        corresponding: those of them that it finds in the final picture, by index.
        stated: what it says to have changed.
        follows: whether these are the changes of the answer; None where there is no reasoning.
        words: of the reasoning.
        visible: objects of the initial picture.
    """

    mentioned: tuple[int, ...]
    compared: tuple[int, ...]
    corresponding: tuple[int, ...]
    stated: frozenset[Change]
    follows: bool | None
    words: int
    visible: int

    @property
    def coverage(self) -> float:
        """Compared objects / visible objects."""
        return len(self.compared) / self.visible if self.visible else 0.0


def read_reasoning(text: str | None, sample: Sample, answer: Answer | None = None) -> Reading:
    """Read the reasoning of a completion. Never raises; linear in the length of ``text``.

    Args:
        text: a completion; anything but a string reads as empty. Of a reasoning longer than
            ``LONGEST`` the beginning is read.
        sample: what was asked about.
        answer: what ``parse_answer`` made of the text, where that is known already.

    >>> from star_r1.tvr import Object, Scene, parse_changes
    >>> things = [Object(i, "gray", "cube", "small", "rubber", (40, 8 * i - 36)) for i in range(10)]
    >>> things[3] = Object(3, "gray", "cube", "small", "rubber", (0, 0))
    >>> sample = Sample("0-left", Scene(tuple(things)), parse_changes("3.material.metal"), "left")
    >>> reading = read_reasoning(
    ...     "<think>3: small gray rubber cube now small gray metal cube material</think>"
    ...     "<answer>3.material.metal</answer>",
    ...     sample,
    ... )
    >>> reading.mentioned, reading.corresponding, reading.follows, reading.coverage
    ((3,), (3,), True, 1.0)
    >>> [str(change) for change in reading.stated]
    ['3.material.metal']
    """
    answer = parse_answer(text, sample.vocabulary) if answer is None else answer
    reasoning = find_reasoning(text, answer)
    lowered = reasoning[:LONGEST].lower().replace("’", "'")
    visible = sample.initial.visible
    items = find_references(lex(lowered, lexicon(sample.vocabulary)), visible)
    if items and role_at(items, len(items) - 1) == "time":
        items.pop()  # cut off: "3: small gray rubber cube now"
    story = Story(sample)
    for sentence in split_sentences(items, lowered):
        tell(story, sentence)
    story.end()
    facts = story.facts
    shown = {thing.index for thing in visible}
    stated = facts.changes
    return Reading(
        mentioned=tuple(sorted(facts.mentioned, key=lambda index: facts.mentioned[index])),
        compared=tuple(sorted(shown & set(facts.compared))),
        corresponding=tuple(sorted(shown & set(facts.corresponding))),
        stated=stated,
        follows=stated == set(answer.changes) if reasoning.strip() else None,
        words=len(reasoning.split()),
        visible=len(visible),
    )


def find_reasoning(text: str | None, answer: Answer | None = None) -> str:
    """The text of the think block; without one, what stands before the last answer, or all.

    Args:
        text: a completion.
        answer: what ``parse_answer`` made of it, where that is known already.
    """
    if not isinstance(text, str):
        return ""
    given, text = text, whole(text)
    if "<think>" in text:
        known = answer if text == given else None
        return (known or parse_answer(text)).reasoning
    end = text.rfind("<answer>")
    return text if end < 0 else text[:end]
