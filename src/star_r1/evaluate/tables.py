"""A table of numbers with parts, in a terminal, in Markdown and in LaTeX."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, Literal

from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Cell:
    """Parts that stand beside each other, or below where there is no room; ``strong`` if marked."""

    parts: tuple[str, ...] = ()
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A label, and a cell for each further column; ``kind`` says how they are set."""

    label: str
    cells: tuple[Cell, ...]
    kind: Literal["heading", "plain", "detail", "quoted"] = "plain"


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the heads of all columns but that of the labels, and the rows.

    >>> row = Row("a|b", (Cell(("1.0", "[0.5, 1.5]"), strong=True),))
    >>> print(to_markdown(Table("Runs", ("all",), (row,))))
    **Runs**
    <BLANKLINE>
    | | all |
    |---|---:|
    | a\\|b | **1.0** [0.5, 1.5] |
    <BLANKLINE>
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def to_terminal(table: Table, console: Console) -> Iterator[RenderableType]:
    """The table, its cells on several lines or itself cut in parts where ``console`` is narrow."""
    most = max(len(cell.parts) for row in table.rows for cell in row.cells)
    for a_line, widest in product(range(most, 0, -1), (None, _LABEL_WIDTH)):
        rich = _rich_table(table, a_line, widest)
        if console.measure(rich, options=console.options.update(max_width=10_000)).maximum <= (
            console.width
        ):
            yield rich
            return
    if len(table.columns) == 1:
        yield rich
        return
    half = (len(table.columns) + 1) // 2
    for start, end in ((0, half), (half, len(table.columns))):
        rows = (replace(row, cells=row.cells[start:end]) for row in table.rows)
        yield from to_terminal(Table(table.title, table.columns[start:end], tuple(rows)), console)
        if end == half:
            yield Text()


_LABEL_WIDTH: Final = 24
"""What long labels are folded to before a table is cut in parts."""

_STYLES: Final = {"heading": "bold", "plain": "", "detail": "dim", "quoted": "italic dim"}
_INDENTS: Final = {"heading": "", "plain": "  ", "detail": "    ", "quoted": "  "}


def _rich_table(table: Table, a_line: int, widest: int | None) -> RichTable:
    """With so many parts of a cell on a line. ``*`` marks too, where colors are not shown."""
    rich = RichTable(box=None, pad_edge=False, show_edge=False)
    rich.add_column(overflow="fold", max_width=widest)
    for column in table.columns:
        rich.add_column(Text(column), justify="right", no_wrap=True)
    for row in table.rows:
        texts = [Text(_INDENTS[row.kind] + row.label, style=_STYLES[row.kind])]
        for cell in row.cells:
            parts = [cell.parts[i : i + a_line] for i in range(0, len(cell.parts), a_line)]
            lines = "\n".join(" ".join(line) for line in parts)
            style = "bold green" if cell.strong else _STYLES[row.kind]
            texts.append(Text("*" * cell.strong + lines, style="dim" if not parts else style))
        rich.add_row(*texts)
    return rich


def to_markdown(table: Table) -> str:
    """GitHub's tables; marked values are bold, what is quoted is in italics."""
    lines = [
        f"**{escape_markdown(table.title)}**",
        "",
        f"| | {' | '.join(map(escape_markdown, table.columns))} |",
        f"|---|{'---:|' * len(table.columns)}",
    ]
    for row in table.rows:
        around = {"heading": "**", "quoted": "*"}.get(row.kind, "")
        cells = [f"{around}{escape_markdown(row.label)}{around}"]
        for cell in row.cells:
            first, *others = cell.parts or ("",)
            cells.append(" ".join([f"**{first}**" if cell.strong else first, *others]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a cell too.

    >>> print(escape_markdown("a_b|c*"))
    a\\_b\\|c\\*
    """
    return "".join("\\" + c if c in r"\`*_{}[]<>|#~$&" else c for c in text)


def to_latex(table: Table, notes: Sequence[str] = ()) -> str:
    """A ``table`` for ``\\usepackage{booktabs,graphicx}``, no wider than a line of the text.

    Its notes stand in the caption.
    """
    heads = (f"\\textbf{{{escape_latex(column)}}}" for column in table.columns)
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape_latex(' '.join([f'{table.title}.', *notes]))}}}",
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        "\\toprule",
        f" & {' & '.join(heads)} \\\\",
    ]
    for number, row in enumerate(table.rows):
        label = escape_latex(row.label)
        if row.kind == "heading" or number == 0:
            lines.append("\\midrule")
        if row.kind == "heading":
            label = f"\\textbf{{{label}}}"
        elif row.kind == "quoted":
            label = f"\\textit{{{label}}}"
        elif row.kind == "detail":
            label = f"\\quad {label}"
        cells = [label]
        for cell in row.cells:
            first, *others = map(escape_latex, cell.parts or ("",))
            cells.append(" ".join([f"\\textbf{{{first}}}" if cell.strong else first, *others]))
        lines.append(f"{' & '.join(cells)} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}}", "\\end{table}"]) + "\n"


_LATEX: Final = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        # Behind the \\ of the row before, these two would be its arguments.
        "[": "{[}",
        "*": "{*}",
        **{c: f"${c}$" for c in "<>|"},
        "↓": "$\\downarrow$",
        "−": "$-$",
        "–": "--",
    }
)


def escape_latex(text: str) -> str:
    r"""Text that LaTeX shows as it is, if the document's font has its letters.

    >>> print(escape_latex("50% of a_b"))
    50\% of a\_b
    """
    # Two hyphens in a row would become a dash.
    return "-{}".join(part.translate(_LATEX) for part in re.split("-(?=-)", text))
