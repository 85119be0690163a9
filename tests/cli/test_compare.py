import csv
import io
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from star_r1.cli.compare import app
from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.errors import UserError
from star_r1.metrics import score
from star_r1.tvr.answer import parse_answer
from star_r1.tvr.sample import Sample


@pytest.fixture(scope="module")
def runs(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations: ``right`` answers everything, ``silent`` nothing."""
    here = tmp_path_factory.mktemp("runs")
    samples = [row_to_sample(row) for row in read_columns(data_folder, SAMPLE_COLUMNS)]
    write_run(here / "right", data_folder, samples, right=True)
    write_run(here / "silent", data_folder, samples, right=False)
    return here


def write_run(run: Path, data: Path, samples: Sequence[Sample], right: bool) -> None:
    texts = {
        sample.id: f"<think></think><answer>{', '.join(map(str, sample.changes))}</answer>"
        if right
        else ""
        for sample in samples
    }
    pairs = [(parse_answer(texts[sample.id]), sample) for sample in samples]
    run.mkdir()
    lines = [json.dumps({"id": id, "completion": text}) for id, text in texts.items()]
    (run / "predictions.jsonl").write_text("\n".join(lines))
    (run / "metrics.json").write_text(json.dumps(score(pairs)))
    (run / "run.json").write_text(json.dumps({"data": str(data), "n": len(samples)}))


def compare(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_prints_a_table(runs: Path) -> None:
    text = compare(runs / "silent", runs / "right", "--groups", "overall,ood")
    assert re.search(r"\*100\.0 \[[\d.]+, 100\.0\]", text)
    assert "Differences from silent" in text
    assert "76.3" not in text  # the paper's ID value, whose column was not asked for
    assert "53.9 reported" in text


@pytest.mark.parametrize(
    ("form", "ending", "begins"),
    [
        ("markdown", ".md", "**Metrics**\n\n| | overall | ID | OOD |"),
        ("latex", ".tex", "% needs \\usepackage{booktabs,graphicx}"),
        ("csv", ".csv", "kind,line,against,metric,group"),
        ("json", ".json", "{\n"),
    ],
)
def test_formats_by_name_and_by_ending(
    runs: Path, tmp_path: Path, form: str, ending: str, begins: str
) -> None:
    printed = compare(runs / "silent", runs / "right", "--format", form)
    out = tmp_path / "tables" / f"comparison{ending}"
    assert compare(runs / "silent", runs / "right", "--out", out) == f"{out}\n"
    if form == "json":
        parts = [json.loads(text) for text in (printed, out.read_text())]
        assert parts[0].pop("date") <= parts[1].pop("date")
        assert parts[0] == parts[1]
    else:
        assert out.read_text() == printed
    assert printed.startswith(begins)


def test_options_reach_the_comparison(runs: Path) -> None:
    text = compare(
        *(f"loud={runs / 'right'}", f"twice={runs / 'silent'},{runs / 'silent'}", "--no-published"),
        *("--against", "twice", "--metrics", "tacc", "--groups", "left", "--format", "csv"),
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["kind"], row["line"], row["value"], row["seeds"]) for row in rows] == [
        ("value", "loud", "100.0", "1"),
        ("value", "twice", "0.0", "2"),
        ("difference", "loud", "100.0", "2"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["silent", "--out", "table.txt"],
            "--out table.txt: no format ends so; end it in .md, .csv",
        ),
        (["silent", "gone"], "gone: no such run folder"),
        (["silent", "x=right,gone"], "gone: no such run folder"),
        (["silent", "--groups", "all"], "--groups all: give one of overall"),
        (["silent", "--against", "best"], "--against best: give one of silent"),
    ],
)
def test_mistakes(
    runs: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[Any], message: str
) -> None:
    monkeypatch.chdir(runs)
    with pytest.raises(UserError, match=message):
        compare(*arguments)


def test_common_rows(runs: Path, data_folder: Path, tmp_path: Path) -> None:
    samples = [row_to_sample(row) for row in read_columns(data_folder, SAMPLE_COLUMNS)]
    part = tmp_path / "part"
    write_run(part, data_folder, samples[:6], right=True)
    with pytest.raises(UserError, match="--common"):
        compare(runs / "silent", part)
    assert "n=6" in compare(runs / "silent", part, "--common")


def test_data_named_from_another_folder(
    runs: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(runs / "right", tmp_path / "run"))
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"data": data_folder.name}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="or call this where 'star-r1 evaluate' was called"):
        compare(run)
    monkeypatch.chdir(data_folder.parent)
    assert "TAcc" in compare(run)


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_names_of_runs_are_no_formulas_in_a_sheet(runs: Path, tmp_path: Path, start: str) -> None:
    hostile = Path(shutil.copytree(runs / "right", tmp_path / f"{start}cmd|calc\x1b[2J"))
    text = compare(runs / "silent", hostile, "--format", "csv")
    lines = {row["line"] for row in csv.DictReader(io.StringIO(text))}
    assert f"'{start}cmd|calc\\x1b[2J" in lines
    assert "\x1b" not in text
