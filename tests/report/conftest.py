import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.evaluate.scoring import score_file
from star_r1.trance_metrics import SETTINGS
from star_r1.tvr import format_changes

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' & \ud800"


@pytest.fixture(scope="session")
def runs(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An evaluation before (hostile prose), a training, an evaluation after (one half right)."""
    root = tmp_path_factory.mktemp("runs")
    samples = list(map(row_to_sample, read_columns(data_folder, SAMPLE_COLUMNS)))
    for name in ("base", "trained"):
        answers = {
            sample.id: format_changes(sample.changes)
            if (n < 4 if name == "base" else n % 2 == 0)
            else f"2.color.{HOSTILE}"
            for n, sample in enumerate(samples)
        }
        write_evaluation(root / name, data_folder, answers)
    log = [
        {
            "step": step,
            "reward": 1 + step / 10,
            "reward/exact": step / 20,
            "reward/wrong": -1.0,
            "answer/right": step / 100,
            "completions/mean_length": 40 - step,
            "kl": None,
        }
        for step in range(1, 31)
    ]
    (root / "grpo").mkdir()
    (root / "grpo" / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    return root / "base", root / "grpo", root / "trained"


@pytest.fixture(scope="session")
def moves_runs(moves_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An evaluation before and one after, of TRANCE's full setting, one view being the top."""
    root = tmp_path_factory.mktemp("moves")
    samples = list(map(row_to_sample, read_columns(moves_folder, SAMPLE_COLUMNS)))
    # Backwards, and with one change more at the end: another number of steps.
    before = {s.id: "4.color.blue, " + format_changes(s.changes[::-1]) for s in samples}
    after = {s.id: format_changes(s.changes) for s in samples}
    for name, answers in (("base", before), ("trained", after)):
        write_evaluation(root / name, moves_folder, answers)
        path = root / name / "metrics.json"
        trance = {
            s: score_file(moves_folder, root / name / "predictions.jsonl", s) for s in SETTINGS
        }
        path.write_text(json.dumps({**json.loads(path.read_text()), "trance": trance}))
    return root / "base", root / "trained"


@pytest.fixture(name="write_evaluation", scope="session")
def _write_evaluation() -> Callable[[Path, Path, Mapping[str, str]], None]:
    return write_evaluation


def write_evaluation(folder: Path, data: Path, answers: Mapping[str, str]) -> None:
    """What 'star-r1 evaluate' leaves behind, of a model that gives these answers."""
    folder.mkdir()
    rows = [
        {"id": id, "completion": f"<think></think><answer>{answer}</answer>"}
        for id, answer in answers.items()
    ]
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = score_file(data, path, unanswered="leave-out")
    (folder / "metrics.json").write_text(json.dumps(scores))
    about = {
        "model": f"<{folder.name}>",
        "data": str(data),
        "identity": {"rows": "0123"},
        "commit": None,
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"processor": "a processor", "cores": 2},
        "versions": {"python": "3.11"},
    }
    (folder / "run.json").write_text(json.dumps(about))
