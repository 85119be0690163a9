"""A training run from its last checkpoint to the exported model.

A run lives in one folder:

- ``checkpoint-N/``: all that a resume needs; it counts once its ``complete`` file is there.
- ``log.jsonl``: one JSON line a logging step, with every curve; ``runs/``: the same for
  tensorboard.
- ``completions/`` (GRPO): one parquet a logging step, one row a completion.
- ``training.json``: what is trained on what, by which command, commit and machine.
- ``model.safetensors``, ``config.json``, ...: the trained model, when the run has ended; with
  LoRA ``adapter_model.safetensors`` and ``adapter_config.json``. The config appears last.
"""

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from star_r1.errors import UserError
from star_r1.files import leftovers, write_atomic
from star_r1.train import hub
from star_r1.train.callbacks import Bar, Interrupt, Log, runtime
from star_r1.train.card import on_hub, update_card
from star_r1.train.checkpoints import best_to_export, last_checkpoint
from star_r1.train.guards import Divergence, room_to_write
from star_r1.train.record import TRAINING, record_training
from star_r1.train.sharded import gather_head
from star_r1.train.start import MODEL_CONFIGS, Start
from star_r1.train.terminal import say


def run(
    trainer: Any,
    about: Mapping[str, Any],
    start: Start,
    max_kl: float = 0.0,
) -> int:
    """Train to the end, from a checkpoint if there is one to go on from, and export the model.

    Args:
        trainer: a TRL trainer with ``ExactResume``.
        about: what is trained on what, from ``record.describe_training``.
        start: what it begins with, from ``start.begin``.
        max_kl: as in ``Divergence``.

    Returns:
        The exit code: 0, or 128 + the signal that ended the run early.

    Raises:
        UserError: the checkpoint does not fit the model; the numbers of the training broke, or the
            disk is full, which leaves the last checkpoint as it was; the upload failed.
    """
    folder, checkpoint = start.folder, start.checkpoint
    repo = trainer.hub_model_id if trainer.args.push_to_hub else None
    if repo and about["adapter"] and not on_hub(about["base_model"]):
        raise UserError(
            f"--push_to_hub: a LoRA adapter names its base, and {about['base_model']} is not on "
            "the Hub; leave --push_to_hub or --use_peft off"
        )
    trainer.args.push_to_hub = False  # Trainer would upload at each save, with its own card
    trainer.args.logging_nan_inf_filter = False  # Divergence must see it
    if start.done is not None:
        say(f"all {start.done} steps are done")
        _mend_log(folder)
        if checkpoint is None:
            return 0
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        best = best_to_export(folder, state, trainer.args)
        trainer._load_from_checkpoint(str(best or checkpoint))  # train() would do one step more
        return _end(trainer, state, about, start, repo)
    if checkpoint is not None:
        say(f"resuming from {checkpoint}")
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    gather_head(trainer.model)
    with ExitStack() as stack:
        stack.enter_context(room_to_write(lambda: _advice(start)))
        interrupt = stack.enter_context(Interrupt(lambda: trainer.between_rollouts))
        for callback in (interrupt, Log(), stack.enter_context(Bar()), Divergence(max_kl)):
            trainer.add_callback(callback)
        trainer.callback_handler.callbacks.insert(0, _Opening(start, about))
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except KeyboardInterrupt:
            say(f"stopped at once; {start.again} goes on from {last_checkpoint(folder)}")
            return 128 + (interrupt.signal or signal.SIGINT)
    if interrupt.signal is not None:
        say(f"stopped with {last_checkpoint(folder)}; {start.again} goes on from there")
        return 128 + interrupt.signal
    return _end(trainer, trainer.state, about, start, repo)


class _Opening(TrainerCallback):  # type: ignore[misc]
    """Touches the folder once everything is set up: a start that is refused leaves it as it was.

    It is the first callback, before those that write into the folder.
    """

    def __init__(self, start: Start, about: Mapping[str, Any]) -> None:
        self.start, self.about = start, about

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.start.clear()
        for name in ("log.jsonl", TRAINING, "README.md"):
            for path in leftovers(self.start.folder / name):
                path.unlink()
        record_training(self.start.folder, self.about)


def _advice(start: Start) -> str:
    """What to do about a full disk."""
    whole = last_checkpoint(start.folder)
    goes_on = f"goes on from {whole}, which is whole" if whole else "begins anew"
    return f"make room for {start.folder}, and {start.again} {goes_on}"


def _mend_log(folder: Path) -> None:
    """Cut off half a last line: a run killed after its last checkpoint was writing its summary."""
    path = folder / "log.jsonl"
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        write_atomic(path, path.read_bytes().rpartition(b"\n")[0] + b"\n")


def _end(
    trainer: Any, state: TrainerState, about: Mapping[str, Any], start: Start, repo: str | None
) -> int:
    folder = start.folder
    with room_to_write(lambda: _advice(start)):
        files = export(trainer, folder)
    if trainer.is_world_process_zero():
        record_training(folder, about, steps=state.global_step, seconds=round(runtime(state)))
        update_card(folder)
        if repo is not None:
            say(f"uploaded: {hub.push(folder, files, repo, trainer.args)}")
    say(f"trained model: {folder}, curves: {folder / 'log.jsonl'}")
    say(f"next: star-r1 evaluate --model {folder} --data DIR --out {folder / 'evaluation'}")
    return 0


def leave(code: int) -> NoReturn:
    """End a training command, all its processes together.

    Where there are several, Python's clean-up is left out: threads of gloo abort the process in
    it, now and then, and the launcher takes that for a failure (torch 2.13).
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def export(trainer: Any, folder: Path) -> list[str]:
    """Write model and processor into ``folder``, in the layout of the Hub; the names of the files.

    They are written beside it and moved. Without its config a folder is no model: an older one's
    goes first and the new one's comes last, so that a reader never meets files of both. Called
    again after a crash it starts anew.
    """
    draft = folder / "export.tmp"
    if trainer.is_world_process_zero():
        shutil.rmtree(draft, ignore_errors=True)
    PartialState().wait_for_everyone()
    try:
        trainer.save_model(str(draft))
    except Exception:  # the disk is full: half a model only takes room
        shutil.rmtree(draft, ignore_errors=True)
        raise
    if not trainer.is_world_process_zero():
        return []
    for name in (TRAINING_ARGS_NAME, "README.md"):  # a pickle of this machine's paths; PEFT's card
        (draft / name).unlink(missing_ok=True)
    for name in MODEL_CONFIGS:
        (folder / name).unlink(missing_ok=True)
    for pattern in ("model*.safetensors*", "adapter_model*.safetensors"):
        for path in folder.glob(pattern):
            path.unlink()
    names = sorted((path.name for path in draft.iterdir()), key=lambda name: name in MODEL_CONFIGS)
    for name in names:
        (draft / name).replace(folder / name)
    draft.rmdir()
    return names
