"""Training curves as inline SVG that takes its colours and its font from the page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from star_r1.report.runs import Curve

INK, MUTED, GRID = "#010101", "#020202", "#030303"
SERIES: Final = tuple(f"#0{n}0a0b" for n in range(8))
"""Stand-ins that matplotlib draws with and ``_svg`` replaces by the page's own colours, which
follow its light or dark theme: ``var(--ink)``, ``var(--muted)``, ``var(--grid)``, ``var(--c0)``."""

_THEMED: Final = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    **{color: f"var(--c{n})" for n, color in enumerate(SERIES)},
}


@dataclass(frozen=True, slots=True)
class Point:
    """A measured value with its 95% interval, drawn over the curves at a step."""

    name: str
    step: float
    value: float
    low: float
    high: float


def curve_chart(
    title: str,
    curves: Mapping[str, Curve],
    points: Sequence[Point] = (),
    percent: bool = False,
    first_color: int = 0,
) -> str:
    """An ``<svg>`` of curves by training step: as logged, thin, and smoothed, thick.

    Args:
        title: names it for a screen reader, with the ends of each curve.
        curves: legend -> curve, at most eight; a legend is shown for two or more.
        points: drawn with their intervals in the ink of the text.
        percent: show fractions of 1 as percentages.
        first_color: number of the first curve's colour among the page's ``--c0`` to ``--c7``.
    """
    with rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": title,
            "font.size": 9,
            "text.color": MUTED,
            "axes.edgecolor": GRID,
            "axes.labelcolor": MUTED,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
        }
    ):
        # 5 inches are 360 points: at the width of a phone the text is 9 pixels high or more.
        figure = Figure(figsize=(5, 2.7), layout="constrained")
        axes = figure.add_subplot()
        for n, (name, curve) in enumerate(curves.items()):
            color = SERIES[(first_color + n) % len(SERIES)]
            axes.plot(curve.steps, curve.values, color=color, linewidth=0.8, alpha=0.35)
            axes.plot(curve.steps, _smooth(curve.values), color=color, linewidth=2, label=name)
        for point in points:
            axes.errorbar(
                [point.step],
                [point.value],
                yerr=[[point.value - point.low], [point.high - point.value]],
                color=INK,
                fmt="o",
                markersize=5,
                linewidth=1.2,
                capsize=3,
                clip_on=False,
            )
            axes.annotate(
                point.name,
                (point.step, point.high),
                (0, 4),
                textcoords="offset points",
                ha="right" if point.step > 0 else "left",
                color=INK,
            )
        axes.margins(y=0.1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.set_xlabel("training step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        if len(curves) > 1:
            figure.legend(loc="outside upper left", ncols=3, frameon=False, labelcolor=INK)
        out = StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _svg(out.getvalue(), _describe(title, curves, points, percent))


def _smooth(values: Sequence[float]) -> Any:
    """A centred moving average over a twelfth of the run; of what there is of it at the ends."""
    reach = len(values) // 24
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _describe(
    title: str, curves: Mapping[str, Curve], points: Sequence[Point], percent: bool
) -> str:
    def number(value: float) -> str:
        return f"{value:.1%}" if percent else f"{value:.3g}"

    ends = [
        f"{name} from {number(_smooth(c.values)[0])} at step {c.steps[0]:g} "
        f"to {number(_smooth(c.values)[-1])} at step {c.steps[-1]:g}"
        for name, c in curves.items()
    ]
    marks = [f"{p.name} at step {p.step:g}: {number(p.value)}" for p in points]
    return f"{title}: {'; '.join([*ends, *marks])}."


def _svg(text: str, label: str) -> str:
    """The bare element: themed, scaling with the page, without ids that would repeat in it."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[\w.]+_\d+"', "", text)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)
    view = re.search(r'viewBox="[^"]*"', text)
    head = f'<svg {view[0] if view else ""} role="img" aria-label="{escape(label)}">'
    text = head + text[text.index(">") + 1 :]
    for stand_in, color in _THEMED.items():
        text = text.replace(stand_in, color)
    return text
