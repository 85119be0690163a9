"""Interrupts, half-written checkpoints, the log, the export, several processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from star_r1.errors import UserError
from star_r1.model.loading import load_model, load_processor
from star_r1.train import grpo, sft
from star_r1.train.run import COMPLETE, last_checkpoint

FLAGS = [
    *("--use_cpu", "--report_to", "none", "--learning_rate", "1e-2", "--reward", "letters"),
    *("--max_steps", "4", "--save_steps", "1", "--max_completion_length", "8"),
    *("--num_generations", "4", "--per_device_train_batch_size", "8"),
]


@pytest.fixture
def train(
    model_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Runs GRPO into a folder; ``at_step`` is called in the rollouts of that step."""

    def train(
        out: str, *flags: str, at_step: int = -1, act: Callable[[], None] | None = None
    ) -> int:
        def letters(completions: list[Any], trainer_state: Any, **columns: Any) -> list[float]:
            if trainer_state.global_step == at_step and act is not None:
                act()
            return [float(len(set(completion[0]["content"]))) for completion in completions]

        monkeypatch.setitem(grpo.REWARDS, "letters", letters)
        folders = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / out]
        return grpo.main([*map(str, folders), *FLAGS, *flags])

    return train


def same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_saves_and_the_same_command_ends_it(
    number: signal.Signals,
    code: int,
    train: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = signal.getsignal(number)
    assert train("whole") == 0
    stopped = train("cut", at_step=2, act=lambda: signal.raise_signal(number))
    assert stopped == code
    assert signal.getsignal(number) is handler
    assert last_checkpoint(tmp_path / "cut") == tmp_path / "cut" / "checkpoint-3"
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert train("cut") == 0
    assert f"resuming from {tmp_path / 'cut' / 'checkpoint-3'}" in capsys.readouterr().err
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def test_sigterm_after_an_interrupt_does_not_hurry_it(
    train: Callable[..., int], tmp_path: Path
) -> None:
    """Ctrl-C under torchrun reaches the workers twice: from the terminal and as a SIGTERM."""

    def both() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    assert train("cut", "--save_steps", "99", at_step=1, act=both) == 130
    assert last_checkpoint(tmp_path / "cut") == tmp_path / "cut" / "checkpoint-2"


def test_interrupt_waits_for_the_end_of_the_rollouts(
    train: Callable[..., int], tmp_path: Path
) -> None:
    """Four optimizer steps use one generation batch: no checkpoint in between."""
    many = ("--steps_per_generation", "4", "--max_steps", "8", "--save_steps", "2")

    def once() -> None:
        signal.raise_signal(signal.SIGINT)

    assert train("cut", *many, at_step=0, act=once) == 130
    assert [p.name for p in (tmp_path / "cut").glob("checkpoint-*")] == ["checkpoint-4"]


def test_second_interrupt_stops_at_once(train: Callable[..., int], tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    assert train("cut", at_step=2, act=twice) == 130
    assert last_checkpoint(tmp_path / "cut") == tmp_path / "cut" / "checkpoint-2"


def test_half_written_checkpoint_is_passed_over(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("whole") == 0
    assert train("cut", at_step=2, act=lambda: signal.raise_signal(signal.SIGINT)) == 130
    broken = tmp_path / "cut" / "checkpoint-3"
    (broken / COMPLETE).unlink()
    (broken / "model.safetensors").write_bytes(b"")
    assert train("cut") == 0
    error = capsys.readouterr().err
    assert f"ignoring {broken}, which is half-written" in error
    assert f"resuming from {tmp_path / 'cut' / 'checkpoint-2'}" in error
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    steps = [json.loads(li)["step"] for li in (tmp_path / "cut" / "log.jsonl").open()]
    assert steps == [1, 2, 3, 4, 4]  # the last one sums up the run


def test_checkpoint_of_another_model(
    train: Callable[..., int], tmp_path: Path, model_folder: Path
) -> None:
    from star_r1.model.mini import build_model, build_processor

    assert train("run", "--max_steps", "1") == 0
    build_model(hidden_size=96).save_pretrained(tmp_path / "other")
    build_processor().save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="checkpoint-1 was written by another model"):
        train("run", "--model", str(tmp_path / "other"))


def test_run_folder(train: Callable[..., int], tmp_path: Path) -> None:
    """The model loads by its upstream names; completions and curves are there to be read."""
    import pyarrow.parquet as pq

    assert train("run", "--report_to", "tensorboard", "--max_steps", "2") == 0
    run = tmp_path / "run"
    load_model(str(run))
    load_processor(str(run))
    assert AutoConfig.from_pretrained(run).architectures == ["Qwen2_5_VLForConditionalGeneration"]
    processor = json.loads((run / "processor_config.json").read_text())
    assert processor["processor_class"] == "Qwen2_5_VLProcessor"
    assert not list(run.glob("*.bin")) + list(run.glob("*.tmp"))
    assert "pipeline_tag: image-text-to-text" in (run / "README.md").read_text()
    assert list(run.glob("runs/*/events*"))
    table = pq.read_table(run / "completions" / "completions_00002.parquet")
    assert table.num_rows == 8
    assert {"step", "completion", "id", "answer", "letters", "advantage"} <= set(table.column_names)
    curves = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert {"reward", "kl", "entropy", "completions/mean_length", "step"} <= set(curves)


def test_finished_run_is_left_as_it_is(train: Callable[..., int], tmp_path: Path) -> None:
    assert train("run", "--lr_scheduler_type", "constant") == 0
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert train("run", "--lr_scheduler_type", "constant") == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").open()]
    assert steps == [1, 2, 3, 4, 4]


def test_finished_epochs_are_left_as_they_are(train: Callable[..., int], tmp_path: Path) -> None:
    epochs = ("--max_steps", "-1", "--num_train_epochs", "1", "--lr_scheduler_type", "constant")
    assert train("run", *epochs) == 0
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert train("run", *epochs) == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights


def test_longer_run_goes_on(train: Callable[..., int], tmp_path: Path) -> None:
    assert train("run", "--lr_scheduler_type", "constant") == 0
    assert train("run", "--lr_scheduler_type", "constant", "--max_steps", "8") == 0
    assert train("whole", "--lr_scheduler_type", "constant", "--max_steps", "8") == 0
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_evaluation_while_training(
    train: Callable[..., int], tmp_path: Path, data_folder: Path
) -> None:
    flags = ("--eval_strategy", "steps", "--eval_steps", "2", "--eval_data", str(data_folder))
    assert train("evaluated", *flags) == 0
    entries = [json.loads(line) for line in (tmp_path / "evaluated" / "log.jsonl").open()]
    assert [entry["step"] for entry in entries if "eval_reward" in entry] == [2, 4]


def test_last_checkpoint_without_one(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    assert last_checkpoint(tmp_path) is None


SCRIPT = """
import os, sys
from safetensors.torch import save_file
from star_r1.train import grpo

def letters(completions, **columns):
    return [float(len(set(completion[0]["content"]))) for completion in completions]

def run(trainer, *args):
    code = original(trainer, *args)
    state = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    save_file(state, f"{trainer.args.output_dir}/rank-{os.environ['RANK']}.safetensors")
    return code

original, grpo.run = grpo.run, run
grpo.REWARDS["letters"] = letters
sys.exit(grpo.main(sys.argv[1:]))
"""


def test_two_processes(model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    """One group of 8 completions lies across both; the weights stay equal, and do move."""
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    folders = ["--model", model_folder, "--data", data_folder, "--output_dir", out]
    size = ["--num_generations", "8", "--per_device_train_batch_size", "4", "--max_steps", "2"]
    flags = [*map(str, folders), *FLAGS, *size]
    subprocess.run(
        [*torchrun, "--standalone", str(tmp_path / "script.py"), *flags],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    first, second = (load_file(out / f"rank-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = load_model(str(model_folder)).state_dict()
    assert any(not torch.equal(first[name], start[name]) for name in start if name in first)
    assert (out / "checkpoint-2" / COMPLETE).is_file()
    assert (out / "checkpoint-2" / "rng_state_1.pth").is_file()
    assert len((out / "log.jsonl").read_text().splitlines()) == 3


def test_sft_run(model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    folders = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / "run"]
    flags = ["--use_cpu", "--report_to", "none", "--learning_rate", "1e-2", "--max_steps", "8"]
    assert sft.main([*map(str, folders), *flags, "--per_device_train_batch_size", "4"]) == 0
    losses = [json.loads(line).get("loss") for line in (tmp_path / "run" / "log.jsonl").open()]
    assert losses[7] < 0.8 * losses[0]
