"""The STAR reward, term by term (arXiv 2505.15804)."""

import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from star_r1.errors import UserError
from star_r1.tvr.answer import Answer
from star_r1.tvr.change import Change, pair_moves

Tier: TypeAlias = Literal["exact", "attribute", "object"]
Fate: TypeAlias = Literal["exact", "attribute", "object", "wrong"]
Matching: TypeAlias = Literal["one-to-one", "independent"]
Miss: TypeAlias = Literal["unmatched", "inexact"]

_TIERS: Final[dict[Tier, Callable[[Change], Hashable]]] = {
    "exact": lambda change: change,
    "attribute": lambda change: (change.index, change.attribute),
    "object": lambda change: change.index,
}
"""Tier -> what a prediction and a true change must share; the most first."""


@dataclass(frozen=True, slots=True)
class StarConfig:
    """Every number of the reward, and the two points on which the paper can be read twice.

    An ablation of the paper is one changed field: ``StarConfig(object=0)``, ``(attribute=0)``,
    ``(missing=0)``, ``(wrong=0)``. All numbers are zero or greater; penalties are subtracted. A
    tier worth nothing is not there: what would have matched in it may match in a wider one, and
    misses else.

    Attributes:
        format: earned by a well-formed completion.
        exact: earned by a prediction whose index, attribute and value are right.
        attribute: earned where index and attribute are right.
        object: earned where only the index is right.
        wrong: lost for each miss.
        missing: lost for each prediction fewer than there are true changes.
        matching: ``one-to-one`` uses each true change once, so that the reward is the largest
            that any matching gives; ``independent`` scores each prediction by itself, so that
            repeats and enumerations earn again and again.
        miss: a prediction counts as a miss if it is ``unmatched``, or already if it is
            ``inexact``, whatever it earned.

    Raises:
        UserError: a number is negative or not finite, a reading is unknown.

    >>> StarConfig(object=0).object
    0
    """

    format: float = 1.0
    exact: float = 5.0
    attribute: float = 1.5
    object: float = 0.5
    wrong: float = 1.0
    missing: float = 1.0
    matching: Matching = "one-to-one"
    miss: Miss = "unmatched"

    def __post_init__(self) -> None:
        for name in ("format", "exact", "attribute", "object", "wrong", "missing"):
            number = getattr(self, name)
            if type(number) not in (int, float) or not 0 <= number < math.inf:
                raise UserError(f"star reward: {name} is {number!r}; give a number of 0 or more")
        for name, readings in (("matching", get_args(Matching)), ("miss", get_args(Miss))):
            if (reading := getattr(self, name)) not in readings:
                raise UserError(
                    f"star reward: {name} is {reading!r}; choose {' or '.join(readings)}"
                )


@dataclass(frozen=True, slots=True)
class Match:
    """One true change, the position of the prediction matched to it, and how well it matches.

    ``prediction`` and ``tier`` are None where the change was missed.
    """

    change: Change
    prediction: int | None
    tier: Tier | None


@dataclass(frozen=True, slots=True)
class Reward:
    """The terms of the reward as they enter the total: the last two are zero or negative.

    Attributes:
        format, exact, attribute, object, wrong, missing: signed contributions to ``total``.
        matches: what became of each true change, in the order of the truth.
        fates: what became of each prediction, in the order of the answer.
    """

    format: float
    exact: float
    attribute: float
    object: float
    wrong: float
    missing: float
    matches: tuple[Match, ...]
    fates: tuple[Fate, ...]

    @property
    def positive(self) -> float:
        """What the predictions earned, all tiers together."""
        return self.exact + self.attribute + self.object

    @property
    def total(self) -> float:
        """The reward: not normalised by the number of changes."""
        return self.format + self.positive + self.wrong + self.missing

    @property
    def terms(self) -> dict[str, float]:
        """Format, positive, wrong, missing, and the total they add up to."""
        return {
            "format": self.format,
            "positive": self.positive,
            "wrong": self.wrong,
            "missing": self.missing,
            "total": self.total,
        }


