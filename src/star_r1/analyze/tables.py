"""An analysis as tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from star_r1.analyze.along import CURVES
from star_r1.analyze.labelled import FIELDS
from star_r1.analyze.summary import PAPER, SHARES
from star_r1.evaluate.tables import Cell, Row, Table, to_terminal
from star_r1.metrics import POPULATIONS
from star_r1.tvr.vocabulary import ATTRIBUTES

_GROUPS: Final = ("overall", "id", "ood")
_NAMES: Final = {"overall": "overall", "id": "ID", "ood": "OOD"}
_FIELDS: Final = {
    "tacc": "TAcc, %",
    "mentioned": "objects mentioned",
    "compared": "objects compared",
    "coverage": "coverage, %",
    "complete": "all objects compared, %",
    "correspondence": "with a correspondence, %",
    "corresponding": "objects with one, %",
    "follows": "answer follows, %",
    "in_order": "in order of index, %",
    "words": "words",
    "invented_all": "invented changes",
    "missed_all": "missed changes",
}
_STEPS: Final = 8
"""Steps of a training that are shown, evenly spread."""


def print_analysis(analysis: Mapping[str, Any], console: Console) -> None:
    """Print what ``analyze`` found: the lines side by side, then the trainings."""
    lines, trainings = analysis["lines"], analysis["trainings"]
    makers = (_what, _by_attribute, _by_group, _by_length) if lines else ()
    tables = [make(lines) for make in makers]
    tables += [_differences(name, line) for name, line in lines.items() if "differences" in line]
    tables += [_judge(name, line["judge"]) for name, line in lines.items() if "judge" in line]
    tables += [_curves(name, steps) for name, steps in trainings.items()]
    for table in tables:
        console.print(f"[bold]{escape(table.title)}[/bold]", highlight=False)
        for part in to_terminal(table, console):
            console.print(part)
        console.print()
    if lines:
        reported = ", ".join(f"{_NAMES[group]} {share:.0%}" for group, share in PAPER.items())
        console.print(
            f"[dim]Correspondence: {analysis['definition']}. STAR-R1 7B in the paper: {reported} "
            "(reported; how they were counted is not known). In brackets: 95% intervals by scenes; "
            "marked: differences whose interval does not hold 0.[/dim]"
        )


def _what(lines: Mapping[str, Any]) -> Table:
    rows = []
    for field, name in _FIELDS.items():
        rows.append(Row(name, tuple(Cell() for _ in _GROUPS), "heading"))
        rows += [
            Row(line, tuple(_cell(found["groups"][group][field], field) for group in _GROUPS))
            for line, found in lines.items()
        ]
    return Table("What the reasonings do", tuple(_NAMES[group] for group in _GROUPS), tuple(rows))


def _differences(name: str, line: Mapping[str, Any]) -> Table:
    against, groups = line["differences"]["against"], line["differences"]["groups"]
    rows = [
        Row(label, tuple(_difference(groups[group].get(field), field) for group in _GROUPS))
        for field, label in _FIELDS.items()
    ]
    title = f"{name} less {against}, over the same rows"
    return Table(title, tuple(_NAMES[group] for group in _GROUPS), tuple(rows))


def _difference(found: Mapping[str, Any] | None, field: str) -> Cell:
    if found is None:
        return Cell(("-",))
    return Cell((_number(found["value"], field, "+"), *_ends(found, field)), found["marked"])


def _by_attribute(lines: Mapping[str, Any]) -> Table:
    parts = {attribute: ("overall", attribute) for attribute in (*ATTRIBUTES, "position")}
    return _errors("Errors an answer, by attribute", lines, parts)


def _by_group(lines: Mapping[str, Any]) -> Table:
    groups = dict.fromkeys(group for found in lines.values() for group in found["groups"])
    parts = {
        _population(group) if group in POPULATIONS else group: (group, "all")
        for group in groups
        if group not in _GROUPS
    }
    return _errors("Errors an answer, by view and number of objects", lines, parts)


def _population(group: str) -> str:
    return group.removeprefix("objects_").replace("_", "-") + " objects"


def _errors(title: str, lines: Mapping[str, Any], parts: Mapping[str, tuple[str, str]]) -> Table:
    """Invented and missed changes; ``parts``: name -> group and attribute, shown where known."""
    kinds = ("invented", "missed")
    rows = []
    for name, (group, attribute) in parts.items():
        known = {
            line: cells
            for line, found in lines.items()
            if (cells := found["groups"].get(group, {})) and cells[f"missed_{attribute}"]["n"]
        }
        if not known:
            continue
        rows.append(Row(name, (Cell(), Cell()), "heading"))
        for line, cells in known.items():
            shown = (_cell(cells[f"{kind}_{attribute}"], kind) for kind in kinds)
            rows.append(Row(line, tuple(shown)))
    return Table(title, kinds, tuple(rows))


def _by_length(lines: Mapping[str, Any]) -> Table:
    rows = []
    for line, found in lines.items():
        r = found["length_and_right"]
        head = "" if r is None else f"r = {r:+.2f}"
        rows.append(Row(line, (Cell((head,)), Cell()), "heading"))
        for part in found["by_length"]:
            label = f"{part['from']:g} to {part['to']:g} words"
            rows.append(Row(label, (_cell(part["tacc"], "tacc"), Cell((f"{part['tacc']['n']}",)))))
        for part in found["by_coverage"]:
            label = f"coverage {part['from']:.0%} to {part['to']:.0%}"
            rows.append(Row(label, (_cell(part["tacc"], "tacc"), Cell((f"{part['tacc']['n']}",)))))
    return Table("TAcc by length and by coverage", ("TAcc, %", "completions"), tuple(rows))


def _judge(name: str, found: Mapping[str, Any]) -> Table:
    model = found["judge"].get("endpoint_model", "judge")
    title = f"{name}: the reader against {model}, {found['n']} reasonings"
    if found["unreadable"]:
        title += f" ({found['unreadable']} more without a readable judgement)"
    rows = []
    for field in FIELDS:
        ratios = (found[field][ratio] for ratio in ("precision", "recall"))
        shown = ("-" if ratio is None else f"{100 * ratio:.1f}" for ratio in ratios)
        rows.append(Row(field, tuple(Cell((text,)) for text in shown)))
    return Table(title, ("precision, %", "recall, %"), tuple(rows))


def _curves(name: str, steps: Sequence[Mapping[str, float]]) -> Table:
    many = min(_STEPS, len(steps))
    shown = [steps[round(k * (len(steps) - 1) / max(many - 1, 1))] for k in range(many)]
    fields = [field for field in CURVES if any(field in step for step in steps)]
    rows = [
        Row(
            _FIELDS.get(field, field),
            tuple(Cell((_number(step[field], field) if field in step else "-",)) for step in shown),
        )
        for field in fields
    ]
    heads = tuple(f"step {step['step']:g}" for step in shown)
    return Table(f"Along the training of {name}", heads, tuple(rows))


def _cell(measured: Mapping[str, Any], field: str) -> Cell:
    if measured["value"] is None:
        return Cell(("-",))
    return Cell((_number(measured["value"], field), *_ends(measured, field)))


def _ends(measured: Mapping[str, Any], field: str) -> tuple[str, ...]:
    if measured["ci95"] is None:
        return ()
    low, high = (_number(bound, field) for bound in measured["ci95"])
    return (f"[{low}, {high}]",)


def _number(value: float, field: str, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if field in SHARES else f"{value:{sign}.2f}"
