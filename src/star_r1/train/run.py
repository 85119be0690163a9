"""What every training run shares: exact resume, interrupts, the log, the progress bar, the export.

A run lives in one folder:

- ``checkpoint-N/``: all that a resume needs; it counts once its ``complete`` file is there.
- ``log.jsonl``: one JSON line a logging step, with every curve; ``runs/``: the same for
  tensorboard.
- ``completions/`` (GRPO): one parquet a logging step, one row a completion.
- ``training.json``: what is trained on what, by which command, commit and machine.
- ``model.safetensors``, ``config.json``, ...: the trained model, when the run has ended; with
  LoRA ``adapter_model.safetensors`` and ``adapter_config.json``. The config appears last.
"""

import json
import math
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Final

import datasets
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import is_peft_model
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from star_r1.errors import UserError
from star_r1.files import leftovers, write_atomic
from star_r1.progress import Advance, progress
from star_r1.train import hub
from star_r1.train.card import on_hub, update_card
from star_r1.train.guards import Divergence, room_to_write
from star_r1.train.record import TRAINING, read_record, record_training

SHOWN: Final = ("reward", "answer/right", "kl", "loss")
"""Of all curves, the ones on the terminal."""
COMPLETE: Final = "complete"
"""Written last into a checkpoint; without it the checkpoint is half-written."""
MODEL_CONFIGS: Final = ("config.json", "adapter_config.json")
"""One of them makes a folder a model, or a LoRA adapter."""


class ExactResume:
    """Mixin for a TRL trainer: a resumed run equals the uninterrupted one bit for bit."""

    _saved_step = -1

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
            _rotate(folder, limit, trainer.state.best_model_checkpoint)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """See that ``--push_to_hub`` can work, before the work; ``run`` uploads at the end."""
        trainer: Any = self
        if trainer.is_world_process_zero():
            trainer.hub_model_id = hub.create(trainer.args)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL's card describes a text model; ``card.write_card`` is true."""


class Interrupt(TrainerCallback):  # type: ignore[misc]
    """Ends training after the running step on Ctrl-C or SIGTERM, with a checkpoint.

    The same signal again ends it at once. With several processes all of them stop at the same step.
    ``period`` is how many optimizer steps one generation batch feeds: between two of its
    multiples there are rollouts in memory that a checkpoint does not hold, so every save waits
    for the next multiple.
    """

    def __init__(self, period: int = 1) -> None:
        """``period``: see above."""
        self.period = period
        self.signal: int | None = None
        self._save_due = False

    def __enter__(self) -> "Interrupt":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal == number:
            raise KeyboardInterrupt
        if self.signal is not None:
            return  # torchrun answers Ctrl-C with a SIGTERM to those that got the Ctrl-C already
        self.signal = number
        say("stopping after this step, with a checkpoint (once more: stop at once)")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Turn the signal into a save and a stop; move saves to where they are exact."""
        stop = torch.tensor(self.signal is not None, dtype=torch.int, device=args.device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(stop)
        self._save_due |= control.should_save or bool(stop)
        aligned = state.global_step % self.period == 0 or state.global_step >= state.max_steps
        control.should_save = self._save_due and aligned
        if control.should_save:
            self._save_due = False
            control.should_training_stop |= bool(stop)
            # What was measured since the last entry is in no checkpoint.
            control.should_log = True


def _to_disk(checkpoint: Path) -> None:
    """Wait until the files are on the disk: some file systems only then say that it is full."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _rotate(folder: Path, limit: int | None, best: str | None) -> None:
    """Delete half-written checkpoints, and whole ones but for the newest ``limit`` and the best."""
    found = checkpoints(folder)
    whole = [path for path in found if (path / COMPLETE).is_file()]
    kept = whole[-limit:] if limit and limit > 0 else whole
    for path in found:
        if path not in kept and (best is None or path.name != Path(best).name):
            _delete(path)


def _delete(checkpoint: Path) -> None:
    (checkpoint / COMPLETE).unlink(missing_ok=True)  # first: half of it must not look whole
    shutil.rmtree(checkpoint, ignore_errors=True)


