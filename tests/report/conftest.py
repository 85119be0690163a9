import json
from pathlib import Path

import pytest

from star_r1.data.dataset import read_columns, row_to_sample
from star_r1.evaluate.run import score_file
from star_r1.tvr import format_changes

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' & \ud800"


@pytest.fixture(scope="session")
def runs(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An evaluation before (hostile prose), a training, an evaluation after (one half right)."""
    root = tmp_path_factory.mktemp("runs")
    samples = list(
        map(row_to_sample, read_columns(data_folder, ("id", "view", "initial", "changes", "rig")))
    )
    for name in ("base", "trained"):
        folder = root / name
        folder.mkdir()
        rows = []
        for n, sample in enumerate(samples):
            changes = format_changes(sample.changes)
            right = n < 4 if name == "base" else n % 2 == 0
            answer = changes if right else f"2.color.{HOSTILE}"
            rows.append(
                {"id": sample.id, "completion": f"<think></think><answer>{answer}</answer>"}
            )
        path = folder / "predictions.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "metrics.json").write_text(json.dumps(score_file(data_folder, path)))
        about = {
            "model": f"<{name}>",
            "data": str(data_folder),
            "identity": {"rows": "0123"},
            "commit": None,
            "date": "2026-01-02T03:04:05+00:00",
            "machine": {"processor": "a processor", "cores": 2},
            "versions": {"python": "3.11"},
        }
        (folder / "run.json").write_text(json.dumps(about))
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
