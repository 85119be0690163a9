"""The report: one HTML page with the curves, the metrics before and after, and a gallery."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from star_r1 import metrics, trance_metrics
from star_r1.errors import UserError
from star_r1.evaluate.compare import Estimate, contrast
from star_r1.evaluate.finished import Answers, JudgedRun
from star_r1.evaluate.paired import Paired
from star_r1.evaluate.runs import Evaluation
from star_r1.files import write_atomic
from star_r1.metrics import Measured, Rows, group_views
from star_r1.report import gallery, samples
from star_r1.report.plots import Point, curve_chart
from star_r1.report.runs import Curve, Training, read_runs

COUNTS: Final = (*metrics.COUNTS, *trance_metrics.COUNTS)
LOWER_IS_BETTER: Final = (*metrics.COUNTS, *trance_metrics.LOWER_IS_BETTER)

METRIC_NAMES: Final = {
    "tacc": "TAcc",
    "diff": "Diff",
    "ndiff": "NDiff",
    "color": "Color",
    "shape": "Shape",
    "size": "Size",
    "material": "Material",
    "position": "Position",
    "objects_1_3": "1–3 objects",
    "objects_4_6": "4–6 objects",
    "objects_7_8": "7–8 objects",
    "objects_9_10": "9–10 objects",
}
"""TRANCE's metrics have the names that its evaluator gives them."""

GROUP_NAMES: Final = {"overall": "Overall", "id": "ID", "ood": "OOD"}
"""Of the groups that are not a view by itself."""

SETTINGS: Final = {
    "basic": "TRANCE Basic: samples with one change, final picture from center, first prediction",
    "event": "TRANCE Event: predictions in order, final picture from center",
    "view": "TRANCE View: predictions in order, all final pictures",
}

NOTHING: Final[Measured] = {"value": None, "ci95": None, "n": 0}

TERMS: Final = ("exact", "attribute", "object", "format", "wrong", "missing")
"""Of the reward, best first; logged by ``reward.adapters.trl`` as ``reward/<term>``."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a metrics table: ``scale`` is the right end of its interval bars, 0 for none.

    ``change`` is the paired difference of the last evaluation from the first one.
    """

    name: str
    measured: tuple[Measured, ...]
    percent: bool
    scale: float
    change: Estimate | None
    verdict: str


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Write one self-contained HTML page about some runs; it opens without a network.

    Args:
        runs: folders of ``star-r1 evaluate`` and of ``star-r1 train``. The first evaluation is
            the one before, the last the one after; all stand in the table. The evaluated data
            must be where run.json says, for the pictures of the gallery.
        out: the page.

    Raises:
        UserError: no runs; a folder or its data is missing, unfinished or damaged; the
            evaluations are of different rows.
    """
    if not runs:
        raise UserError("no runs to report on; give folders of evaluate or train")
    read, trainings = read_runs(runs)
    judged, pairs = _judge(read) if read else ([], [])
    evaluations = [one.run for one in judged]
    first_and_last = evaluations[:1] + evaluations[1:][-1:]
    groups = {group for run in evaluations for group in run.scores}
    views = group_views(groups - set(GROUP_NAMES))["overall"]
    changes = _changes(judged[0], judged[-1], views) if len(judged) > 1 else {}
    environment = Environment(
        loader=PackageLoader("star_r1.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        evaluations=evaluations,
        trainings=trainings,
        trained=_and([f"{t.name} was trained for {t.steps:g} steps" for t in trainings]),
        answered=_and([f"{run.name} (model {run.about.get('model')})" for run in evaluations]),
        charts=_charts(trainings, first_and_last),
        tables=_tables(evaluations, changes, views) if evaluations else [],
        metrics=_union(run.scores["overall"] for run in evaluations),
        headline=_headline(first_and_last, changes, views) if evaluations else [],
        gallery=pairs,
        samples=[step for training in trainings for step in samples.choose(training)],
        views=views,
        other_views=_and(views[1:]),
        terms=TERMS,
    )
    # A lone surrogate, which JSON can smuggle into a completion, has no UTF-8.
    write_atomic(out, page.encode("utf-8", "replace"))


def _judge(evaluations: Sequence[Evaluation]) -> tuple[list[JudgedRun], list[gallery.Pair]]:
    """Evaluations with the metrics that their answers have now, and the pairs of the gallery.

    Raises:
        UserError: data or predictions are missing or damaged, or not those of then; the first and
            the last evaluation are of different rows.
    """
    first, last = evaluations[0], evaluations[-1]
    same = _rows_of(first) == _rows_of(last)
    folders = [Path(run.about["data"]) for run in evaluations]
    if same:  # also where it has another name there
        folders[-1] = folders[0]
    places: dict[Path, list[int]] = {}
    for place, folder in enumerate(folders):
        places.setdefault(folder, []).append(place)
    judged: dict[int, JudgedRun] = {}
    pairs: list[gallery.Pair] = []
    for folder, here in places.items() if same else ():
        answers = Answers([evaluations[place] for place in here], folder)
        if folder == folders[0]:
            ends = dict.fromkeys((0, len(here) - 1))
            names = {end: evaluations[here[end]].name for end in ends}
            pairs = gallery.choose(answers, folder, names)
        else:
            for _ in answers.rows():
                pass
        judged |= zip(here, answers.judged, strict=True)
    if not same or not np.array_equal(judged[0].keys, judged[len(evaluations) - 1].keys):
        raise UserError(
            f"{first.folder} and {last.folder} were evaluated on different rows; evaluate both "
            "with the same --data, --views and --limit"
        )
    return [judged[place] for place in range(len(evaluations))], pairs


def _rows_of(run: Evaluation) -> Any:
    """The fingerprint of the rows that were evaluated."""
    return run.about.get("identity", {}).get("rows")


_Changes: TypeAlias = dict[str, dict[str, Estimate | None]]
"""Group, or TRANCE's setting -> metric -> its paired difference."""


