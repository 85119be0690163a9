"""Interrupts, half-written checkpoints, the log, the export, several processes."""

import json
import os
import shutil
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
from star_r1.train.checkpoints import COMPLETE, checkpoints, last_checkpoint

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


def test_older_checkpoints_go_when_the_new_one_is_whole(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is marked before any is deleted, and loses its mark before its files."""
    run, seen = tmp_path / "run", []

    def rmtree(path: Path, **kwargs: Any) -> None:
        marked = [p.name for p in checkpoints(run) if (p / COMPLETE).is_file()]
        seen.append((Path(path).name, marked))
        remove(path, **kwargs)

    remove = shutil.rmtree
    (run / "checkpoint-77").mkdir(parents=True)  # half of one, by a process that was killed
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert train("run", "--save_total_limit", "1") == 0
    deleted = [(name, marked) for name, marked in seen if name.startswith("checkpoint-")]
    assert deleted == [
        ("checkpoint-77", ["checkpoint-1"]),
        ("checkpoint-1", ["checkpoint-2"]),
        ("checkpoint-2", ["checkpoint-3"]),
        ("checkpoint-3", ["checkpoint-4"]),
    ]


def test_a_whole_checkpoint_is_not_written_over(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of an epoch both the interrupt and the epoch ask for a checkpoint."""
    asked = []
    save = grpo.GRPOTrainer._save_checkpoint
    monkeypatch.setattr(
        grpo.GRPOTrainer,
        "_save_checkpoint",
        lambda trainer, *args: (asked.append(trainer.state.global_step), save(trainer, *args)),
    )
    flags = ("--save_strategy", "epoch", "--save_total_limit", "1", "--max_steps", "12")
    assert train("run", *flags, at_step=5, act=lambda: signal.raise_signal(signal.SIGINT)) == 130
    assert asked == [6]
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoint-6"


def test_no_limit_keeps_all_checkpoints(train: Callable[..., int], tmp_path: Path) -> None:
    assert train("run", "--save_total_limit", "0", "--max_steps", "3") == 0
    assert [path.name[-1] for path in checkpoints(tmp_path / "run")] == ["1", "2", "3"]


def test_saves_between_two_log_entries_resume_to_the_same_log(
    train: Callable[..., int], tmp_path: Path
) -> None:
    """What was measured since the last entry is in no checkpoint: each save begins with one."""
    flags = ("--logging_steps", "3", "--save_steps", "2")
    assert train("whole", *flags) == 0

    def kill() -> None:
        raise RuntimeError("killed")

    with pytest.raises(UserError, match="killed"):
        train("cut", *flags, at_step=3, act=kill)
    assert train("cut", *flags) == 0
    logs = []
    for name in ("whole", "cut"):
        entries = [json.loads(line) for line in (tmp_path / name / "log.jsonl").open()]
        logs.append([(e["step"], e.get("loss"), e.get("reward")) for e in entries])
    assert logs[0] == logs[1]
    assert [step for step, *_ in logs[0]] == [2, 3, 4, 4]


def test_an_export_cut_short_is_no_model_until_it_is_done_again(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each of its moves in turn, with an older export in the folder."""
    run = tmp_path / "run"
    assert train("run", "--max_steps", "2", "--lr_scheduler_type", "constant") == 0
    old = (run / "model.safetensors").read_bytes()
    assert train("whole", "--lr_scheduler_type", "constant") == 0
    move = Path.replace
    cut = 0
    with monkeypatch.context() as patch:
        moved: list[str] = []

        def replace(path: Path, target: Path) -> Path:
            if path.parent.name == "export.tmp":
                moved.append(path.name)
                if len(moved) > cut:
                    raise KeyboardInterrupt
            return move(path, target)

        patch.setattr(Path, "replace", replace)
        while cut < 3:
            moved.clear()
            with pytest.raises(KeyboardInterrupt):
                train("run", "--lr_scheduler_type", "constant")
            assert not (run / "config.json").exists()
            with pytest.raises(UserError, match=r"no config\.json"):
                load_model(str(run))
            cut += 1
        assert not (run / "model.safetensors").exists() or (
            (run / "model.safetensors").read_bytes() != old
        )
    assert train("run", "--lr_scheduler_type", "constant") == 0
    assert same_weights(run, tmp_path / "whole")
    assert not (run / "export.tmp").exists()


def test_half_a_last_line_of_a_finished_log_is_cut_off(
    train: Callable[..., int], tmp_path: Path
) -> None:
    assert train("run") == 0
    log = tmp_path / "run" / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole[:-20])
    assert train("run") == 0
    assert log.read_text() == "".join(whole.splitlines(keepends=True)[:-1])


def test_checkpoint_of_another_model(
    train: Callable[..., int], tmp_path: Path, model_folder: Path
) -> None:
    from star_r1.model.mini import build_model, build_processor

    assert train("run", "--max_steps", "1") == 0
    build_model(hidden_size=96).save_pretrained(tmp_path / "other")
    build_processor().save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match=r"holds a run with other settings: --model SHA-256 "):
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
    assert {"frac_reward_zero_std", "clip_ratio/region_mean", "grad_norm"} <= set(curves)


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
from pathlib import Path
from safetensors.torch import save_file
from star_r1.errors import UserError
from star_r1.train import grpo
from star_r1.train.run import leave

out, *flags = sys.argv[1:]
rank = os.environ["RANK"]

def letters(completions, **columns):
    return [float(len(set(completion[0]["content"]))) for completion in completions]

def run(trainer, *args):
    code = original(trainer, *args)
    state = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    save_file(state, f"{trainer.args.output_dir}/rank-{rank}.safetensors")
    return code

def broken(trainer, *args, **kwargs):
    loss = compute(trainer, *args, **kwargs)
    return loss * float("nan") if rank == "1" and trainer.state.global_step == 1 else loss

original, grpo.run = grpo.run, run
compute = grpo.StarGRPOTrainer.compute_loss
grpo.REWARDS["letters"] = letters
assert grpo.main([*flags, "--output_dir", out]) == 0
grpo.StarGRPOTrainer.compute_loss = broken
try:
    grpo.main([*flags, "--output_dir", out + "-broken"])
except UserError as error:
    Path(out, f"rank-{rank}.txt").write_text(str(error))
try:
    grpo.main([*flags, "--output_dir", out, "--seed", "7"])
except (UserError, SystemExit) as error:
    Path(out, f"other-{rank}.txt").write_text(str(error))
leave(0)
"""


def test_two_processes(model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    """One group of 8 completions lies across both; the weights stay equal, and do move.

    When the loss breaks in one of them, both stop at that step; when the folder is another run's,
    the first says so for both.
    """
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    folders = ["--model", model_folder, "--data", data_folder]
    size = ["--num_generations", "8", "--per_device_train_batch_size", "4", "--max_steps", "2"]
    flags = [str(out), *map(str, folders), *FLAGS, *size]
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
    for rank in (0, 1):
        said = (out / f"rank-{rank}.txt").read_text()
        assert said.startswith("step 2: the norm of the gradient is nan")
    assert [path.name for path in checkpoints(tmp_path / "run-broken")] == ["checkpoint-1"]
    assert "holds a run with other settings: --seed 42 -> 7" in (out / "other-0.txt").read_text()
    assert (out / "other-1.txt").read_text() == "2"


def test_sft_run(model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    folders = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / "run"]
    flags = ["--use_cpu", "--report_to", "none", "--learning_rate", "1e-2", "--max_steps", "8"]
    assert sft.main([*map(str, folders), *flags, "--per_device_train_batch_size", "4"]) == 0
    losses = [json.loads(line).get("loss") for line in (tmp_path / "run" / "log.jsonl").open()]
    assert losses[7] < 0.8 * losses[0]
