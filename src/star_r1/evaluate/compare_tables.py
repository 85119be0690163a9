"""A comparison as tables for people, as CSV, and as JSON."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

from rich.console import Console
from rich.text import Text

from star_r1.evaluate.compare import FEWEST_SCENES, Comparison, Estimate, Estimates
from star_r1.evaluate.published import ABLATIONS, MODELS, PAPER, SETTING, Published
from star_r1.evaluate.tables import (
    Cell,
    Row,
    Table,
    escape_markdown,
    to_latex,
    to_markdown,
    to_terminal,
)
from star_r1.metrics import COUNTS, POPULATIONS
from star_r1.provenance import provenance
from star_r1.texts import sheet_cell

Format: TypeAlias = Literal["markdown", "csv", "latex", "json"]

ENDINGS: Final[dict[str, Format]] = {
    ".md": "markdown",
    ".csv": "csv",
    ".tex": "latex",
    ".json": "json",
}
"""Ending of a file -> its format."""

_LABELS: Final = {"tacc": "TAcc", "diff": "Diff", "ndiff": "NDiff", "id": "ID", "ood": "OOD"} | {
    metric: f"{min(n)}–{max(n)} objects" for metric, n in POPULATIONS.items()
}


def print_comparison(comparison: Comparison, published: bool = True) -> None:
    """The tables on stdout, as wide as the terminal."""
    console = Console(highlight=False)
    for table in _tables(comparison, published):
        console.print(Text(table.title, style="bold"))
        for part in to_terminal(table, console):
            console.print(part)
        console.print()
    for note in _notes(comparison, published, "*"):
        console.print(Text(note, style="dim"))


def to_text(comparison: Comparison, form: Format, published: bool = True) -> str:
    """The text of a file: Markdown, LaTeX with booktabs, CSV or JSON.

    Shares are in percent in all of them, their differences in percentage points. CSV has a line
    for each estimate; it and JSON hold what the tables for people leave out.

    Args:
        comparison: what ``compare`` found.
        form: the format.
        published: with the paper's numbers, each with its status.
    """
    if form == "csv":
        return _csv(comparison, published)
    if form == "json":
        return json.dumps(_record(comparison, published), indent=1) + "\n"
    tables = list(_tables(comparison, published))
    notes = _notes(comparison, published, "Bold")
    if form == "latex":
        return "\n".join(to_latex(table, notes if n == 0 else ()) for n, table in enumerate(tables))
    return "\n".join([*map(to_markdown, tables), *(f"- {escape_markdown(n)}" for n in notes), ""])


# The tables for people.


def _tables(comparison: Comparison, published: bool) -> Iterator[Table]:
    heads = tuple(_LABELS.get(group, group) for group in comparison.groups)
    yield Table("Metrics", heads, tuple(_rows(comparison, comparison.values, _value, published)))
    if comparison.differences:
        title = f"Differences from {_printable(comparison.against)}, over the same rows"
        rows = _rows(comparison, comparison.differences, _difference, published=False)
        yield Table(title, heads, tuple(rows))
    ablated = [m for m in ("tacc", "ndiff") if m in comparison.metrics]
    if published and "overall" in comparison.groups and ablated:
        yield Table(
            f"STAR-R1 7B with other rewards, overall, in the paper ({PAPER})",
            tuple(map(_label, ablated)),
            tuple(
                Row(
                    change,
                    tuple(_quote(ABLATIONS, change, m, "overall") for m in ablated),
                    "quoted",
                )
                for change in dict.fromkeys(entry.model for entry in ABLATIONS)
            ),
        )


def _rows(
    comparison: Comparison,
    lines: Estimates,
    cell: Callable[[str, Estimate | None], Cell],
    published: bool,
) -> Iterator[Row]:
    """For each metric a heading with the numbers of rows, the lines, and the paper's models."""
    for metric in comparison.metrics:
        some = next(iter(lines.values()))
        found = [some[group][metric] for group in comparison.groups]
        counts = (Cell((f"n={estimate.n if estimate else 0}",)) for estimate in found)
        yield Row(_label(metric), tuple(counts), "heading")
        for name, groups in lines.items():
            estimates = [groups[group][metric] for group in comparison.groups]
            yield Row(_printable(name), tuple(cell(metric, e) for e in estimates))
            yield from _seed_rows(metric, estimates)
        models = dict.fromkeys(p.model for p in MODELS if p.metric == metric) if published else ()
        for model in models:
            cells = tuple(_quote(MODELS, model, metric, group) for group in comparison.groups)
            if any(quoted.parts for quoted in cells):
                yield Row(f"{model}, paper", cells, "quoted")


def _seed_rows(metric: str, estimates: Sequence[Estimate | None]) -> Iterator[Row]:
    """How far the training seeds of a line are apart."""
    seeds = max((len(estimate.by_seed) for estimate in estimates if estimate), default=0)
    if seeds > 1:
        spread = (_span(metric, e.spread if e else None, "{} to {}") for e in estimates)
        yield Row(f"{seeds} seeds, range", tuple(spread), "detail")
    if seeds > 2:
        student = (_span(metric, e.t95 if e else None, "[{}, {}]") for e in estimates)
        yield Row(f"{seeds} seeds, t", tuple(student), "detail")


def _span(metric: str, bounds: tuple[float, float] | None, form: str) -> Cell:
    if bounds is None:
        return Cell()
    low, high = (_number(metric, bound) for bound in bounds)
    return Cell((form.format(low, high),))


