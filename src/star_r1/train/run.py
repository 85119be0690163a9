"""What every training run shares: exact resume, interrupts, the log, the progress bar, the export.

A run lives in one folder:

- ``checkpoint-N/``: all that a resume needs; it counts once its ``complete`` file is there.
- ``log.jsonl``: one JSON line a logging step, with every curve; ``runs/``: the same for
  tensorboard.
- ``completions/`` (GRPO): one parquet a logging step, one row a completion.
- ``model.safetensors``, ``config.json``, ...: the trained model, when the run has ended.
"""

import json
import math
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Sequence
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
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from star_r1.errors import UserError
from star_r1.files import write_atomic
from star_r1.progress import Advance, progress

SHOWN: Final = ("reward", "answer/right", "kl", "loss")
"""Of all curves, the ones on the terminal."""
COMPLETE: Final = "complete"
"""Written last into a checkpoint; without it the checkpoint is half-written."""


class ExactResume:
    """Mixin for a TRL trainer: a resumed run equals the uninterrupted one bit for bit."""

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

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL's card describes a text model; ``export`` writes one that is true."""


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

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint as complete, once every process has written its part."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


class Log(TrainerCallback):  # type: ignore[misc]
    """Appends each logging step to ``log.jsonl``; on resume cuts it back to the checkpoint."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start from what the checkpoint remembers (nothing, in a new run)."""
        if state.is_world_process_zero:
            write_atomic(
                Path(args.output_dir) / "log.jsonl", "".join(map(_json_line, state.log_history))
            )

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the newest entry."""
        if state.is_world_process_zero:
            with (Path(args.output_dir) / "log.jsonl").open("a") as file:
                file.write(_json_line(state.log_history[-1]))


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
    numbered = {
        int(path.name.removeprefix("checkpoint-")): path
        for path in folder.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdigit()
    }
    for _, path in sorted(numbered.items(), reverse=True):
        if (path / COMPLETE).is_file():
            return path
        say(f"ignoring {path}, which is half-written")
    return None


def run(trainer: Any, card: str, period: int = 1) -> int:
    """Train to the end, from the last checkpoint if there is one, and export the model.

    Args:
        trainer: a TRL trainer with ``ExactResume``.
        card: the model card, markdown.
        period: as in ``Interrupt``.

    Returns:
        The exit code: 0, or 128 + the signal that ended the run early.

    Raises:
        UserError: the checkpoint does not fit the model.
    """
    folder = Path(trainer.args.output_dir)
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None:
        say(f"resuming from {checkpoint}")
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if 0 < trainer.args.max_steps <= state.global_step:
            say(f"all {trainer.args.max_steps} steps are done")
            trainer._load_from_checkpoint(str(checkpoint))  # train() would do one step more
            return _end(trainer, folder, card)
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt(period))
        for callback in (interrupt, Log(), stack.enter_context(Bar())):
            trainer.add_callback(callback)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except KeyboardInterrupt:
            say(f"stopped at once; the same command goes on from {last_checkpoint(folder)}")
            return 128 + (interrupt.signal or signal.SIGINT)
    if interrupt.signal is not None:
        say(f"stopped with {last_checkpoint(folder)}; the same command goes on from there")
        return 128 + interrupt.signal
    return _end(trainer, folder, card)


def _end(trainer: Any, folder: Path, card: str) -> int:
    export(trainer, folder, card)
    say(f"trained model: {folder}, curves: {folder / 'log.jsonl'}")
    say(f"next: star-r1 evaluate --model {folder} --data DIR --out {folder / 'evaluation'}")
    return 0


def export(trainer: Any, folder: Path, card: str) -> None:
    """Write model, processor and card into ``folder``, in the layout of the Hub."""
    draft = folder / "export.tmp"
    trainer.save_model(str(draft))
    if not trainer.is_world_process_zero():
        return
    (draft / "training_args.bin").unlink()  # a pickle of this machine's paths
    (draft / "README.md").write_text(card)
    for path in sorted(draft.iterdir()):
        path.replace(folder / path.name)
    shutil.rmtree(draft)


def model_card(title: str, base_model: str, tags: Sequence[str], text: str) -> str:
    """A model card: the Hub's metadata, then what was done."""
    is_hub_name = base_model.count("/") == 1 and not Path(base_model).exists()
    header = [
        "---",
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        # only a name on the Hub may stand here
        *([f"base_model: {base_model}"] if is_hub_name else []),
        "tags:",
        *(f"- {tag}" for tag in ("star-r1", *tags)),
        "---",
    ]
    return "\n".join([*header, "", f"# {title}", "", text, ""])


def say(message: str) -> None:
    """One line on stderr, from the first process only."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(message, file=sys.stderr, flush=True)
