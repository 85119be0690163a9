"""What ends a run with one line: broken numbers, a diverging KL, a full disk, a failing reward."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers.trainer_callback import TrainerControl

from star_r1.errors import UserError
from star_r1.train import grpo, sft
from star_r1.train.checkpoints import COMPLETE, checkpoints, last_checkpoint
from star_r1.train.guards import PATIENCE, Divergence, reward_failed, room_to_write

FLAGS = [
    *("--use_cpu", "--report_to", "none", "--learning_rate", "1e-2", "--reward", "letters"),
    *("--max_steps", "4", "--save_steps", "1", "--max_completion_length", "8"),
    *("--num_generations", "4", "--per_device_train_batch_size", "8"),
]


def letters(completions: list[Any], **columns: Any) -> list[float]:
    return [float(len(set(completion[0]["content"]))) for completion in completions]


@pytest.fixture
def train(
    model_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Runs GRPO into ``tmp_path / "run"``, with a reward of one's own."""

    def train(*flags: str, reward: Callable[..., list[float]] = letters) -> int:
        monkeypatch.setitem(grpo.REWARDS, "letters", reward)
        folders = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / "run"]
        return grpo.main([*map(str, folders), *FLAGS, *flags])

    return train


def test_a_broken_gradient_stops_before_a_checkpoint_has_it(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint stays, and the same command goes on from it."""
    compute = grpo.StarGRPOTrainer.compute_loss

    def broken(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        loss = compute(trainer, *args, **kwargs)
        return loss * float("inf") if trainer.state.global_step == 2 else loss

    monkeypatch.setattr(grpo.StarGRPOTrainer, "compute_loss", broken)
    with pytest.raises(UserError, match="step 3: the norm of the gradient is ") as error:
        train()
    assert "\n" not in str(error.value)
    assert "before the update" not in str(error.value)  # DeepSpeed's comes first
    last = tmp_path / "run" / "checkpoint-2"
    assert last_checkpoint(tmp_path / "run") == last
    assert all(torch.isfinite(w).all() for w in load_file(last / "model.safetensors").values())
    monkeypatch.undo()
    assert train() == 0


def test_a_broken_loss_with_a_sound_gradient_stops_too(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer would write the mean of earlier losses into the log instead."""
    compute = grpo.StarGRPOTrainer.compute_loss

    def broken(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        loss = compute(trainer, *args, **kwargs)
        return loss + float("nan") if trainer.state.global_step == 2 else loss

    monkeypatch.setattr(grpo.StarGRPOTrainer, "compute_loss", broken)
    with pytest.raises(UserError, match="step 3: the loss is nan"):
        train()
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoint-2"


def test_a_broken_sft_run_stops_too(
    model_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = sft.StarSFTTrainer.compute_loss
    monkeypatch.setattr(
        sft.StarSFTTrainer,
        "compute_loss",
        lambda trainer, *args, **kwargs: compute(trainer, *args, **kwargs) * float("nan"),
    )
    folders = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / "run"]
    flags = ["--use_cpu", "--report_to", "none", "--max_steps", "2", "--save_steps", "1"]
    with pytest.raises(UserError, match="step 1: the norm of the gradient is nan"):
        sft.main([*map(str, folders), *flags])
    assert last_checkpoint(tmp_path / "run") is None


def test_kl_far_from_the_base_stops(train: Callable[..., int], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 4: the KL .* stays above --max_kl 1e-09"):
        train("--max_kl", "1e-9")
    # the first step's KL is 0: a checkpoint; none was written above the bound
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-1"]
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("kls", "bound", "saves", "stops"),
    [
        ([9.0] * PATIENCE, 5.0, False, True),
        ([9.0] * (PATIENCE - 1), 5.0, False, False),
        ([9.0, 1.0, *[9.0] * (PATIENCE - 1)], 5.0, False, False),
        ([*[9.0] * (PATIENCE - 1), 4.0], 5.0, True, False),
        ([9.0] * PATIENCE, 0.0, True, False),
        ([float("inf")] * PATIENCE, 5.0, False, True),
        ([None] * PATIENCE, 5.0, True, False),
    ],
)
def test_when_a_kl_counts_as_diverging(
    kls: list[float | None], bound: float, saves: bool, stops: bool
) -> None:
    state = SimpleNamespace(log_history=[], global_step=0)
    guard, stopped = Divergence(bound), False
    for kl in kls:
        control = TrainerControl(should_save=True)
        state.global_step += 1
        # an evaluation's entry between two does not matter
        state.log_history += [{"eval_kl": 0.0}, {"loss": 0.1, "kl": kl}]
        try:
            guard.on_log(None, state, control)
        except UserError:
            stopped = True
    assert control.should_save is saves
    assert stopped is stops


def test_a_loss_that_is_no_number_stops() -> None:
    state = SimpleNamespace(log_history=[{"loss": float("nan")}], global_step=7)
    with pytest.raises(UserError, match="step 7: the loss is nan"):
        Divergence().on_log(None, state, TrainerControl())


def fill_up(path: str, *args: Any, **kwargs: Any) -> None:
    """A writer that meets a full disk half-way."""
    Path(path).write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("writer", ["weights", "optimizer"])
def test_a_full_disk_while_saving_keeps_the_last_checkpoint(
    writer: str, train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for one checkpoint only, too: the old one goes when the new one is whole."""
    from transformers import modeling_utils

    with monkeypatch.context() as patch:

        def full(trainer_state: Any = None, **columns: Any) -> list[float]:
            if trainer_state.global_step == 2:
                if writer == "optimizer":
                    patch.setattr(torch, "save", lambda _, path: fill_up(path))
                else:
                    patch.setattr(
                        modeling_utils, "safe_save_file", lambda _, path, **kw: fill_up(path)
                    )
            return letters(**columns)

        with pytest.raises(UserError) as error:
            train("--save_total_limit", "1", reward=full)
    last = tmp_path / "run" / "checkpoint-2"
    run = tmp_path / "run"
    assert str(error.value) == (
        f"the disk is full; make room for {run}, and the same command goes on from {last}, "
        "which is whole"
    )
    assert checkpoints(run) == [last]
    assert (last / COMPLETE).is_file()
    assert train("--save_total_limit", "1") == 0
    assert [path.name for path in checkpoints(run)] == ["checkpoint-4"]


@pytest.mark.parametrize("file", ["log.jsonl", "completions/completions_00002.parquet"])
def test_a_full_disk_while_logging(file: str, train: Callable[..., int], tmp_path: Path) -> None:
    """``/dev/full`` stands for the disk: every write to it fails as one to a full disk does."""

    def full(trainer_state: Any = None, **columns: Any) -> list[float]:
        path = tmp_path / "run" / file
        if trainer_state.global_step == 1:
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/full")
        return letters(**columns)

    with pytest.raises(UserError, match=r"the disk is full; .* goes on from .*checkpoint-1, which"):
        train(reward=full)
    (tmp_path / "run" / file).unlink()
    assert train() == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").open()]
    assert steps == [1, 2, 3, 4, 4]


def test_a_full_disk_while_exporting(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        save = grpo.StarGRPOTrainer.save_model

        def save_model(trainer: Any, folder: str, _internal_call: bool = False) -> None:
            save(trainer, folder, _internal_call)
            if folder.endswith("export.tmp"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(grpo.StarGRPOTrainer, "save_model", save_model)
        with pytest.raises(UserError, match=r"the disk is full; .*checkpoint-4, which is whole"):
            train()
    assert not (tmp_path / "run" / "export.tmp").exists()
    assert not (tmp_path / "run" / "config.json").exists()
    assert train() == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        # as safetensors and torch.save word it on a full tmpfs
        (ValueError("Error while serializing: I/O error: No space left on device"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576"), True),
        (RuntimeError("basic_ios::clear: iostream error"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("[enforce fail at inline_container.cc] PytorchStreamReader failed"), False),
        (RuntimeError("shape mismatch"), False),
        (UserError("reward: No space left"), False),
    ],
)
def test_what_counts_as_a_full_disk(error: Exception, full: bool) -> None:
    with pytest.raises(UserError if full else type(error)) as found, room_to_write(lambda: "do x"):
        raise error
    assert (str(found.value) == "the disk is full; do x") is full


def test_a_reward_that_raises_names_the_sample(train: Callable[..., int]) -> None:
    def picky(completions: list[Any], id: list[str], **columns: Any) -> list[float]:
        return [1.0 if name != "000003-center" else {}["colour"] for name in id]

    with pytest.raises(UserError) as error:
        train("--max_steps", "6", reward=picky)  # an epoch
    assert str(error.value).startswith("reward picky fails on sample 000003-center: KeyError: ")
    assert "\n" not in str(error.value)


def test_a_reward_that_fails_on_a_batch_only() -> None:
    def mean(completions: list[str], **columns: Any) -> list[float]:
        return [1 / (2 - len(completions))] * len(completions)

    async def later(**columns: Any) -> list[float]:
        raise AssertionError

    columns = {"completions": ["a", "b"], "id": ["7-left", "8-left"]}
    found = reward_failed(
        ["later", "mean"], [later, mean], columns, None, ZeroDivisionError("zero")
    )
    assert str(found) == (
        "reward later or mean fails on the batch that begins with sample 7-left, though on none "
        "of its completions alone: ZeroDivisionError: zero"
    )
