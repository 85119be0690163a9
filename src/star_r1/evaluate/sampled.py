"""What several completions of each row show beside their mean: pass@k and the majority vote."""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import comb
from typing import Final

from star_r1.intervals import SHARE
from star_r1.metrics import Rows, Scores, group_views
from star_r1.tvr.answer import Answer
from star_r1.tvr.change import split_moves
from star_r1.tvr.sample import Sample

MAJORITY: Final = "majority"
"""The metric beside ``pass@1``, ``pass@2`` and so on."""


def pass_sizes(answers: int) -> tuple[int, ...]:
    """The k of pass@k for rows with so many answers: the powers of two below, and all of them.

    >>> pass_sizes(8), pass_sizes(6), pass_sizes(1)
    ((1, 2, 4, 8), (1, 2, 4, 6), (1,))
    """
    return (*(1 << n for n in range((answers - 1).bit_length())), answers)


def pass_at(k: int, right: int, answers: int) -> float:
    """The chance that of k answers, drawn from these without replacement, one at least is right.

    Args:
        k: 1 to ``answers``.
        right: how many of the answers are right.
        answers: how many there are.

    Source: the unbiased estimator of pass@k of Chen et al. (arXiv 2107.03374, section 2.1),
    1 - C(n - c, k) / C(n, k), here in whole numbers.

    >>> pass_at(1, right=1, answers=4), pass_at(2, right=1, answers=4), pass_at(4, 1, 4)
    (0.25, 0.5, 1.0)
    """
    draws = comb(answers, k)
    return (draws - comb(answers - right, k)) / draws


def vote(answers: Sequence[Answer]) -> int:
    """Which of the answers wins the majority vote: the first one that says what most say.

    Answers say the same if they name the same changes, in any order; moves, which add up, the same
    number of times. One without predictions says ``none``, like every other one, also where it was
    cut off before its answer. One with an invalid item agrees with nobody. Of equal numbers of
    votes the earliest answer wins.

    Returns:
        Its place in ``answers``, which are at least one.

    Source: self-consistency (Wang et al., arXiv 2203.11171); what is the same is our choice.

    >>> from star_r1.tvr import parse_answer
    >>> said = ["2.color.red", "0.size.large, 2.color.cyan", "2.color.cyan, 0.size.large"]
    >>> vote([parse_answer(f"<answer>{text}</answer>") for text in said])
    1
    """
    ballots = [_ballot(answer, place) for place, answer in enumerate(answers)]
    votes = Counter(ballots)
    return max(range(len(ballots)), key=lambda place: votes[ballots[place]])


def _ballot(answer: Answer, place: int) -> Hashable:
    """Equal for answers that say the same."""
    changes = answer.changes
    if len(changes) < len(answer.predictions):
        return place
    looks, moves = split_moves(changes)
    return frozenset(looks), tuple(sorted(moves))


class SampledTally:
    """pass@k and the majority vote of rows that come one by one, all with as many answers."""

    def __init__(self, answers: int) -> None:
        """``answers``: of each row."""
        self._sizes = pass_sizes(answers)
        self._metrics = (*(f"pass@{k}" for k in self._sizes), MAJORITY)
        self._rows = Rows(dict.fromkeys(self._metrics, SHARE))

    def add(self, sample: Sample, answers: Sequence[Answer], correct: Sequence[bool]) -> None:
        """Add one row: its answers, and whether each is right (``metrics.Judged.correct``)."""
        right = sum(correct)
        values = [pass_at(k, right, len(answers)) for k in self._sizes]
        # An answer with an invalid item may win, being the earliest; it is never right.
        values.append(correct[vote(answers)])
        by_metric = dict(zip(self._metrics, values, strict=True))
        self._rows.add(sample.scene_key, (sample.view,), by_metric)

    def extend(self, others: "SampledTally") -> None:
        """Add the rows of another tally of as many answers behind the rows here."""
        self._rows.extend(others._rows)

    def scores(self) -> Scores:
        """group -> ``pass@1`` ... ``pass@K``, ``majority`` -> its value, as of ``metrics.score``.

        All are fractions of 1, higher is better.
        """
        return {
            group: {metric: self._rows.measure(metric, views) for metric in self._metrics}
            for group, views in group_views(self._rows.labels).items()
        }
