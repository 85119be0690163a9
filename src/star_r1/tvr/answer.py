"""Completion -> Answer: the reasoning, the predicted changes, and whether the format was kept."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from star_r1.tvr.change import Change, same_changes
from star_r1.tvr.items import WRAPPING, read_items
from star_r1.tvr.vocabulary import DIRECTIONS, N_OBJECTS, STANDARD, Vocabulary

_TAGS: Final = ("<think>", "</think>", "<answer>", "</answer>")
_SPELLINGS: Final = {"colour": "color", "grey": "gray"} | {
    direction.replace("-", gap): direction
    for direction in DIRECTIONS
    for gap in ("_", " ")
    if "-" in direction
}
_SEPARATOR: Final = re.compile(r"[,;\r\n]")


@dataclass(frozen=True, slots=True)
class Prediction:
    """One item of an answer: ``text`` as written, but for what wraps the whole answer, and its
    change, None where it is no triplet."""

    text: str
    change: Change | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a completion says.

    Attributes:
        reasoning: the text of the first think block, or all that follows a tag never closed.
        predictions: the items of the last complete answer block, in order, repeats kept.
        well_formed: exactly one think block, then exactly one answer block, else white space.
        problem: why it is not well-formed; None where it is.
    """

    reasoning: str
    predictions: tuple[Prediction, ...]
    well_formed: bool
    problem: str | None

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes of the valid predictions, in order, repeats kept."""
        return tuple(p.change for p in self.predictions if p.change is not None)

    def is_exactly(self, truth: Iterable[Change]) -> bool:
        """Whether the predictions are ``truth`` (``same_changes``); an invalid item never is.

        >>> truth = [Change(2, "color", "cyan"), Change(0, "shape", "cube")]
        >>> parse_answer("<answer>0.shape.cube, 2.color.cyan</answer>").is_exactly(truth)
        True
        >>> parse_answer("<answer>0.shape.cube, 2.color.cyan, ?</answer>").is_exactly(truth)
        False
        """
        return None not in (p.change for p in self.predictions) and same_changes(
            self.changes, truth
        )


def opened(prompt: str) -> str:
    """The think block that the end of a prompt begins, as it stands there; empty without one.

    The chat templates of thinking models end in ``<think>``, those of hybrid models told not to
    think in an empty block that is closed already.

    Args:
        prompt: as a chat template renders it, or the end of it.

    >>> opened("<|im_start|>assistant\\n<think>\\n"), opened("<|im_start|>assistant\\n")
    ('<think>\\n', '')
    """
    start = prompt.rfind("<think>")
    end = prompt[start:] if start >= 0 else ""
    return "" if end.replace("<think>", "", 1).replace("</think>", "", 1).strip() else end


def whole(text: str, prompt: str | None = None, reasoning: str | None = None) -> str:
    """What a completion says with what its prompt began, or what was handed over apart from it.

    The format is a matter of prompt and completion together: here it is decided what
    ``parse_answer`` shall judge. Never raises; linear in the length of the texts.

    - Where the reasoning came apart, it is put in front, as a think block that has each tag once,
      whichever of them the two texts bear already: those of the reasoning that are one too many
      are left out. A completion that has a think block of its own needs no other.
    - Where the prompt is known, the block that its end begins (``opened``) is put in front. A
      prompt that begins none leaves the completion as it is.
    - Where it is not, the completion tells: an end tag without a start tag before it closes a
      block that the prompt began.

    A completion that begins with a think block of its own is whole already. With a prompt that
    begins a block, the format is therefore judged alike whether the prompt is known or not.

    Args:
        text: the completion; anything but a string is handed back.
        prompt: as the chat template renders it, or the end of it; None where nobody knows.
        reasoning: what an endpoint handed over apart, with or without tags; None or empty for none.

    >>> whole("2: red</think><answer>2.color.red</answer>")
    '<think>2: red</think><answer>2.color.red</answer>'
    >>> whole("2: red</think><answer>2.color.red</answer>", "<|im_start|>assistant\\n")
    '2: red</think><answer>2.color.red</answer>'
    >>> whole("<answer>2.color.red</answer>", "<think>\\n\\n</think>\\n\\n")
    '<think>\\n\\n</think>\\n\\n<answer>2.color.red</answer>'
    >>> whole("<answer>2.color.red</answer>", reasoning="<think>2: red")
    '<think>2: red</think><answer>2.color.red</answer>'
    """
    if not isinstance(text, str) or _begins_block(text):
        return text
    if isinstance(reasoning, str) and reasoning and "<think>" not in text:
        before, _, after = reasoning.replace("<think>", "").partition("</think>")
        close = "" if "</think>" in text else "</think>"
        return f"<think>{before}{close}{after.replace('</think>', '')}{text}"
    if prompt is not None:
        return opened(prompt) + text
    before, end, _ = text.partition("</think>")
    return f"<think>{text}" if end and "<think>" not in before else text


def _begins_block(text: str) -> bool:
    return text.lstrip().startswith("<think>")


def parse_answer(text: str | None, vocabulary: Vocabulary = STANDARD) -> Answer:
    """Read a completion that is ``whole``. Never raises; linear in the length of ``text``.

    The format is strict: ``<think>reasoning</think><answer>items</answer>`` in lower case, each
    tag once, only white space around the blocks. The predictions are read from the last complete
    answer block, format kept or not; without one there are none.

    Inside the answer reading is lenient: ``items.read_items`` says what separates items, and which
    wrappings of chat models (Markdown, JSON, LaTeX, HTML, other punctuation) are taken off. Case,
    spaces around dots, quotes and brackets around parts, ``colour``, ``grey`` and ``front_left``
    are accepted. Nothing else is: an item such as ``object 2.color.cyan`` or ``2.color.pink`` is an
    invalid prediction, and so is a word of prose. An answer that is only ``none`` or
    ``null`` has none.

    Args:
        text: a completion; anything but a string reads as malformed without predictions.
        vocabulary: what may change, and to what: all else is an invalid prediction.

    Source: the answer grammar of STAR-R1 (arXiv 2505.15804); the lenience is the project's.

    >>> answer = parse_answer("<think>2: red</think><answer>2.Colour.Cyan; 3.shape.cone</answer>")
    >>> answer.well_formed, answer.reasoning, answer.changes
    (True, '2: red', (Change(index=2, attribute='color', value='cyan'),))
    >>> answer.predictions[1]
    Prediction(text='3.shape.cone', change=None)
    >>> parse_answer("2.color.cyan").problem
    'no <think>'
    """
    if not isinstance(text, str):
        return Answer("", (), False, "the completion is not text")
    problem = _format_problem(text)
    predictions = _predictions(_answer_text(text), vocabulary)
    return Answer(_reasoning(text), predictions, problem is None, problem)


@lru_cache(maxsize=64)
def _triplets(vocabulary: Vocabulary) -> dict[str, Change]:
    """All there are, 170 in STAR-R1's setting: to read one is to look it up."""
    return {
        f"{index}.{attribute}.{value}": Change(index, attribute, value)
        for index in range(N_OBJECTS)
        for attribute, values in vocabulary.grammar.items()
        for value in values
    }


