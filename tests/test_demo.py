import json
from pathlib import Path

import pytest

from star_r1 import demo
from star_r1.errors import UserError
from star_r1.tvr.sampler import SceneRules

RECIPE = """\
max_steps: 2
num_generations: 2
per_device_train_batch_size: 4
max_completion_length: 8
learning_rate: 0.0001
save_strategy: "no"
report_to: none
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_folder: Path) -> Path:
    """The demo at a size of seconds, on random weights; its output folder."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    monkeypatch.setattr(demo, "RECIPE", recipe)
    monkeypatch.setattr(demo, "TRAIN_SAMPLES", 4)
    monkeypatch.setattr(demo, "TEST_SAMPLES", 2)
    monkeypatch.setattr(demo, "SIZE", (40, 40))
    monkeypatch.setattr(demo, "SAMPLES_PER_PIXEL", 1)
    monkeypatch.setattr(demo, "RULES", SceneRules(visible=(2, 3), changes=(1, 1)))
    monkeypatch.setattr(demo, "WORKERS", 1)
    monkeypatch.setattr(demo, "MAX_NEW_TOKENS", 8)
    monkeypatch.setattr(demo, "MODEL", str(model_folder))
    return tmp_path / "demo"


def test_the_whole_loop(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.run(small, seed=3)
    printed = capsys.readouterr().out
    assert (small / "report.html").resolve().as_uri() in printed
    assert "0.0 [0.0, 84.2]" in printed  # of two scenes
    summary = json.loads((small / "summary.json").read_text())
    assert summary["seed"] == 3
    assert list(summary["trained"]) == ["overall", "center", "left", "right", "ood"]
    assert (summary["base"]["overall"]["n"], summary["base"]["overall"]["scenes"]) == (6, 2)
    stages = dict(summary["seconds"])
    assert stages.pop("total") == pytest.approx(sum(stages.values()), abs=0.1)
    assert len(stages) == 6

    # what is done is not done again, down to the time it took
    before = {path: path.stat().st_mtime_ns for path in (small / "grpo").iterdir()}
    (small / "report.html").unlink()
    record = json.loads((small / "stages.json").read_text())
    record["done"].remove("report")
    (small / "stages.json").write_text(json.dumps(record))
    demo.run(small, seed=3)
    assert (small / "report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in (small / "grpo").iterdir()} == before
    again = json.loads((small / "summary.json").read_text())["seconds"]
    assert again["training"] == stages["training"]
    assert again["report"] > stages["report"]

    with pytest.raises(UserError, match="another seed; choose another --out"):
        demo.run(small, seed=4)


def test_wants_a_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "RECIPE", tmp_path / "recipes" / "mini-grpo.yaml")
    with pytest.raises(UserError, match="run it from a clone"):
        demo.run(tmp_path / "demo", seed=0)
