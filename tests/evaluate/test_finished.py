"""One reader for all that look at finished runs again: each takes, or refuses, the same runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from star_r1.analyze.run import analyze
from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.data.shards import to_parquet
from star_r1.errors import UserError
from star_r1.evaluate.compare import compare
from star_r1.evaluate.finished import Answers, read_finished
from star_r1.evaluate.run import evaluate
from star_r1.explore.page import write_explorer
from star_r1.metrics import METRICS
from star_r1.report.page import write_report
from star_r1.tvr import answer as answer_module

FILE = Path("data") / "train-00000-of-00001.parquet"

LOOK: dict[str, Callable[[Path, Path], Any]] = {
    "compare": lambda run, out: compare({"run": [run]}),
    "analyze": lambda run, out: analyze([str(run)]),
    "explore": lambda run, out: write_explorer([run], out),
    "report": lambda run, out: write_report([run], out / "report.html"),
}
"""What looks at finished runs."""


@pytest.fixture
def silent(data_folder: Path, tmp_path: Path) -> Path:
    """A run that is never right, over data of its own."""
    shutil.copytree(data_folder, tmp_path / "data")
    evaluate("baseline:silent", tmp_path / "data", tmp_path / "silent")
    return tmp_path / "silent"


def remake(data: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Other rows under the same ids."""
    rows = [change(row) for row in pq.read_table(data / FILE).to_pylist()]
    (data / FILE).write_bytes(to_parquet(rows))


def other_value(row: dict[str, Any]) -> dict[str, Any]:
    """Another truth of which all metrics of a silent run are the same: objects turned about."""
    scene = json.loads(row["initial"])
    for thing in scene:
        thing["rotation"] = 1.25
    return {**row, "initial": json.dumps(scene, separators=(",", ":"))}


def fewer_changes(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "changes": json.dumps(json.loads(row["changes"])[:1])}


@pytest.mark.parametrize("name", LOOK)
def test_a_run_over_its_data_is_read(silent: Path, tmp_path: Path, name: str) -> None:
    LOOK[name](silent, tmp_path / "out")


@pytest.mark.parametrize("name", LOOK)
def test_data_made_anew_under_the_same_ids_are_noticed(
    silent: Path, tmp_path: Path, name: str
) -> None:
    remake(tmp_path / "data", other_value)
    with pytest.raises(UserError, match="these are not the data or answers of then") as error:
        LOOK[name](silent, tmp_path / "out")
    assert str(error.value).startswith(f"{silent}: its answers to ")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").rglob("*index.js"))


@pytest.mark.parametrize("name", LOOK)
def test_runs_without_a_fingerprint_are_known_by_every_metric(
    silent: Path, tmp_path: Path, name: str
) -> None:
    """TAcc is 0 as it was: how many changes there are is told by others."""
    scores = json.loads((silent / "metrics.json").read_text())
    del scores["truth"]
    (silent / "metrics.json").write_text(json.dumps(scores))
    LOOK[name](silent, tmp_path / "out")
    remake(tmp_path / "data", fewer_changes)
    with pytest.raises(UserError, match="these are not the data or answers of then"):
        LOOK[name](silent, tmp_path / "again")


@pytest.mark.parametrize("name", LOOK)
def test_metrics_of_another_run_are_noticed(
    silent: Path, tmp_path: Path, data_folder: Path, name: str
) -> None:
    evaluate("baseline:random", tmp_path / "data", tmp_path / "random")
    shutil.copy(tmp_path / "random" / "predictions.jsonl", silent / "predictions.jsonl")
    with pytest.raises(UserError, match=r"is .* rows, metrics\.json says"):
        LOOK[name](silent, tmp_path / "out")


@pytest.mark.parametrize("name", LOOK)
def test_a_completion_is_parsed_once(
    silent: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[object] = []
    parse = answer_module._predictions

    def counted(text: str, vocabulary: Any) -> Any:
        parsed.append(text)
        return parse(text, vocabulary)

    monkeypatch.setattr(answer_module, "_predictions", counted)
    LOOK[name](silent, tmp_path / "out")
    assert len(parsed) == 24


def test_the_intervals_are_those_of_now(silent: Path, tmp_path: Path) -> None:
    """A run of old has intervals that were made in another way."""
    scores = json.loads((silent / "metrics.json").read_text())
    before = scores["overall"]["tacc"].copy()
    scores["overall"]["tacc"] |= {"ci95": [0.0, 0.0]}
    (silent / "metrics.json").write_text(json.dumps(scores))
    answers = Answers([read_finished(silent)], tmp_path / "data")
    assert len(list(answers.rows())) == len(answers) == 24
    assert answers.judged[0].run.scores["overall"]["tacc"] == before
    assert set(answers.judged[0].run.scores) == set(scores) - {"answers", "usage", "truth"}


def test_only_answered_rows_are_read(data_folder: Path, tmp_path: Path) -> None:
    evaluate("baseline:oracle", data_folder, tmp_path / "part", limit=3)
    evaluate("baseline:silent", data_folder, tmp_path / "left", views=("left",))
    runs = [read_finished(tmp_path / name) for name in ("part", "left")]
    answers = Answers(runs, data_folder)
    rows = list(answers.rows(["answer"]))
    samples = list(map(row_to_sample, read_columns(data_folder, SAMPLE_COLUMNS)))
    wanted = [n for n, sample in enumerate(samples) if n < 3 or sample.view == "left"]
    assert [row.place for row in rows] == wanted
    assert [row.sample for row in rows] == [samples[n] for n in wanted]
    assert [[said is not None for said in row.said] for row in rows] == [
        [n < 3, samples[n].view == "left"] for n in wanted
    ]
    assert rows[0].row["answer"] == ", ".join(map(str, samples[0].changes))
    assert [len(judged.keys) for judged in answers.judged] == [3, 12]
    assert set(answers.judged[1].views) == {"left"}
    assert len(np.intersect1d(answers.judged[0].keys, answers.judged[1].keys)) == 1


def test_all_show_the_same_interval(data_folder: Path, tmp_path: Path) -> None:
    """metrics.json, the comparison, the analysis and the report, to the digit."""
    evaluate("baseline:random", data_folder, tmp_path / "run", seed=3)
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    values = compare({"run": [tmp_path / "run"]}, groups=list(scores)[:6]).values["run"]
    groups = analyze([str(tmp_path / "run")])["lines"]["run"]["groups"]
    write_report([tmp_path / "run"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for group, metrics in values.items():
        for metric in METRICS:
            estimate, measured = metrics[metric], scores[group][metric]
            if estimate is None:
                assert measured["value"] is None
                continue
            assert list(estimate.ci95 or ()) == measured["ci95"]
        if (tacc := scores[group]["tacc"])["n"]:
            assert groups[group]["tacc"] == tacc
            low, high = tacc["ci95"]
            assert f'<span class="ci">{100 * low:.1f} – {100 * high:.1f}</span>' in page
