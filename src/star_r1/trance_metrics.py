"""The metrics of TRANCE's published evaluator, by its names: settings Basic, Event and View."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias, get_args

from star_r1.errors import UserError
from star_r1.intervals import ANY, COUNT, SHARE, Bounds
from star_r1.metrics import Rows, Scores, group_views, mean_values
from star_r1.tvr.answer import Answer
from star_r1.tvr.sample import Sample
from star_r1.tvr.simulate import order_sensitive, simulate

Setting: TypeAlias = Literal["basic", "event", "view"]
_Values: TypeAlias = dict[str, float | None]

SETTINGS: Final[tuple[Setting, ...]] = get_args(Setting)

BASIC_METRICS: Final[tuple[str, ...]] = ("ObjAcc", "AttrAcc", "ValAcc", "Acc")
METRICS: Final[tuple[str, ...]] = (
    *("AD", "AND", "LAcc", "Acc"),
    *("err_overlap", "err_out", "avg_step_diff", "EO"),
)
"""Of the settings Event and View."""

COUNTS: Final[tuple[str, ...]] = ("AD", "AND", "avg_step_diff")
"""Means of counts; all others are fractions of 1."""

LOWER_IS_BETTER: Final[tuple[str, ...]] = ("AD", "AND", "err_overlap", "err_out", "EO")
"""Of the others higher is better, but for ``avg_step_diff``, which is best at 0."""

BOUNDS: Final[dict[str, Bounds]] = {
    **dict.fromkeys((*BASIC_METRICS, *METRICS), SHARE),
    **{"AD": COUNT, "AND": COUNT, "avg_step_diff": ANY},
}
"""Between which values each metric lies."""

MOST_STEPS: Final = 4
"""True changes of a sample of TRANCE; each number is a group."""


def score_trance(
    pairs: Iterable[tuple[Answer, Sample]],
    setting: Setting,
) -> Scores:
    """Score answers as TRANCE's evaluator does in one of its settings.

    ``basic``: of the samples with exactly one true change, seen from the center at the end. The
    first prediction counts, an invalid or missing one is wrong. ``ObjAcc``, ``AttrAcc``: share
    with the right object, attribute. ``ValAcc``: with the right attribute and value, where any
    option of a move out of sight is right. ``Acc``: with ``ObjAcc`` and ``ValAcc``.

    ``event``: of all samples seen from the center at the end. The valid predictions are applied in
    order (``tvr.simulate``). ``AD``: mean distance to the true final scene. ``AND``: mean of that
    divided by the number of true changes. ``LAcc`` (loose): share with distance 0. ``Acc``
    (strict): share with distance 0 and nothing illegal on the way. ``err_overlap``, ``err_out``:
    share in which an object came too close to another one, left the table. ``avg_step_diff``: mean
    of valid predictions less true changes. ``EO``, the error of order, (LAcc - Acc) / LAcc over
    the order-sensitive samples: of those with distance 0, the share with something illegal.

    ``view``: as ``event``, of all samples, whatever the final view.

    Args:
        pairs: each answer with the sample that it answers; those of another setting are left out.
        setting: one of ``SETTINGS``.

    Returns:
        group -> metric -> ``{"value", "ci95", "n", "scenes"}``, see ``metrics.score``. Groups:
        ``overall``; ``center``, ``left``, ``right`` and further final views of the data (``view``
        only); ``steps_1`` to ``steps_4`` by the number of true changes, and on where the data have
        more; ``order_sensitive``. Of ``basic`` there is ``overall`` alone.

    Raises:
        UserError: there is no such setting.

    Source: Hong et al., CVPR 2021 and TPAMI 2023; the evaluator from its description.

    >>> from star_r1.tvr import TRANCE, Object, Scene, parse_answer, parse_changes
    >>> row = [Object(i, "red", "cube", "small", "metal", (0, 8 * i - 36)) for i in range(10)]
    >>> truth = parse_changes("4.position.front.1, 4.color.cyan", TRANCE)
    >>> sample = Sample("000000-center", Scene(tuple(row), TRANCE), truth)
    >>> answer = parse_answer("<answer>4.color.cyan, 4.position.front.2</answer>", TRANCE)
    >>> scores = score_trance([(answer, sample)], "event")
    >>> {name: measured["value"] for name, measured in scores["steps_2"].items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'AD': 1.0, 'AND': 0.5, 'LAcc': 0.0, 'Acc': 0.0, 'err_overlap': 0.0, 'err_out': 0.0,
     'avg_step_diff': 0.0, 'EO': None}
    """
    tally = TranceTally(setting)
    for answer, sample in pairs:
        tally.add(sample, [answer])
    return tally.scores()


class TranceTally:
    """The metrics of one setting, of rows that come one by one; see ``score_trance``.

    Of several answers to one row each metric is their mean (of those that it does not leave out).
    """

    def __init__(self, setting: Setting) -> None:
        """No rows yet.

        Raises:
            UserError: there is no such setting.
        """
        if setting not in SETTINGS:
            raise UserError(f"TRANCE setting {setting!r}: choose {', '.join(SETTINGS)}")
        self._setting: Setting = setting
        metrics = BASIC_METRICS if setting == "basic" else METRICS
        self._rows = Rows({metric: BOUNDS[metric] for metric in metrics})
        self._views: set[str] = set()
        self._most_steps = MOST_STEPS

    @property
    def rows(self) -> Rows:
        """All so far; no metric takes in those of another setting."""
        return self._rows

    def add(self, sample: Sample, answers: Sequence[Answer]) -> None:
        """Add one row with its answers, at least one; a row of another setting counts nowhere."""
        labels, values = self._judge(sample, answers)
        self._rows.add(sample.scene_key, labels, values)

    def _judge(
        self, sample: Sample, answers: Sequence[Answer]
    ) -> tuple[Sequence[str], Mapping[str, float | None]]:
        """The labels of a row, and what it adds to each metric."""
        if self._setting != "view" and sample.view != "center":
            return (), {}
        if self._setting == "basic":
            if len(sample.changes) != 1:
                return (), {}
            return (), mean_values([_first_prediction(answer, sample) for answer in answers])
        self._views.add(sample.view)
        self._most_steps = max(self._most_steps, len(sample.changes))
        sensitive = order_sensitive(sample)
        labels = (sample.view, f"steps_{len(sample.changes)}")
        more = ("order_sensitive",) if sensitive else ()
        return (*labels, *more), mean_values(
            [_outcome(answer, sample, sensitive) for answer in answers]
        )

    def extend(self, others: "TranceTally") -> None:
        """Add the rows of another tally of the same setting behind the rows here."""
        self._rows.extend(others._rows)
        self._views |= others._views
        self._most_steps = max(self._most_steps, others._most_steps)

    def scores(self) -> Scores:
        """The metrics of the rows so far, as ``score_trance`` returns them."""
        if self._setting == "basic":
            groups, metrics = [], BASIC_METRICS
        else:
            views = group_views(self._views)["overall"] if self._setting == "view" else ()
            steps = (f"steps_{n}" for n in range(1, self._most_steps + 1))
            groups, metrics = [*views, *steps, "order_sensitive"], METRICS
        labels = {"overall": None, **{group: (group,) for group in groups}}
        return {
            group: {metric: self._rows.measure(metric, own) for metric in metrics}
            for group, own in labels.items()
        }


def _first_prediction(answer: Answer, sample: Sample) -> _Values:
    """What an answer to a sample with one change adds to each metric of ``basic``."""
    (true,) = sample.changes
    said = answer.predictions[0].change if answer.predictions else None
    if said is None:
        return dict.fromkeys(BASIC_METRICS, False)
    right_object = said.index == true.index
    right_value = true.accepts(replace(said, index=true.index))
    return {
        "ObjAcc": right_object,
        "AttrAcc": said.attribute == true.attribute,
        "ValAcc": right_value,
        "Acc": right_object and right_value,
    }


def _outcome(answer: Answer, sample: Sample, sensitive: bool) -> _Values:
    """What an answer adds to each metric of ``event`` and ``view``."""
    said, steps = answer.changes, len(sample.changes)
    result = simulate(sample.initial, said)
    distance = result.distance(sample.final)
    arrived = distance == 0
    return {
        "AD": distance,
        # A sample without changes, which generated data never holds, is divided by 1.
        "AND": distance / max(steps, 1),
        "LAcc": arrived,
        "Acc": arrived and result.legal,
        "err_overlap": result.overlap,
        "err_out": result.out,
        "avg_step_diff": len(said) - steps,
        "EO": not result.legal if arrived and sensitive else None,
    }