@lru_cache(maxsize=64)
def _literals(vocabulary: Vocabulary) -> dict[str, Prediction]:
    """The triplets that need no lenience, as they are read: most items are one of them."""
    return {
        text: Prediction(text, change)
        for text, change in _triplets(vocabulary).items()
        if _normalised(text) == text
    }


def _format_problem(text: str) -> str | None:
    """The first way in which ``text`` breaks the format; None where it keeps it."""
    for tag in _TAGS:
        if (n := text.count(tag)) != 1:
            return f"{n} {tag} tags" if n else f"no {tag}"
    before, think, rest = text.partition("<think>")
    _, end_think, rest = rest.partition("</think>")
    between, answer, rest = rest.partition("<answer>")
    _, end_answer, after = rest.partition("</answer>")
    if not (think and end_think and answer and end_answer):
        return "the tags are not in the order think, answer"
    for place, piece in (("before", before), ("between", between), ("after", after)):
        if piece and not piece.isspace():
            return f"text {place} the blocks"
    return None


def _reasoning(text: str) -> str:
    return text.partition("<think>")[2].partition("</think>")[0]


def _answer_text(text: str) -> str:
    """The inside of the last complete answer block, empty where there is none."""
    start = text.rfind("<answer>", 0, max(text.rfind("</answer>"), 0))
    if start < 0:
        return ""
    start += len("<answer>")
    return text[start : text.find("</answer>", start)]


def _predictions(text: str, vocabulary: Vocabulary) -> tuple[Prediction, ...]:
    literals = _literals(vocabulary)
    plain = [literals.get(segment.strip()) for segment in _SEPARATOR.split(text)]
    if None not in plain:
        return tuple(prediction for prediction in plain if prediction is not None)
    items = read_items(text)
    if len(items) == 1 and _normalised(items[0]) in ("none", "null"):
        return ()
    triplets = _triplets(vocabulary)
    return tuple(
        literals.get(item) or Prediction(item, triplets.get(_normalised(item))) for item in items
    )


def _normalised(item: str) -> str:
    parts = (part.strip(WRAPPING) for part in item.strip(WRAPPING).lower().split("."))
    return ".".join(_SPELLINGS.get(part, part) for part in parts)
