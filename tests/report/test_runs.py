import json
import os
import shutil
from pathlib import Path

import pytest

from star_r1.errors import UserError
from star_r1.report.runs import Curve, read_runs

Runs = tuple[Path, Path, Path]


def test_sorts_evaluations_and_trainings_in_the_given_order(runs: Runs) -> None:
    base, grpo, trained = runs
    evaluations, trainings = read_runs([trained, grpo, base])
    assert [run.name for run in evaluations] == ["trained", "base"]
    assert [(run.name, run.steps) for run in trainings] == [("grpo", 30)]


def test_curves_leave_out_what_is_no_finite_number(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "reward": 1.5, "kl": None, "note": "x", "flag": True},
        {"step": 2, "kl": 0.25},
        {"step": 3, "reward": 2},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "reward": NaN}\n'
    (tmp_path / "log.jsonl").write_text(text)
    _, (training,) = read_runs([tmp_path])
    assert training.curves["reward"] == Curve((1.0, 3.0), (1.5, 2.0))
    assert training.curves["kl"] == Curve((2.0,), (0.25,))
    assert set(training.curves) == {"step", "reward", "kl"}


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", "{}", '{"step": "x"}', '{"step": NaN}', "[" * 10**5]
)
def test_a_broken_log_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(UserError, match=r"log\.jsonl:2: "):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "{}"),
        ("metrics.json", "[]"),
        ("run.json", "["),
        ("run.json", "{}"),
        ("run.json", None),
    ],
)
def test_a_damaged_file_is_named(
    runs: Runs, tmp_path: Path, name: str, content: str | None
) -> None:
    folder = Path(shutil.copytree(runs[0], tmp_path / "run"))
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=name):
        read_runs([folder])


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "log.jsonl"])
def test_only_plain_files_are_read(runs: Runs, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(runs[0], tmp_path / "run"))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(UserError, match=f"{name}: Not a plain file"):
        read_runs([folder])


def test_numbers_beyond_all_bounds_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(f'{{"step": 1, "loss": 1{"0" * 400}, "reward": 2}}\n')
    _, (training,) = read_runs([tmp_path])
    assert list(training.curves) == ["step", "reward"]


def test_metrics_out_of_shape_are_damaged(runs: Runs, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs[0], tmp_path / "run"))
    scores = json.loads((folder / "metrics.json").read_text())
    scores["left"]["diff"]["value"] = None
    (folder / "metrics.json").write_text(json.dumps(scores))
    with pytest.raises(UserError, match=r"metrics\.json: damaged"):
        read_runs([folder])


def test_trances_metrics_are_read_apart(moves_runs: tuple[Path, Path], tmp_path: Path) -> None:
    (run,) = read_runs(moves_runs[:1])[0]
    assert "trance" not in run.scores
    assert run.trance["view"]["top"]["LAcc"]["n"] == 4
    folder = Path(shutil.copytree(moves_runs[0], tmp_path / "run"))
    for damage in ({"event": {}}, {"basic": {}, "event": {}, "view": {}}, [], 3):
        scores = json.loads((moves_runs[0] / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**scores, "trance": damage}))
        with pytest.raises(UserError, match=r"metrics\.json: damaged"):
            read_runs([folder])


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder"):
        read_runs([tmp_path / "absent"])
    with pytest.raises(UserError, match=r"neither metrics\.json nor log\.jsonl"):
        read_runs([tmp_path])
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="unfinished"):
        read_runs([tmp_path])


def test_half_a_last_line_is_left_out(tmp_path: Path) -> None:
    """What a training that was killed may leave; a whole one needs no end."""
    (tmp_path / "log.jsonl").write_text('{"step": 1, "reward": 1}\n{"step": 2, "rew')
    assert read_runs([tmp_path])[1][0].steps == 1
    (tmp_path / "log.jsonl").write_text('{"step": 1, "reward": 1}\n{"step": 2, "reward": 2}')
    assert read_runs([tmp_path])[1][0].steps == 2


def test_a_training_says_where_its_data_are(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    assert read_runs([tmp_path])[1][0].data is None
    (tmp_path / "training.json").write_text('{"data": {"path": "/somewhere/pairs"}}')
    assert read_runs([tmp_path])[1][0].data == Path("/somewhere/pairs")


@pytest.mark.parametrize("about", ["[]", '{"data": []}', '{"data": {"path": 3}}', "{"])
def test_a_training_may_not_say_where_its_data_are(tmp_path: Path, about: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "reward": 1.5}\n')
    (tmp_path / "training.json").write_text(about)
    _, (training,) = read_runs([tmp_path])
    assert training.data is None
