"""What accompanies a training run: interrupts, the log, the progress bar."""

import json
import math
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Final

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from star_r1.files import write_atomic
from star_r1.progress import Advance, progress
from star_r1.train.terminal import say

SHOWN: Final = ("reward", "answer/right", "kl", "loss")
"""Of all curves, the ones on the terminal."""


class Interrupt(TrainerCallback):  # type: ignore[misc]
    """Ends training after the running step on Ctrl-C or SIGTERM, with a checkpoint.

    The same signal again ends it at once. With several processes all of them stop at the same step.
    While a generation batch is used up, there are rollouts in memory that a checkpoint does not
    hold, so every save waits for its end.
    """

    def __init__(self, between_rollouts: Callable[[], bool] = lambda: True) -> None:
        """``between_rollouts``: whether there are none now."""
        self.between_rollouts = between_rollouts
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
        aligned = self.between_rollouts() or state.global_step >= state.max_steps
        control.should_save = self._save_due and aligned
        if control.should_save:
            self._save_due = False
            control.should_training_stop |= bool(stop)
            # What was measured since the last entry is in no checkpoint.
            control.should_log = True


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