def _value(metric: str, estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(("-",))
    return Cell((_number(metric, estimate.value), *_interval(metric, estimate)), estimate.marked)


def _interval(metric: str, estimate: Estimate) -> tuple[str, ...]:
    """Nothing where there is none: of one scene."""
    if estimate.ci95 is None:
        return ()
    low, high = (_number(metric, bound) for bound in estimate.ci95)
    return (f"[{low}, {high}]",)


def _difference(metric: str, estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(("-",))
    parts = [_number(metric, estimate.value, "+"), *_interval(metric, estimate)]
    if estimate.p is not None:
        parts.append("p<0.001" if estimate.p < 0.001 else f"p={estimate.p:.3f}")
    return Cell(tuple(parts), estimate.marked)


def _quote(entries: Sequence[Published], model: str, metric: str, group: str) -> Cell:
    """A number of the paper, with its status; empty where it is not known."""
    for entry in entries:
        if (entry.model, entry.metric, entry.group) == (model, metric, group):
            return Cell((entry.shown or _number(metric, entry.value), entry.status))
    return Cell()


def _number(metric: str, value: float, sign: str = "") -> str:
    scaled = round(value, 2) if metric in COUNTS else round(100 * value, 1)
    scaled += 0.0  # no minus before zero
    return f"{scaled:{sign if scaled else ''}.{2 if metric in COUNTS else 1}f}".replace("-", "−")


def _label(metric: str) -> str:
    name = _LABELS.get(metric, metric.capitalize())
    return f"{name} ↓" if metric in COUNTS else f"{name}, %"


def _printable(name: str) -> str:
    """A name as one line, nothing in it that a terminal obeys."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(name.split()))


def _notes(comparison: Comparison, published: bool, mark: str) -> list[str]:
    notes = [
        "n: rows. ↓: lower is better. In brackets: 95% intervals by scenes, of which there are "
        f"{comparison.scenes}: all views of a scene count together.",
        f"{mark}: the best value, and those not significantly worse, where any is; a significant "
        "difference, whose 95% interval does not hold 0.",
    ]
    if comparison.differences:
        notes.append(
            "Differences are paired, scene by scene; p: of the test that there is none. "
            f"Below {FEWEST_SCENES} scenes nothing is called significant; nothing is corrected for "
            "the number of comparisons."
        )
    if any(len(runs) > 1 for runs in comparison.runs.values()):
        notes.append(
            "Over training seeds: the mean of their values, its interval with the seeds as they "
            "are; then their range, and of three or more Student's 95% interval of the mean."
        )
    return [*notes, SETTING] if published else notes


# The formats for programs.

_FIELDS: Final = (
    *("kind", "line", "against", "metric", "group", "unit", "value", "low", "high", "n", "p"),
    *("marked", "seeds", "seed_min", "seed_max", "t_low", "t_high", "status", "note"),
)


def _csv(comparison: Comparison, published: bool) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for record in _records(comparison, published):
        cells = {k: sheet_cell(v) if isinstance(v, str) else v for k, v in record.items()}
        writer.writerow(cells)
    return file.getvalue()


def _record(comparison: Comparison, published: bool) -> dict[str, Any]:
    return {
        **provenance(),
        "against": comparison.against,
        "scenes": comparison.scenes,
        "lines": {
            name: [
                {
                    "run": str(run.folder),
                    **{k: run.about.get(k) for k in ("model", "data", "commit")},
                }
                for run in runs
            ]
            for name, runs in comparison.runs.items()
        },
        "estimates": list(_records(comparison, published)),
        "notes": _notes(comparison, published, "marked"),
    }


def _records(comparison: Comparison, published: bool) -> Iterator[dict[str, Any]]:
    """One flat record an estimate, then one a published number; fields of ``_FIELDS``."""
    for kind, lines in (("value", comparison.values), ("difference", comparison.differences)):
        against = {"against": comparison.against} if kind == "difference" else {}
        for name, groups in lines.items():
            for group, metrics in groups.items():
                for metric, estimate in metrics.items():
                    if estimate is not None:
                        yield {
                            **{"kind": kind, "line": name, **against},
                            **{"metric": metric, "group": group, "unit": _unit(metric)},
                            **_numbers(metric, estimate),
                            "status": "measured",
                        }
    shown = (("published", MODELS), ("ablation", ABLATIONS)) if published else ()
    for kind, entries in shown:
        for entry in entries:
            if entry.metric in comparison.metrics and entry.group in comparison.groups:
                yield {
                    **{"kind": kind, "line": entry.model, "metric": entry.metric},
                    **{"group": entry.group, "unit": _unit(entry.metric)},
                    "value": _scaled(entry.metric, entry.value),
                    **{"status": entry.status, "note": entry.note},
                }


def _numbers(metric: str, estimate: Estimate) -> dict[str, Any]:
    pairs = {
        ("low", "high"): estimate.ci95,
        ("seed_min", "seed_max"): estimate.spread,
        ("t_low", "t_high"): estimate.t95,
    }
    return {
        "value": _scaled(metric, estimate.value),
        "n": estimate.n,
        **({} if estimate.p is None else {"p": round(estimate.p, 6)}),
        "marked": estimate.marked,
        "seeds": len(estimate.by_seed),
        **{
            name: _scaled(metric, bound)
            for names, bounds in pairs.items()
            if bounds is not None
            for name, bound in zip(names, bounds, strict=True)
        },
    }


def _unit(metric: str) -> str:
    return "count" if metric in COUNTS else "%"


def _scaled(metric: str, value: float) -> float:
    return round(value if metric in COUNTS else 100 * value, 6)