class Log(TrainerCallback):  # type: ignore[misc]
    """Appends each logging step to ``log.jsonl``; on resume cuts it back to the checkpoint.

    ``runtime`` in an entry: seconds of training up to it, those before a resume included.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start from what the checkpoint remembers (nothing, in a new run)."""
        self._began = time.monotonic() - runtime(state)
        if state.is_world_process_zero:
            write_atomic(
                Path(args.output_dir) / "log.jsonl", "".join(map(_json_line, state.log_history))
            )

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the newest entry."""
        state.log_history[-1]["runtime"] = round(time.monotonic() - self._began, 3)
        if state.is_world_process_zero:
            with (Path(args.output_dir) / "log.jsonl").open("a") as file:
                file.write(_json_line(state.log_history[-1]))


def runtime(state: TrainerState) -> float:
    """Seconds of training up to the last logged step, over all processes that resumed it."""
    return max((entry.get("runtime", 0.0) for entry in state.log_history), default=0.0)


def _json_line(entry: dict[str, Any]) -> str:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in entry.items()
    }
    return json.dumps(finite) + "\n"


class Bar(TrainerCallback):  # type: ignore[misc]
    """A progress bar on stderr, and ten times a run a line with the newest numbers."""

    def __init__(self) -> None:
        """It appears when training begins."""
        self._stack = ExitStack()
        self._advance: Advance | None = None

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show it, from the step that the run resumes at."""
        if state.is_world_process_zero:
            self._advance = self._stack.enter_context(
                progress("Training", state.max_steps, unit="steps", done=state.global_step)
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move on by one step."""
        if self._advance is not None:
            self._advance()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how training goes: reward and share of right answers (GRPO), or the loss."""
        shown = {k: v for k in SHOWN if isinstance(v := state.log_history[-1].get(k), float)}
        if shown and state.global_step % max(1, state.max_steps // 10) == 0:
            numbers = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
            say(f"step {state.global_step}: {numbers}")


def quiet() -> None:
    """Leave the terminal to the run: no bars, notes or telemetry of the libraries."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports each run otherwise
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    # transformers and TRL still read names that transformers itself has renamed
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl")


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


def run(trainer: Any, about: Mapping[str, Any], period: int = 1, max_kl: float = 0.0) -> int:
    """Train to the end, from the last checkpoint if there is one, and export the model.

    Args:
        trainer: a TRL trainer with ``ExactResume``.
        about: what is trained on what, from ``record.describe_training``.
        period: as in ``Interrupt``.
        max_kl: as in ``Divergence``.

    Returns:
        The exit code: 0, or 128 + the signal that ended the run early.

    Raises:
        UserError: the checkpoint does not fit the model; the numbers of the training broke, or the
            disk is full, which leaves the last checkpoint as it was; the upload failed.
    """
    folder = Path(trainer.args.output_dir)
    checkpoint = last_checkpoint(folder)
    if trainer.is_world_process_zero():
        for name in ("log.jsonl", TRAINING, "README.md"):
            for path in leftovers(folder / name):
                path.unlink()
    repo = trainer.hub_model_id if trainer.args.push_to_hub else None
    if repo and about["adapter"] and not on_hub(about["base_model"]):
        raise UserError(
            f"--push_to_hub: a LoRA adapter names its base, and {about['base_model']} is not on "
            "the Hub; leave --push_to_hub or --use_peft off"
        )
    trainer.args.push_to_hub = False  # Trainer would upload at each save, with its own card
    trainer.args.logging_nan_inf_filter = False  # Divergence must see it
    if checkpoint is not None:
        say(f"resuming from {checkpoint}")
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if 0 < trainer.args.max_steps <= state.global_step:
            say(f"all {trainer.args.max_steps} steps are done")
            trainer._load_from_checkpoint(str(checkpoint))  # train() would do one step more
            _mend_log(folder)
            return _end(trainer, state, read_record(folder) or about, repo)
    if trainer.is_world_process_zero():
        record_training(folder, about)
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    with ExitStack() as stack:
        stack.enter_context(room_to_write(lambda: _advice(folder)))
        interrupt = stack.enter_context(Interrupt(period))
        for callback in (interrupt, Log(), stack.enter_context(Bar()), Divergence(max_kl)):
            trainer.add_callback(callback)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except KeyboardInterrupt:
            say(f"stopped at once; the same command goes on from {last_checkpoint(folder)}")
            return 128 + (interrupt.signal or signal.SIGINT)
    if interrupt.signal is not None:
        say(f"stopped with {last_checkpoint(folder)}; the same command goes on from there")
        return 128 + interrupt.signal
    return _end(trainer, trainer.state, about, repo)


def _advice(folder: Path) -> str:
    """What to do about a full disk."""
    whole = last_checkpoint(folder)
    goes_on = f"goes on from {whole}, which is whole" if whole else "begins anew"
    return f"make room for {folder}, and the same command {goes_on}"


def _mend_log(folder: Path) -> None:
    """Cut off half a last line: a run killed after its last checkpoint was writing its summary."""
    path = folder / "log.jsonl"
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        write_atomic(path, path.read_bytes().rpartition(b"\n")[0] + b"\n")


def _end(trainer: Any, state: TrainerState, about: Mapping[str, Any], repo: str | None) -> int:
    folder = Path(trainer.args.output_dir)
    with room_to_write(lambda: _advice(folder)):
        files = export(trainer, folder)
    if trainer.is_world_process_zero():
        record_training(folder, about, steps=state.global_step, seconds=round(runtime(state)))
        update_card(folder)
        if repo is not None:
            say(f"uploaded: {hub.push(folder, files, repo, trainer.args)}")
    say(f"trained model: {folder}, curves: {folder / 'log.jsonl'}")
    say(f"next: star-r1 evaluate --model {folder} --data DIR --out {folder / 'evaluation'}")
    return 0


def leave() -> None:
    """End the process group, where there is one; what every process of a command does last.

    Without it gloo aborts now and then in a process that ends (torch 2.13).
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


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


def say(message: str) -> None:
    """One line on stderr, from the first process only."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(message, file=sys.stderr, flush=True)