def _changes(before: JudgedRun, after: JudgedRun, views: Sequence[str]) -> _Changes:
    """How much the last evaluation is above the first one, over the same rows."""

    def differences(old: Rows, new: Rows, groups: Mapping[str, tuple[str, ...]]) -> _Changes:
        values = {"before": old.values, "after": new.values}
        paired = Paired(before.keys, old.scene_keys, before.views, values, old.metrics)
        return contrast([paired], "before", groups, old.metrics, bounds=old.bounds)[1]["after"]

    changes = differences(before.rows, after.rows, group_views(views))
    for setting in before.trance.keys() & after.trance.keys():
        every = {setting: tuple(views)}
        changes |= differences(before.trance[setting], after.trance[setting], every)
    return changes


def _and(items: Sequence[str]) -> str:
    """In a sentence.

    >>> _and(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def _charts(
    trainings: Sequence[Training], evaluations: Sequence[Evaluation]
) -> list[tuple[str, str, Markup]]:
    """(heading, explanation, svg) of each chart for which the trainings logged curves."""
    charts: list[tuple[str, str, Markup]] = []

    def add(heading: str, note: str, curves: Mapping[str, Curve], **options: Any) -> None:
        if curves:
            charts.append((heading, note, Markup(curve_chart(heading, curves, **options))))

    def of_all(name: str) -> dict[str, Curve]:
        return {t.name: t.curves[name] for t in trainings if name in t.curves}

    add("Reward", "Mean over the sampled completions of a step.", of_all("reward"))
    right = of_all("answer/right")
    points = []
    if len(trainings) == 1 and len(evaluations) == 2 and right:
        last = next(iter(right.values())).steps[-1]
        for run, step, name in zip(evaluations, (0, last), ("before", "after"), strict=True):
            measured = run.scores["center"]["tacc"]
            if measured["value"] is not None and measured["ci95"] is not None:
                points.append(Point(name, step, measured["value"], *measured["ci95"]))
    note = "Share of the sampled completions that name exactly the true changes."
    if points:
        note += " Dots: greedy answers to the center test pairs, with 95% intervals."
    add("Exact answers (TAcc)", note, right, points=points, percent=True)
    for training in trainings:
        of = f" of {training.name}" if len(trainings) > 1 else ""
        add(
            f"Reward terms{of}",
            "Mean contribution of each term to the reward.",
            {t: training.curves[f"reward/{t}"] for t in TERMS if f"reward/{t}" in training.curves},
        )
    add(
        "Predictions a sample",
        "Mean number of changes that a completion names.",
        of_all("answer/predictions"),
    )
    add(
        "Well-formed answers",
        "Share of the completions that keep the format.",
        of_all("answer/well_formed"),
        percent=True,
    )
    add(
        "Completion length",
        "Mean number of tokens sampled.",
        of_all("completions/mean_length"),
    )
    add(
        "Completions cut off",
        "Share that reached the longest length without an end.",
        of_all("completions/clipped_ratio"),
        percent=True,
    )
    add(
        "Groups without variance",
        "Share of the prompts whose completions all got the same reward, and so teach nothing.",
        of_all("frac_reward_zero_std"),
        percent=True,
    )
    add("Entropy", "Mean of the policy's choice of a token, in nats.", of_all("entropy"))
    add("KL to the base model", "Mean a token (k3 estimate), in nats.", of_all("kl"))
    add(
        "Clipped tokens",
        "Share of the tokens at which the ratio to the sampling policy left the trust region; 0 as "
        "long as each generation batch is used for one step.",
        of_all("clip_ratio/region_mean"),
        percent=True,
    )
    add("Gradient norm", "Before it is clipped.", of_all("grad_norm"))
    add("Loss", "As trained on.", {} if of_all("reward") else of_all("loss"))
    return charts


def _headline(
    evaluations: Sequence[Evaluation], changes: _Changes, views: Sequence[str]
) -> list[tuple[str, Row]]:
    """(name, TAcc) by view; ID is the center view by definition and would stand there twice."""
    names = {"overall": "overall", **{view: view for view in views}}
    names |= {"center": "center (ID)", "ood": f"{_and(views[1:])} (OOD)"}
    return [
        (name, _group(evaluations, changes, group, ["tacc"])[0]) for group, name in names.items()
    ]


def _tables(
    evaluations: Sequence[Evaluation], changes: _Changes, views: Sequence[str]
) -> list[tuple[str, str, list[Row]]]:
    """(tab, caption, rows) of each group of the metrics, and of TRANCE's where there are any."""
    shown = _union(run.scores["overall"] for run in evaluations)
    tables = []
    for group, of in group_views(views).items():
        name = GROUP_NAMES.get(group, group.capitalize())
        caption = f"{name}: final picture from {_and(of)}"
        tables.append((name, caption, _group(evaluations, changes, group, shown)))
    for setting, caption in SETTINGS.items():
        if all(run.trance for run in evaluations):
            overall = [run.trance[setting]["overall"] for run in evaluations]
            change = changes.get(setting, {})
            rows = [
                _row(metric, tuple(o[metric] for o in overall), change.get(metric))
                for metric in overall[0]
            ]
            tables.append((caption.partition(":")[0], caption, rows))
    return tables


def _union(names: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for some in names for name in some))


def _group(
    evaluations: Sequence[Evaluation], changes: _Changes, group: str, shown: Iterable[str]
) -> list[Row]:
    scores = [run.scores.get(group, {}) for run in evaluations]
    change = changes.get(group, {})
    return [
        _row(metric, tuple(of.get(metric, NOTHING) for of in scores), change.get(metric))
        for metric in shown
    ]


def _row(metric: str, measured: tuple[Measured, ...], change: Estimate | None) -> Row:
    percent = metric not in COUNTS
    scale = 1.0 if percent else max((m["ci95"][1] for m in measured if m["ci95"]), default=0.0)
    verdict = ""
    # The difference in steps is best at 0, so that neither direction is better.
    if change is not None and change.marked and metric != "avg_step_diff":
        verdict = "worse" if (change.value > 0) == (metric in LOWER_IS_BETTER) else "better"
    if not percent:
        scale = 0.0 if metric == "avg_step_diff" else scale or 1.0
    return Row(METRIC_NAMES.get(metric, metric), measured, percent, scale, change, verdict)
