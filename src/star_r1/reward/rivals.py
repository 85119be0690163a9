"""The rewards that STAR is compared with, as functions of the answer and the true changes."""

from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeAlias

from star_r1.reward.star import pair_off, star
from star_r1.tvr.answer import Answer
from star_r1.tvr.change import Change

Rival: TypeAlias = Callable[[Answer, Sequence[Change]], float]


def sparse(answer: Answer, truth: Sequence[Change]) -> float:
    """Format (1 or 0), plus 1 if the set of predictions is exactly the true one.

    Source: the fully sparse reward that STAR-R1 (arXiv 2505.15804) argues against.

    >>> from star_r1.tvr import parse_answer, parse_changes
    >>> answer = parse_answer("<think>..</think><answer>2.color.cyan</answer>")
    >>> sparse(answer, parse_changes("2.color.cyan"))
    2.0
    >>> sparse(answer, parse_changes("2.color.cyan, 0.shape.cube"))
    1.0
    """
    return float(answer.well_formed) + float(answer.is_exactly(truth))


def count_penalty(answer: Answer, truth: Sequence[Change]) -> float:
    """STAR's format and tiers, with -|n_pred - n_gt| in place of both of its penalties.

    Source: the "naive GRPO" row of STAR-R1's ablations (arXiv 2505.15804), as one summary
    describes it. That the tiers stay, matched one-to-one, is this project's reading.

    >>> from star_r1.tvr import parse_answer, parse_changes
    >>> answer = parse_answer("<think>..</think><answer>2.color.cyan, 7.size.small</answer>")
    >>> count_penalty(answer, parse_changes("2.color.cyan"))
    5.0
    """
    reward = star(answer, truth)
    return reward.format + reward.positive - abs(len(answer.predictions) - len(truth))


def reason_rft_graded(answer: Answer, truth: Sequence[Change]) -> float:
    """Format (1 or 0), plus Reason-RFT's accuracy with credit for partial matches.

    A change ``index.attribute.value`` is its call ``change_attribute(index, value)``. Unique
    predictions are matched one-to-one with the truth, best first: exact 1, attribute and index
    0.5, attribute and value 0.5, attribute alone 0.25. The sum is multiplied by
    (unique / all predictions) / max(unique predictions, true changes); without predictions it
    is 0.

    Source: Reason-RFT (arXiv 2503.20752) and its public code.

    >>> from star_r1.tvr import parse_answer, parse_changes
    >>> answer = parse_answer("<think>..</think><answer>2.color.cyan, 1.shape.cube</answer>")
    >>> reason_rft_graded(answer, parse_changes("2.color.cyan, 0.shape.cube"))
    1.75
    """
    return _reason_rft(answer, truth, (1.0, 0.5, 0.5, 0.25))


def reason_rft_full(answer: Answer, truth: Sequence[Change]) -> float:
    """``reason_rft_graded`` with credit for exact matches only.

    Source: the variant with which the released scripts of Reason-RFT (arXiv 2503.20752) train.

    >>> from star_r1.tvr import parse_answer, parse_changes
    >>> answer = parse_answer("<think>..</think><answer>2.color.cyan, 1.shape.cube</answer>")
    >>> reason_rft_full(answer, parse_changes("2.color.cyan, 0.shape.cube"))
    1.5
    """
    return _reason_rft(answer, truth, (1.0, 0.0, 0.0, 0.0))


def reason_rft_penalty(answer: Answer, truth: Sequence[Change]) -> float:
    """``reason_rft_graded`` with -0.25, -0.25 and -0.5 for the three partial matches.

    Source: Reason-RFT (arXiv 2503.20752) and its public code.

    >>> from star_r1.tvr import parse_answer, parse_changes
    >>> answer = parse_answer("<think>..</think><answer>2.color.cyan, 1.shape.cube</answer>")
    >>> reason_rft_penalty(answer, parse_changes("2.color.cyan, 0.shape.cube"))
    1.375
    """
    return _reason_rft(answer, truth, (1.0, -0.25, -0.25, -0.5))


_REASON_RFT_TIERS: Final[tuple[Callable[[Change], Hashable], ...]] = (
    lambda change: change,
    lambda change: (change.attribute, change.index),
    lambda change: (change.attribute, change.value),
    lambda change: change.attribute,
)


def _reason_rft(answer: Answer, truth: Sequence[Change], credits: tuple[float, ...]) -> float:
    if not answer.predictions:
        return float(answer.well_formed)
    unique = dict.fromkeys(p.change or p.text for p in answer.predictions)
    predicted = {i: change for i, change in enumerate(unique) if isinstance(change, Change)}
    true = dict(enumerate(dict.fromkeys(truth)))
    scale = len(unique) / len(answer.predictions) / max(len(unique), len(true))
    earned = sum(
        credit * len(pair_off(predicted, true, key))
        for key, credit in zip(_REASON_RFT_TIERS, credits, strict=True)
    )
    return answer.well_formed + scale * earned
