import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from star_r1.evaluate import compare_tables
from star_r1.evaluate.compare import Comparison, contrast
from star_r1.evaluate.compare_tables import print_comparison, to_text
from star_r1.evaluate.paired import Paired
from star_r1.evaluate.runs import Evaluation
from star_r1.metrics import ALL_METRICS, GROUPS, METRICS
from star_r1.texts import sheet_cell

HOSTILE = "a_b & 50% {x} |\x1b[31m\nred [bold]"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Three lines of two seeds over 30 scenes of three views; no scene has many objects."""
    random = np.random.default_rng(0)
    scenes = np.repeat(np.arange(30), 3)
    views = np.array(("center", "left", "right") * 30)
    paired = []
    for seed in range(3):
        values = {}
        for chance, name in ((0.3, "base"), (0.8, HOSTILE), (0.75, "star")):
            worth = (random.random((90, len(ALL_METRICS))) < chance).astype(float)
            worth[:, [ALL_METRICS.index(m) for m in ("position", "objects_9_10")]] = math.nan
            worth[:, [ALL_METRICS.index(m) for m in ("diff", "ndiff")]] *= -1
            worth[:, [ALL_METRICS.index(m) for m in ("diff", "ndiff")]] += 1
            values[name] = worth
        paired.append(Paired(np.arange(90) + 90 * seed, scenes, views, values))
    groups = {group: GROUPS[group] for group in ("overall", "id", "ood")}
    values_of, differences = contrast(paired, "base", groups, METRICS)
    run = Evaluation("run", Path("run"), {"model": "m", "data": "d", "n": 90}, {}, {})
    runs = dict.fromkeys(values_of, (run,) * 3)
    return Comparison(
        runs,
        "base",
        tuple(groups),
        METRICS,
        values_of,
        differences,
        scenes=30,
    )


def shown(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch, published: bool = True, width: int = 80
) -> str:
    file = io.StringIO()
    monkeypatch.setattr(
        compare_tables, "Console", lambda **options: Console(file=file, width=width, **options)
    )
    print_comparison(comparison, published)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_shows_everything(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    text = shown(comparison, monkeypatch, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    for words in ("TAcc, %", "Diff ↓", "1–3 objects, %", "n=270", "3 seeds, range", "3 seeds, t"):
        assert words in text
    for words in (
        "Differences from base",
        "p<0.001",
        "reported",
        "inferred",
        "naive GRPO",
    ):
        assert words in text
    assert "not comparable" in " ".join(text.split())
    values = text[: text.index("Differences")]
    assert "base" not in [line.split()[0] for line in values.splitlines() if "*" in line]


def test_without_the_paper(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        shown(comparison, monkeypatch, published=False),
        to_text(comparison, "markdown", published=False),
        to_text(comparison, "latex", published=False),
        to_text(comparison, "csv", published=False),
        to_text(comparison, "json", published=False),
    ):
        assert "reported" not in text
        assert "STAR-R1" not in text
        assert "GPT-4o" not in text


def test_markdown_and_latex_escape_names(comparison: Comparison) -> None:
    markdown, latex = to_text(comparison, "markdown"), to_text(comparison, "latex")
    assert r"| a\_b \& 50% \{x\} \|?\[31m red \[bold\] |" in markdown
    assert r"a\_b \& 50\% \{x\} $|$?{[}31m red {[}bold] &" in latex
    for text in (markdown, latex):
        assert "\x1b" not in text
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    main = rows[: rows.index("| | TAcc, % | NDiff ↓ |")]
    assert {line.replace(r"\|", "").count("|") for line in main} == {5}
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 3
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")
    assert latex.isascii()
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in latex


def test_numbers_of_the_paper_get_no_digit_that_it_did_not_give(comparison: Comparison) -> None:
    markdown = to_text(comparison, "markdown")
    for row in ("*Qwen2.5-VL-7B, paper* | 1.5 reported", "without the attribute tier* | 56.8"):
        assert row in markdown
    assert "0.40 reported" in markdown


def test_csv_has_a_line_for_each_estimate(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(to_text(comparison, "csv"))))
    kinds = [row["kind"] for row in rows]
    assert (kinds.count("value"), kinds.count("difference")) == (3 * 3 * 10, 2 * 3 * 10)
    assert (kinds.count("published"), kinds.count("ablation")) == (13, 12)
    (row,) = (
        row
        for row in rows
        if (row["kind"], row["line"], row["metric"], row["group"])
        == ("difference", sheet_cell(HOSTILE), "tacc", "ood")
    )
    found = comparison.differences[HOSTILE]["ood"]["tacc"]
    assert found is not None
    assert float(row["value"]) == pytest.approx(100 * found.value, abs=1e-5)
    assert float(row["low"]) < float(row["value"]) < float(row["high"])
    assert float(row["seed_min"]) <= float(row["value"]) <= float(row["seed_max"])
    assert float(row["t_low"]) < float(row["value"]) < float(row["t_high"])
    assert (row["against"], row["unit"], row["seeds"], row["n"], row["status"]) == (
        *("base", "%", "3", "180", "measured"),
    )
    ours = {row["status"] for row in rows if row["kind"] in ("value", "difference")}
    theirs = {row["status"] for row in rows if row["kind"] in ("published", "ablation")}
    assert (ours, theirs) == ({"measured"}, {"reported", "inferred"})


def test_json_says_what_csv_says_and_where_it_is_from(comparison: Comparison) -> None:
    record = json.loads(to_text(comparison, "json"))
    rows = list(csv.DictReader(io.StringIO(to_text(comparison, "csv"))))
    assert [
        {
            key: sheet_cell(value) if isinstance(value, str) else str(value)
            for key, value in x.items()
        }
        for x in record["estimates"]
    ] == [
        {key: value for key, value in row.items() if value or key in estimate}
        for row, estimate in zip(rows, record["estimates"], strict=True)
    ]
    assert {"commit", "date", "machine", "versions"} <= set(record)
    assert record["scenes"] == 30
    assert [run["model"] for run in record["lines"]["star"]] == ["m"] * 3


def test_zero_has_no_sign() -> None:
    assert compare_tables._number("tacc", -0.0001, "+") == "0.0"
    assert compare_tables._number("tacc", 0.0123, "+") == "+1.2"
    assert compare_tables._number("ndiff", -0.0123, "+") == "−0.01"
