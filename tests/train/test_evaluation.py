"""Evaluation while training: curves by view, and the best model is the one that is exported."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from star_r1.errors import UserError
from star_r1.train import grpo, sft

GRPO = "--reward letters --num_generations 4 --max_completion_length 6 --beta 0"
BY_VIEW = "--eval_views left center --metric_for_best_model left_reward"


@pytest.fixture
def command(model_folder: Path, data_folder: Path) -> Callable[..., list[str]]:
    def build(out: Path, flags: str) -> list[str]:
        fixed = f"--model {model_folder} --data {data_folder} --output_dir {out} --use_cpu"
        steps = "--per_device_train_batch_size 8 --max_steps 3 --report_to none --save_steps 1"
        evaluated = f"--eval_data {data_folder} --eval_strategy steps --eval_steps 1"
        return [*fixed.split(), *steps.split(), *evaluated.split(), *flags.split()]

    return build


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    def letters(completions: list[Any], **columns: Any) -> list[float]:
        return [float(len(set(completion[0]["content"]))) for completion in completions]

    monkeypatch.setitem(grpo.REWARDS, "letters", letters)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*model*.safetensors")
    return load_file(file)


def same(a: Path, b: Path) -> bool:
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def curves(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("main", "flags", "measure"),
    [
        pytest.param(grpo.main, f"{GRPO} {BY_VIEW}", "eval_left_reward", id="grpo"),
        pytest.param(sft.main, "--learning_rate 1", "eval_loss", id="sft"),
        pytest.param(sft.main, "--learning_rate 1 --use_peft", "eval_loss", id="sft, LoRA"),
    ],
)
def test_the_best_model_is_exported(
    main: Any,
    flags: str,
    measure: str,
    command: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when the run is started again: after its end, or in a folder that was moved."""
    out, moved = tmp_path / "out", tmp_path / "moved"
    evaluate = grpo.StarGRPOTrainer.evaluate if main is grpo.main else sft.StarSFTTrainer.evaluate

    def second_is_best(self: Any, *args: Any, **kwargs: Any) -> Any:
        metrics = evaluate(self, *args, **kwargs)
        if measure in metrics:
            metrics[measure] = abs(self.state.global_step - 2)
        return metrics

    owner = grpo.StarGRPOTrainer if main is grpo.main else sft.StarSFTTrainer
    monkeypatch.setattr(owner, "evaluate", second_is_best)
    best = f"{flags} --load_best_model_at_end --greater_is_better false --save_total_limit 1"
    assert main(command(out, best)) == 0
    assert same(out, out / "checkpoint-2")
    assert not same(out, out / "checkpoint-3")  # kept, so that the run is known to be done
    shutil.move(out, moved)
    for path in moved.glob("*model*.safetensors"):
        path.unlink()
    assert main(command(moved, best)) == 0
    assert same(moved, moved / "checkpoint-2")


def test_a_best_model_that_is_gone(command: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = "--load_best_model_at_end --max_steps 1"
    assert sft.main(command(out, flags)) == 0
    state = json.loads((out / "checkpoint-1" / "trainer_state.json").read_text())
    state["best_global_step"] = 7
    (out / "checkpoint-1" / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=r"step 7 was the best, and .* holds no checkpoint of it"):
        sft.main(command(out, flags))


def test_each_view_has_curves_of_its_own(command: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert grpo.main(command(out, f"{GRPO} --eval_views center left --max_steps 1")) == 0
    entries = [entry for entry in curves(out) if any(name.startswith("eval_") for name in entry)]
    assert len(entries) == 2
    for view, entry in zip(("center", "left"), entries, strict=True):
        assert {f"eval_{view}_loss", f"eval_{view}_reward", f"eval_{view}_entropy"} <= set(entry)
        measured = {name for name in entry if name.startswith("eval_")}
        assert all(name.startswith(f"eval_{view}_") for name in measured)
    assert entries[0]["eval_center_reward"] != entries[1]["eval_left_reward"]


def test_views_to_evaluate_are_others_than_those_to_train_on(command: Any, tmp_path: Path) -> None:
    """One view needs no name in its curves."""
    out = tmp_path / "out"
    flags = "--views center --eval_views left --max_steps 1 --eval_data"
    seen = []
    read = sft.answers_of

    def look(folder: str, views: Any) -> Any:
        seen.append(list(views))
        return read(folder, views)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "answers_of", look)
        assert sft.main(command(out, flags.removesuffix(" --eval_data"))) == 0
    assert seen == [["center"], ["left"]]
    assert any("eval_loss" in entry for entry in curves(out))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--eval_views bottom", "--eval_views: view 'bottom' is unknown"),
        ("--eval_views top", "no row has view 'top'"),
        ("--eval_views left --eval_data= --eval_strategy no", "--eval_views: give --eval_data"),
        ("--eval_views left center --load_best_model_at_end", "by views; name one, .* left_loss"),
        ("--metric_for_best_model reward", "reward: not measured; choose from .*, loss,"),
    ],
)
def test_a_mistake_is_one_line(flags: str, message: str, command: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        sft.main(command(tmp_path / "out", flags))
    assert "\n" not in str(caught.value)
