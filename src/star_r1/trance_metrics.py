"""The metrics of TRANCE's published evaluator, by its names: settings Basic, Event and View."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias, get_args

from star_r1.errors import UserError
from star_r1.metrics import Scores, group_views, measure
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

MOST_STEPS: Final = 4
"""True changes of a sample of TRANCE; each number is a group."""


def score_trance(
    pairs: Sequence[tuple[Answer, Sample]],
    setting: Setting,
    seed: int = 0,
    resamples: int = 1000,
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
        seed: of the bootstrap, see ``metrics.score``.
        resamples: bootstrap resamples, at least 1.

    Returns:
        group -> metric -> ``{"value", "ci95", "n"}``. Groups: ``overall``; ``center``, ``left``,
        ``right`` and further final views of the data (``view`` only); ``steps_1`` to ``steps_4``
        by the number of true changes, and on where the data have more; ``order_sensitive``. Of
        ``basic`` there is ``overall`` alone.

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
    if setting not in SETTINGS:
        raise UserError(f"TRANCE setting {setting!r}: choose {', '.join(SETTINGS)}")
    if setting != "view":
        pairs = [(answer, sample) for answer, sample in pairs if sample.view == "center"]
    if setting == "basic":
        pairs = [(answer, sample) for answer, sample in pairs if len(sample.changes) == 1]
        groups, metrics, judge = ["overall"], BASIC_METRICS, _first_prediction
    else:
        groups, metrics, judge = _groups(pairs, setting), METRICS, _outcome
    rows = [(_groups_of(sample), judge(answer, sample)) for answer, sample in pairs]
    return {
        group: {
            metric: measure([row[metric] for own, row in rows if group in own], seed, resamples)
            for metric in metrics
        }
        for group in groups
    }


def _groups(pairs: Sequence[tuple[Answer, Sample]], setting: Setting) -> list[str]:
    """The groups of ``event`` or ``view``, in order."""
    views = group_views(sample.view for _, sample in pairs)["overall"] if setting == "view" else ()
    most = max([MOST_STEPS, *(len(sample.changes) for _, sample in pairs)])
    return ["overall", *views, *(f"steps_{n}" for n in range(1, most + 1)), "order_sensitive"]


def _groups_of(sample: Sample) -> set[str]:
    groups = {"overall", sample.view, f"steps_{len(sample.changes)}"}
    return groups | {"order_sensitive"} if order_sensitive(sample) else groups


def _first_prediction(answer: Answer, sample: Sample) -> _Values:
    """What a sample with one change adds to each metric of ``basic``."""
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


def _outcome(answer: Answer, sample: Sample) -> _Values:
    """What a sample adds to each metric of ``event`` and ``view``."""
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
        "EO": not result.legal if arrived and order_sensitive(sample) else None,
    }
