"""A completion scored by a reward chosen by name, with every term as a number."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from star_r1.errors import UserError
from star_r1.reward import rivals
from star_r1.reward.star import StarConfig, star
from star_r1.tvr.answer import Answer
from star_r1.tvr.change import Change

TERMS: Final = ("format", "exact", "attribute", "object", "wrong", "missing")
"""Of the STAR reward, as they enter its total."""

RIVALS: Final[dict[str, rivals.Rival]] = {
    "sparse": rivals.sparse,
    "count_penalty": rivals.count_penalty,
    "reason_rft_graded": rivals.reason_rft_graded,
    "reason_rft_full": rivals.reason_rft_full,
    "reason_rft_penalty": rivals.reason_rft_penalty,
}
"""Name -> what may be trained on instead of the STAR reward."""


def score(
    said: Answer, truth: Sequence[Change], reward: str = "star", **numbers: Any
) -> dict[str, float]:
    """``score``, what to train on, and what to log: each term, and how the answer did.

    Args:
        said: the completion.
        truth: the true changes.
        reward: ``star`` or one of ``RIVALS``.
        **numbers: fields of ``StarConfig``; each ablation of the paper is one, ``object=0``.

    Returns:
        ``score``; the terms of the STAR reward (with a rival for comparison only: they do not
        add up to its score); ``right`` and ``well_formed``, 1 or 0; ``predictions``, how many.

    Raises:
        UserError: no such reward, no such number or not a possible one, numbers for a rival.

    >>> from star_r1.tvr import parse_answer, parse_changes
    >>> said = parse_answer("<think>.</think><answer>2.color.cyan, 5.size.small</answer>")
    >>> scored = score(said, parse_changes("2.color.cyan, 0.shape.cube"))
    >>> scored["score"], scored["exact"], scored["wrong"], scored["right"]
    (5.0, 5.0, -1.0, 0.0)
    """
    known = [field.name for field in fields(StarConfig)]
    for name in numbers:
        if name not in known:
            raise UserError(f"star reward: no number {name!r}; it has {', '.join(known)}")
    earned = star(said, truth, StarConfig(**numbers))
    total = earned.total
    if reward != "star":
        if reward not in RIVALS:
            raise UserError(f"reward {reward!r}: choose from star, {', '.join(RIVALS)}")
        if numbers:
            raise UserError(f"{', '.join(numbers)}: numbers of the star reward, not of {reward}")
        total = RIVALS[reward](said, truth)
    return {
        "score": float(total),
        **{term: float(getattr(earned, term)) for term in TERMS},
        "right": float(said.is_exactly(truth)),
        "well_formed": float(said.well_formed),
        "predictions": float(len(said.predictions)),
    }
