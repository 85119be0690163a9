"""The report: one HTML page with the curves, the metrics before and after, and a gallery."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from star_r1.errors import UserError
from star_r1.files import write_atomic
from star_r1.metrics import GROUPS, METRICS, Measured
from star_r1.report import gallery
from star_r1.report.plots import Point, curve_chart
from star_r1.report.runs import Curve, Evaluation, Training, read_runs

LOWER_IS_BETTER: Final = ("diff", "ndiff")

METRIC_NAMES: Final = {
    "tacc": "TAcc",
    "diff": "Diff",
    "ndiff": "NDiff",
    "color": "Color",
    "shape": "Shape",
    "size": "Size",
    "material": "Material",
    "objects_1_3": "1–3 objects",
    "objects_4_6": "4–6 objects",
    "objects_7_8": "7–8 objects",
    "objects_9_10": "9–10 objects",
}
GROUP_NAMES: Final = {
    "overall": "Overall",
    "center": "Center",
    "left": "Left",
    "right": "Right",
    "id": "ID",
    "ood": "OOD",
}
HEADLINE: Final = {
    "overall": "overall",
    "center": "center (ID)",
    "left": "left",
    "right": "right",
    "ood": "left and right (OOD)",
}
"""ID is the center view by definition and would stand there twice."""

TERMS: Final = ("exact", "attribute", "object", "format", "wrong", "missing")
"""Of the reward, best first; logged by ``reward.adapters.trl`` as ``reward/<term>``."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a metrics table: ``scale`` is the right end of its interval bars."""

    name: str
    measured: tuple[Measured, ...]
    percent: bool
    scale: float
    change: float | None
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
    evaluations, trainings = read_runs(runs)
    first_and_last = evaluations[:1] + evaluations[1:][-1:]
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
        tables={
            GROUP_NAMES[group]: [_row(metric, group, evaluations) for metric in METRICS]
            for group in GROUPS
        }
        if evaluations
        else {},
        headline=[(name, _row("tacc", group, first_and_last)) for group, name in HEADLINE.items()]
        if evaluations
        else [],
        gallery=gallery.choose(first_and_last) if evaluations else [],
        group_views={GROUP_NAMES[g]: " and ".join(views) for g, views in GROUPS.items()},
        terms=TERMS,
    )
    # A lone surrogate, which JSON can smuggle into a completion, has no UTF-8.
    write_atomic(out, page.encode("utf-8", "replace"))


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
        "Completion length",
        "Mean number of tokens sampled.",
        of_all("completions/mean_length"),
    )
    add("Loss", "As trained on.", {} if of_all("reward") else of_all("loss"))
    return charts


def _row(metric: str, group: str, evaluations: Sequence[Evaluation]) -> Row:
    measured = tuple(run.scores[group][metric] for run in evaluations)
    percent = metric not in LOWER_IS_BETTER
    highest = max((m["ci95"][1] for m in measured if m["ci95"]), default=0.0)
    change, verdict = None, ""
    before, after = measured[0], measured[-1]
    old, new = before["value"], after["value"]
    if len(measured) > 1 and old is not None and new is not None:
        assert before["ci95"]
        assert after["ci95"]
        (low, high), (new_low, new_high) = before["ci95"], after["ci95"]
        change = new - old
        if new_low > high or new_high < low:
            verdict = "better" if (change > 0) == percent else "worse"
    return Row(
        METRIC_NAMES[metric], measured, percent, 1.0 if percent else highest or 1.0, change, verdict
    )
