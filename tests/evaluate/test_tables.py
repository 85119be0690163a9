import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from star_r1.evaluate.tables import (
    Cell,
    Row,
    Table,
    escape_latex,
    escape_markdown,
    to_latex,
    to_markdown,
    to_terminal,
)


def table(label: str = "run", columns: Sequence[str] = ("all", "left", "right")) -> Table:
    cell = Cell(("+12.3", "[10.0, 14.0]", "p=0.010"), strong=True)
    return Table(
        "Title",
        tuple(columns),
        (
            Row("TAcc", tuple(Cell((f"n={i}",)) for i in range(len(columns))), "heading"),
            Row(label, (cell,) * len(columns)),
            Row("3 seeds", (Cell(),) * len(columns), "detail"),
            Row("paper", (Cell(("61.4", "reported")),) * len(columns), "quoted"),
        ),
    )


def printed(table: Table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    for part in to_terminal(table, console):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_wide_terminal_has_a_line_for_a_row() -> None:
    lines = printed(table(), 120).splitlines()
    assert len(lines) == 5
    assert lines[2].count("*+12.3 [10.0, 14.0] p=0.010") == 3
    assert lines[4].count("61.4 reported") == 3


@pytest.mark.parametrize("columns", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("width", [40, 60, 80])
def test_nothing_is_lost_in_a_narrow_terminal(width: int, columns: int) -> None:
    names = [f"group{i}" for i in range(columns)]
    text = printed(table(columns=names), width)
    assert all(len(line) <= width for line in text.splitlines())
    for part in ("+12.3", "[10.0, 14.0]", "p=0.010", "61.4", "reported"):
        assert text.count(part) == columns
    assert [name for name in names if name in text] == names


def test_a_long_label_is_folded() -> None:
    text = printed(table(label="x" * 100, columns=["all"]), 60)
    assert text.count("x") == 100
    assert "…" not in text


def test_a_long_label_is_folded_before_the_table_is_cut() -> None:
    text = printed(table(label="a name of many words " * 3), 80)
    assert sum("all" in line and "right" in line for line in text.splitlines()) == 1


def test_markdown() -> None:
    assert to_markdown(table(columns=["a|b"])).splitlines() == [
        "**Title**",
        "",
        r"| | a\|b |",
        "|---|---:|",
        "| **TAcc** | n=0 |",
        "| run | **+12.3** [10.0, 14.0] p=0.010 |",
        "| 3 seeds |  |",
        "| *paper* | 61.4 reported |",
    ]


def test_latex() -> None:
    assert to_latex(table(columns=["a_b"]), ["50%.", "n."]).splitlines() == [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table}",
        r"\centering",
        r"\caption{Title. 50\%. n.}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & \textbf{a\_b} \\",
        r"\midrule",
        r"\textbf{TAcc} & n=0 \\",
        r"run & \textbf{+12.3} {[}10.0, 14.0] p=0.010 \\",
        r"\quad 3 seeds &  \\",
        r"\textit{paper} & 61.4 reported \\",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_latex_has_no_active_character(text: str) -> None:
    escaped = escape_latex(text)
    known = r"\\[&%$#_{}]|\\text[a-z]+\{\}|\$(\\downarrow|[-<>|])\$|\{[\[*]\}|-\{\}(?=-)"
    plain = re.sub(known, "", escaped)
    assert not set(plain) & set("\\{}$&#^_~%[*<>|")


def test_latex_makes_no_dash_of_hyphens() -> None:
    assert escape_latex("models--a---b–c") == "models-{}-a-{}-{}-b--c"


@given(st.text(alphabet=r"ab\`*_{}[]<>|#~$& ", max_size=30))
def test_markdown_has_no_active_character(text: str) -> None:
    escaped = escape_markdown(text)
    assert re.sub(r"\\(.)", r"\1", escaped) == text
    assert not set(re.sub(r"\\.", "", escaped)) & set(r"\`*_{}[]<>|#~$&")