def star(answer: Answer, truth: Sequence[Change], config: StarConfig = StarConfig()) -> Reward:
    """Score ``answer`` against the true changes.

    With n_miss predictions that miss (repeats and invalid items included), n_pred predictions in
    all and n_gt true changes, the total is::

        format + sum of tiers - wrong * n_miss - missing * max(0, n_gt - n_pred)

    A prediction among the options of a true move out of sight counts as that move (TRANCE).
    A pair is paid by the best of the tiers that fit it, and no matching of predictions with true
    changes gives more than this one: those that share most are matched first, in order of
    appearance. Linear in the number of predictions.

    Source: arXiv 2505.15804, section 3 (tiers known; penalty as reported). Neither says whether
    matching is one-to-one or whether a partial hit is a miss: the defaults are this project's
    reading, the one under which enumerating triplets does not pay.

    >>> from star_r1.tvr import parse_answer, parse_changes
    >>> truth = parse_changes("2.color.cyan, 0.shape.cube")
    >>> answer = parse_answer("<think>..</think><answer>2.color.cyan, 0.shape.sphere</answer>")
    >>> star(answer, truth).terms
    {'format': 1.0, 'positive': 6.5, 'wrong': 0.0, 'missing': 0.0, 'total': 7.5}
    >>> star(answer, truth).fates
    ('exact', 'attribute')
    >>> star(answer, truth, StarConfig(attribute=0)).fates
    ('exact', 'object')
    """
    said = {i: p.change for i, p in enumerate(answer.predictions) if p.change is not None}
    predicted = _as_true(said, truth, config.matching)
    pays = _paying(config)
    match = _match_one_to_one if config.matching == "one-to-one" else _match_independently
    shares, partners = match(predicted, truth, pays)
    fates: tuple[Fate, ...] = tuple(
        pays[shares[i]] if i in shares else "wrong" for i in range(len(answer.predictions))
    )
    matches = tuple(
        Match(change, *partners.get(place, (None, None))) for place, change in enumerate(truth)
    )
    exact = [share for share in shares.values() if share == "exact"]
    hits = len(shares if config.miss == "unmatched" else exact)
    return Reward(
        format=config.format * answer.well_formed,
        exact=config.exact * fates.count("exact"),
        attribute=config.attribute * fates.count("attribute"),
        object=config.object * fates.count("object"),
        # 0.0 - x, because -x would make a penalty of nothing read -0.0.
        wrong=0.0 - config.wrong * (len(fates) - hits),
        missing=0.0 - config.missing * max(0, len(truth) - len(fates)),
        matches=matches,
        fates=fates,
    )


def _as_true(
    said: dict[int, Change], truth: Sequence[Change], matching: Matching
) -> dict[int, Change]:
    """The predictions, each move that serves as well as a true move out of sight as that move."""
    if not any(true.options for true in truth):
        return said
    if matching == "independent":
        serves = {
            Change(true.index, true.attribute, value): true
            for true in truth
            for value in true.options
        }
        return {i: move if move in truth else serves.get(move, move) for i, move in said.items()}
    positions = list(said)
    pairs = pair_moves(list(said.values()), truth)
    return said | {positions[place]: truth[true] for true, place in pairs.items()}


def pair_off(
    predicted: dict[int, Change], true: dict[int, Change], key: Callable[[Change], Hashable]
) -> list[tuple[int, int]]:
    """Pair predictions with true changes of the same ``key``, each used once, and remove both.

    Args:
        predicted: position -> change, in order of appearance; loses what is paired.
        true: likewise.
        key: what the two of a pair have in common.

    Returns:
        (position in ``predicted``, position in ``true``) of each pair.

    >>> first, second = Change(2, "color", "cyan"), Change(2, "color", "red")
    >>> predicted, true = {0: first, 1: second}, {0: second}
    >>> pair_off(predicted, true, lambda change: change.index), predicted, true
    ([(0, 0)], {1: Change(index=2, attribute='color', value='red')}, {})
    """
    waiting: dict[Hashable, deque[int]] = {}
    for place, change in true.items():
        waiting.setdefault(key(change), deque()).append(place)
    pairs = [
        (position, places.popleft())
        for position, change in predicted.items()
        if (places := waiting.get(key(change)))
    ]
    for position, place in pairs:
        del predicted[position], true[place]
    return pairs


def _paying(config: StarConfig) -> dict[Tier, Tier]:
    """What a pair may share, the most first -> the tier that pays such a pair best.

    What no tier pays for is left out. A pair that shares more is thus never paid less, so that
    matching those first gives the largest sum.
    """
    pays: dict[Tier, Tier] = {}
    best: Tier | None = None
    for tier in reversed(_TIERS):
        if getattr(config, tier) > 0 and (
            best is None or getattr(config, tier) >= getattr(config, best)
        ):
            best = tier
        if best is not None:
            pays[tier] = best
    return dict(reversed(pays.items()))


Matched: TypeAlias = tuple[dict[int, Tier], dict[int, tuple[int, Tier]]]
"""Prediction -> what it shares with a true change; true change -> prediction and paying tier."""


def _match_one_to_one(
    predicted: Mapping[int, Change], truth: Sequence[Change], pays: Mapping[Tier, Tier]
) -> Matched:
    shares: dict[int, Tier] = {}
    partners: dict[int, tuple[int, Tier]] = {}
    open_predicted, open_true = dict(predicted), dict(enumerate(truth))
    for share, tier in pays.items():
        for position, place in pair_off(open_predicted, open_true, _TIERS[share]):
            shares[position] = share
            partners[place] = position, tier
    return shares, partners


def _match_independently(
    predicted: Mapping[int, Change], truth: Sequence[Change], pays: Mapping[Tier, Tier]
) -> Matched:
    shares: dict[int, Tier] = {}
    partners: dict[int, tuple[int, Tier]] = {}
    # What shares least first: what shares more is written over it.
    for share in reversed(list(pays)):
        key = _TIERS[share]
        first: dict[Hashable, int] = {}
        for position, change in predicted.items():
            first.setdefault(key(change), position)
        true_keys = {key(change) for change in truth}
        shares |= {i: share for i, change in predicted.items() if key(change) in true_keys}
        for place, change in enumerate(truth):
            if key(change) in first:
                partners[place] = first[key(change)], pays[share]
    return shares, partners
