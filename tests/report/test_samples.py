import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.report import samples
from star_r1.report.page import write_report
from star_r1.report.runs import Training, read_runs
from star_r1.tvr import format_changes

GROUP = 4


@pytest.fixture
def run(data_folder: Path, tmp_path: Path) -> Path:
    """Three logged steps of six prompts; of the four completions each the first is right."""
    run = tmp_path / "grpo"
    (run / "completions").mkdir(parents=True)
    asked = [
        sample
        for row in read_columns(data_folder, SAMPLE_COLUMNS)
        if (sample := row_to_sample(row)).view == "center"
    ][:6]
    for step in (1, 2, 10):
        rows: list[dict[str, Any]] = []
        for sample in asked:
            for n in range(GROUP):
                answer = format_changes(sample.changes) if n == 0 else f"{n}.color.<b>{step}</b>"
                text = f"<think></think><answer>{answer}</answer>"
                rows.append(
                    {
                        "step": step,
                        "completion": [{"role": "assistant", "content": text}],
                        "id": sample.id,
                        "advantage": 1.5 if n == 0 else -0.5,
                    }
                )
        path = run / "completions" / f"completions_{step:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    (run / "log.jsonl").write_text('{"step": 1, "reward": 1}\n{"step": 10, "reward": 2}\n')
    (run / "training.json").write_text(json.dumps({"data": {"path": str(data_folder)}}))
    return run


def read(run: Path) -> Training:
    (training,) = read_runs([run])[1]
    return training


def test_first_and_last_step_with_right_and_wrong_ones(run: Path) -> None:
    first, last = samples.choose(read(run))
    assert (first.step, last.step) == (1, 10)
    for step in (first, last):
        assert (step.right, step.total) == (6, 6 * GROUP)
        assert [pair.outcome for pair in step.pairs] == ["right"] * 2 + ["wrong"] * 2
        for pair in step.pairs:
            (said,) = pair.said
            assert said.right == (pair.outcome == "right")
            assert said.run == ("advantage +1.50" if said.right else "advantage -0.50")
            assert len(pair.pictures) == 2
        for outcome in ("right", "wrong"):
            assert len({p.sample.id for p in step.pairs if p.outcome == outcome}) == 2


def test_a_half_written_table_is_passed_over(run: Path) -> None:
    (run / "completions" / "completions_00011.parquet").write_bytes(b"PAR1 and then the process")
    assert [step.step for step in samples.choose(read(run))] == [1, 10]


def test_one_logged_step_is_shown_once(run: Path) -> None:
    for step in (2, 10):
        (run / "completions" / f"completions_{step:05d}.parquet").unlink()
    assert [step.step for step in samples.choose(read(run))] == [1]


@pytest.mark.parametrize("missing", ["training.json", "completions", "data"])
def test_without_completions_or_data_there_is_nothing(run: Path, missing: str) -> None:
    if missing == "data":
        (run / "training.json").write_text(json.dumps({"data": {"path": str(run / "gone")}}))
    elif missing == "completions":
        shutil.rmtree(run / missing)
    else:
        (run / missing).unlink()
    assert samples.choose(read(run)) == []
    write_report([run], run / "page.html")
    assert "Sampled while training" not in (run / "page.html").read_text()


def test_they_stand_on_the_page(run: Path) -> None:
    write_report([run, run], run / "page.html")
    page = (run / "page.html").read_text()
    assert page.count("<article") == 2 * 2 * 4
    assert page.count("Step 10 of grpo: 6 of 24 completions right") == 2
    assert "&lt;b&gt;10&lt;/b&gt;" in page
    assert "<b>10</b>" not in page
    assert page.count('id="sample-1-1"') == 1
    assert page.count("data:image/png;base64,") == 2 * page.count("<article")
