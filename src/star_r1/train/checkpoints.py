"""Checkpoints that are whole or do not count, and from which a run goes on exactly.

A ``checkpoint-N/`` counts once its ``complete`` file is there, which is written last.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import PartialState
from accelerate.utils import is_peft_model
from transformers.trainer_callback import TrainerState

from star_r1.errors import UserError
from star_r1.train import hub
from star_r1.train.record import TRAINING
from star_r1.train.terminal import say

COMPLETE: Final = "complete"
"""Written last into a checkpoint; without it the checkpoint is half-written."""


class ExactResume:
    """Mixin for a TRL trainer: a resumed run equals the uninterrupted one bit for bit."""

    _saved_step = -1

    @property
    def between_rollouts(self) -> bool:
        """Whether there is nothing in memory that a checkpoint does not hold."""
        return True

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load full-parameter weights strictly.

        ``save_pretrained`` writes Qwen2.5-VL under its published names, which are not those of
        its modules, and Trainer loads non-strictly, so that it silently keeps the initial weights
        (huggingface/transformers#43701, seen in 5.23). ``from_pretrained`` knows both names.
        LoRA, FSDP and DeepSpeed load by other paths, which are right.

        Raises:
            UserError: the checkpoint does not fit the model.
        """
        trainer: Any = self
        target = trainer.accelerator.unwrap_model(model or trainer.model)
        if is_peft_model(target) or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype)
        try:
            target.load_state_dict(saved.state_dict(), strict=True)
        except RuntimeError:
            raise UserError(
                f"{resume_from_checkpoint} was written by another model; give another --output_dir"
            ) from None

    def _load_best_model(self) -> None:
        """Load the best checkpoint as a resume would, for the same reason."""
        trainer: Any = self
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            super()._load_best_model()  # type: ignore[misc]
        else:
            self._load_from_checkpoint(trainer.state.best_model_checkpoint)

    def _finalize_training(self, *args: Any) -> Any:
        """Find the best checkpoint also where the folder was moved since; keep the last one too.

        Trainer takes none that is not at its old place, and then says nothing (5.23).

        Raises:
            UserError: ``--load_best_model_at_end``, and the best is gone.
        """
        trainer: Any = self
        folder, state = Path(trainer.args.output_dir), trainer.state
        if state.global_step >= state.max_steps:
            best = best_to_export(folder, state, trainer.args)
        else:
            best = best_checkpoint(folder, state)
        state.best_model_checkpoint = None if best is None else str(best)
        limit, trainer.args.save_total_limit = trainer.args.save_total_limit, None
        try:
            return super()._finalize_training(*args)  # type: ignore[misc]
        finally:
            trainer.args.save_total_limit = limit

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As Trainer, and leave torch's random streams as they were.

        An evaluation draws from them (its loader, TRL's sampling), and what comes after it, a mask
        of dropout for one, would depend on whether and how often one evaluates.
        """
        cards = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=cards):
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint, then its mark, and only then delete older ones.

        Trainer deletes first, and a folder's files in any order (5.23): with a limit of one, or
        killed at the wrong moment, there would be no whole checkpoint, or half of one that looks
        whole. There must be room for one more than ``--save_total_limit``. Trainer also asks twice
        at the end of an epoch that is interrupted there: a whole checkpoint is not written over.
        """
        trainer: Any = self
        if self._saved_step == trainer.state.global_step:
            return
        folder = Path(trainer.args.output_dir)
        checkpoint = folder / f"checkpoint-{trainer.state.global_step}"
        limit, trainer.args.save_total_limit = trainer.args.save_total_limit, None
        try:
            if trainer.is_world_process_zero():
                (checkpoint / COMPLETE).unlink(missing_ok=True)
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            PartialState().wait_for_everyone()
            if trainer.is_world_process_zero():
                if (folder / TRAINING).is_file():  # what it belongs to, wherever it is copied
                    shutil.copyfile(folder / TRAINING, checkpoint / TRAINING)
                _to_disk(checkpoint)
                (checkpoint / COMPLETE).touch()
        except Exception:
            if trainer.is_world_process_zero():  # half a checkpoint only takes room
                _delete(checkpoint)
            raise
        finally:
            trainer.args.save_total_limit = limit
        self._saved_step = trainer.state.global_step
        if trainer.is_world_process_zero():
            _rotate(folder, limit, best_checkpoint(folder, trainer.state))

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """See that ``--push_to_hub`` can work, before the work; ``run`` uploads at the end."""
        trainer: Any = self
        if trainer.is_world_process_zero():
            trainer.hub_model_id = hub.create(trainer.args)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL's card describes a text model; ``card.write_card`` is true."""


def _to_disk(checkpoint: Path) -> None:
    """Wait until the files are on the disk: some file systems only then say that it is full."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def best_checkpoint(folder: Path, state: TrainerState) -> Path | None:
    """The checkpoint of the best evaluation so far, or None where none was saved.

    It is in the run's folder, or in the one that the run came from.
    """
    here = folder / f"checkpoint-{state.best_global_step}"
    before = Path(state.best_model_checkpoint or here)
    found = (path for path in (here, before) if (path / COMPLETE).is_file())
    return next((path for path in found if path.name == here.name), None)


def best_to_export(folder: Path, state: TrainerState, args: Any) -> Path | None:
    """The checkpoint that ``--load_best_model_at_end`` asks for; None for the last weights.

    Raises:
        UserError: it asks for one that is gone.
    """
    if not args.load_best_model_at_end:
        return None
    best = best_checkpoint(folder, state)
    if best is None and state.best_global_step:
        raise UserError(
            f"--load_best_model_at_end: step {state.best_global_step} was the best, and {folder} "
            "holds no checkpoint of it; put it there again, or start anew (--restart)"
        )
    said = f"that of {best}, the best" if best else "the last one, since nothing was evaluated"
    say(f"the model is {said}")
    return best


def _rotate(folder: Path, limit: int | None, best: Path | None) -> None:
    """Delete half-written checkpoints, and whole ones but for the newest ``limit`` and the best."""
    found = checkpoints(folder)
    whole = [path for path in found if (path / COMPLETE).is_file()]
    kept = whole[-limit:] if limit and limit > 0 else whole
    for path in found:
        if path not in kept and path != best:
            _delete(path)


def _delete(checkpoint: Path) -> None:
    (checkpoint / COMPLETE).unlink(missing_ok=True)  # first: half of it must not look whole
    shutil.rmtree(checkpoint, ignore_errors=True)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None. A half-written one is passed over, aloud.

    >>> last_checkpoint(Path("no-such-run")) is None
    True
    """
    for path in reversed(checkpoints(folder)):
        if (path / COMPLETE).is_file():
            return path
        say(f"ignoring {path}, which is half-written")
    return None


def checkpoints(folder: Path) -> list[Path]:
    """Half-written ones too; the oldest first."""
    found = [
        path
        for path in folder.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdigit()
    ]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))
