import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from star_r1.analyze.along import CURVES
from star_r1.analyze.run import analyze
from star_r1.analyze.tables import print_analysis
from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.errors import UserError
from star_r1.evaluate.run import evaluate
from star_r1.tvr.prompt import build_solution


@pytest.fixture(scope="module")
def runs(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations, and a training whose second step compares more than its first."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("silent", "oracle"):
        evaluate(f"baseline:{name}", data_folder, folder / name)
    grpo = folder / "grpo"
    (grpo / "completions").mkdir(parents=True)
    (grpo / "log.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    (grpo / "training.json").write_text(json.dumps({"data": {"path": str(data_folder)}}))
    samples = [row_to_sample(row) for row in read_columns(data_folder, SAMPLE_COLUMNS)]
    for step in (1, 2):
        rows = []
        for sample in samples[:4]:
            lines = build_solution(sample).splitlines()
            text = "\n".join(lines if step == 2 else [*lines[:2], *lines[-2:]])
            chat = [{"role": "assistant", "content": text}]
            rows.append({"id": sample.id, "completion": chat, "step": step, "advantage": 0.0})
        table = pa.Table.from_pylist(rows)
        pq.write_table(table, grpo / "completions" / f"completions_{step:05d}.parquet")
    return folder


def test_lines_and_trainings_side_by_side(runs: Path) -> None:
    both = f"both={runs / 'silent'},{runs / 'oracle'}"
    found = analyze([str(runs / "silent"), str(runs / "oracle"), both, str(runs / "grpo")])
    lines = found["lines"]
    assert list(lines) == ["silent", "oracle", "both"]
    n = {name: line["groups"]["overall"]["tacc"]["n"] for name, line in lines.items()}
    assert n["both"] == n["silent"] + n["oracle"]
    assert lines["silent"]["groups"]["overall"]["coverage"]["n"] == 0
    assert lines["both"]["groups"]["overall"]["tacc"]["value"] == 0.5
    first, second = found["trainings"]["grpo"]
    assert set(first) == {"step", "n", *CURVES}
    assert (first["step"], first["n"], second["step"]) == (1, 4, 2)
    assert first["coverage"] < second["coverage"] == second["complete"] == second["tacc"] == 1
    assert {"commit", "date", "machine", "definition", "definitions_version"} <= set(found)
    json.dumps(found)


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_tables_fit_the_terminal(runs: Path, width: int) -> None:
    found = analyze([str(runs / name) for name in ("silent", "oracle", "grpo")])
    console = Console(width=width, record=True, force_terminal=False)
    print_analysis(found, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for words in ("all objects compared, %", "invented", "step 2", "TAcc", "100.0", "4-6 objects"):
        assert words in text
    assert "OOD 81%" in " ".join(text.split())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere: no such run folder"),
        ("unfinished", "an unfinished evaluation"),
        ("no-data", "no such folder"),
        ("sft", "no completions were logged"),
        ("empty", "no metrics.json in it"),
        ("other-answers", r"tacc \(overall\) is 0\.9583 over 24 rows, metrics\.json says 1\.0000 "),
        ("fewer-answers", "23 of 24 rows answered; run its 'star-r1 evaluate' command again"),
        ("unreadable", "no completion of .* can be read in it"),
        ("nameless", "does not name its data"),
        ("odd", "does not name its data"),
        ("other-data", "is not the data of then"),
    ],
)
def test_what_cannot_be_read_is_named(runs: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(runs / "oracle", tmp_path / "unfinished")
    (tmp_path / "unfinished" / "metrics.json").unlink()
    shutil.copytree(runs / "oracle", tmp_path / "no-data")
    about = json.loads((runs / "oracle" / "run.json").read_text())
    (tmp_path / "no-data" / "run.json").write_text(json.dumps({**about, "data": "moved"}))
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "log.jsonl").write_text('{"step": 1}\n')
    for other in ("other-answers", "fewer-answers"):
        shutil.copytree(runs / "oracle", tmp_path / other)
    (row, *rows) = (runs / "oracle" / "predictions.jsonl").read_text().splitlines()
    wrong = json.dumps({**json.loads(row), "completion": ""})
    (tmp_path / "other-answers" / "predictions.jsonl").write_text("\n".join([wrong, *rows]))
    (tmp_path / "fewer-answers" / "predictions.jsonl").write_text("\n".join(rows))
    for other, record in (
        ("unreadable", {"data": {"path": about["data"]}}),
        ("nameless", {}),
        ("odd", {"data": ["data"]}),
        ("other-data", {"data": {"path": about["data"], "manifest_sha256": "0"}}),
    ):
        shutil.copytree(runs / "grpo", tmp_path / other)
        (tmp_path / other / "training.json").write_text(json.dumps(record))
    for table in (tmp_path / "unreadable" / "completions").iterdir():
        table.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=message) as error:
        analyze([str(tmp_path / name)])
    assert "\n" not in str(error.value)


def test_a_first_step_without_reasonings_hides_nothing_of_the_others(
    runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs / "grpo", tmp_path / "grpo")
    first = tmp_path / "grpo" / "completions" / "completions_00001.parquet"
    rows = pq.read_table(first).to_pylist()
    silent = [{**row, "completion": "<answer>none</answer>"} for row in rows]
    pq.write_table(pa.Table.from_pylist(silent), first)
    console = Console(width=100, record=True, force_terminal=False)
    print_analysis(analyze([str(tmp_path / "grpo")]), console)
    (coverage,) = (line for line in console.export_text().splitlines() if "coverage" in line)
    assert coverage.split()[-2:] == ["-", "100.0"]


def test_steps_that_were_cut_off_are_passed_over(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "grpo", tmp_path / "grpo")
    cut = tmp_path / "grpo" / "completions" / "completions_00001.parquet"
    cut.write_bytes(cut.read_bytes()[:200])
    (steps,) = analyze([str(tmp_path / "grpo")])["trainings"].values()
    assert [step["step"] for step in steps] == [2]
