"""What is wrong with an answer, in kinds that a person can look for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from star_r1.evaluate.predictions import Status
from star_r1.reward.star import Reward
from star_r1.tvr.answer import Answer
from star_r1.tvr.change import Change

Outcome: TypeAlias = Literal["right", "partly", "wrong"]
Kind: TypeAlias = Literal[
    "invented", "missed", "value", "attribute", "object", "repeated", "invalid", "format", "silent"
]

OUTCOMES: Final[dict[Outcome, tuple[str, str]]] = {
    "right": ("right", "The predictions are exactly the true changes."),
    "partly": ("partly", "Not right, but some prediction is a true change."),
    "wrong": ("wrong", "No prediction is a true change."),
}
"""Outcome -> its name and what it means."""

KINDS: Final[dict[Kind, tuple[str, str]]] = {
    "invented": ("invented change", "A prediction that no true change comes near."),
    "missed": ("missed change", "A true change that no prediction comes near."),
    "value": ("wrong value", "The right object and attribute, another value."),
    "attribute": ("wrong attribute", "An object that changed, but not this attribute of it."),
    "object": ("wrong object", "Attribute and value of a true change, on another object."),
    "repeated": ("repeated change", "A prediction that stands in the answer already."),
    "invalid": ("invalid item", "An item of the answer that is no change of the vocabulary."),
    "format": ("broken format", "Not one think block and one answer block after it."),
    "silent": ("no predictions", "Nothing in the answer, or no answer at all."),
}
"""Kind -> its name and what it means."""

STATUSES: Final[dict[Status, tuple[str, str]]] = {
    "empty": ("empty", "The model said nothing."),
    "cut_off": ("cut off", "The completion reached the longest length before its end."),
    "refused": ("refused", "The model would not answer."),
    "failed": ("failed", "All attempts to get a completion failed."),
}
"""Status, ``answered`` left out -> its name and what it means."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer is.

    Attributes:
        outcome: one of ``OUTCOMES``.
        items: what is wrong with each prediction, None where nothing is.
        kinds: all that is wrong with the answer, in the order of ``KINDS``.
    """

    outcome: Outcome
    items: tuple[Kind | None, ...]
    kinds: tuple[Kind, ...]


def find_kinds(answer: Answer, reward: Reward, truth: Sequence[Change]) -> Verdict:
    """Sort the mistakes of an answer; linear in the number of its predictions.

    Args:
        answer: read with the vocabulary of its sample.
        reward: ``star(answer, truth)``, whose one-to-one matching this follows.
        truth: the true changes.

    >>> from star_r1.reward.star import star
    >>> from star_r1.tvr import parse_answer, parse_changes
    >>> truth = parse_changes("2.color.cyan, 0.shape.cube")
    >>> answer = parse_answer("<think></think><answer>2.color.red, 1.shape.cube, ?</answer>")
    >>> find_kinds(answer, star(answer, truth), truth).items
    ('value', 'object', 'invalid')
    """
    missed = [match.change for match in reward.matches if match.tier is None]
    said: set[Change] = set()
    items: list[Kind | None] = []
    for prediction, fate in zip(answer.predictions, reward.fates, strict=True):
        change = prediction.change
        if change is None:
            items.append("invalid")
        elif fate == "exact":
            items.append(None)
        elif fate == "attribute":
            items.append("value")
        elif fate == "object":
            items.append("attribute")
        elif change in said:
            items.append("repeated")
        elif other := _same_on_another_object(change, missed):
            missed.remove(other)
            items.append("object")
        else:
            items.append("invented")
        if change is not None:
            said.add(change)
    found: set[Kind] = {item for item in items if item is not None}
    if missed:
        found.add("missed")
    if not answer.well_formed:
        found.add("format")
    if not answer.predictions:
        found.add("silent")
    right = answer.is_exactly(truth)
    outcome: Outcome = "right" if right else "partly" if "exact" in reward.fates else "wrong"
    return Verdict(outcome, tuple(items), tuple(kind for kind in KINDS if kind in found))


def _same_on_another_object(change: Change, missed: Sequence[Change]) -> Change | None:
    what = (change.attribute, change.value)
    return next((true for true in missed if (true.attribute, true.value) == what), None)
