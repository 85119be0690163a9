"""What stops a training run with one line: broken numbers, a diverging KL, a full disk, a reward
that raises."""

import errno
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from transformers import TrainerCallback

from star_r1.errors import UserError

PATIENCE: Final = 3
"""So many logged steps in a row with a KL above the bound end a run: single ones recover."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS: Final = (
    *("No space left", "Disk quota exceeded"),
    *("PytorchStreamWriter", "unexpected pos", "iostream error"),
)
"""Of safetensors, and of torch.save (2.13), which does not say why a write failed."""
_TRY: Final = (
    "Run it again in another --output_dir, with a lower --learning_rate or --max_grad_norm, a "
    "higher --beta (GRPO) or --dtype float32; the last checkpoint, if there is one, can be the "
    "--model to start from"
)


class FiniteUpdates:
    """Mixin for a Trainer: a gradient that is no number ends the run before a checkpoint has it.

    Trainer goes on with such gradients and saves what comes of them (transformers 5.23 only hides
    the loss from the log). The norm is that of the gradients summed over all processes, so that all
    of them stop at the same step. DeepSpeed takes its step within the backward pass, before anybody
    can look; it leaves out one with such a gradient and says that its norm is infinite (0.19.8; as
    tests/invariants/test_sharded.py shows).
    """

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Called by Trainer after the backward pass, and before anything is saved.

        Raises:
            UserError: the norm is not finite. (In float16 with a loss scale it often is not; the
                scaler leaves such a step out by itself.)
        """
        trainer: Any = self
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        if norm is not None and not trainer.args.fp16 and not math.isfinite(norm):
            raise UserError(
                f"step {trainer.state.global_step + 1}: the norm of the gradient is {float(norm)}; "
                f"stopped, so that no checkpoint is spoilt. {_TRY}"
            )
        return norm


class Divergence(TrainerCallback):  # type: ignore[misc]
    """Ends training on a loss that is no number or a KL that stays above a bound.

    No checkpoint is written at a step whose logged KL is above the bound. The numbers are means
    over all processes, so that all of them stop at the same step.
    """

    def __init__(self, max_kl: float = 0.0) -> None:
        """``max_kl``: mean KL to the base model a token, in nats; 0 for no bound."""
        self.max_kl = max_kl

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the newest entry.

        Raises:
            UserError: it shows that the run is lost.
        """
        loss = state.log_history[-1].get("loss")
        if loss is not None and not math.isfinite(loss):
            raise UserError(f"step {state.global_step}: the loss is {loss}. {_TRY}")
        if not self.max_kl or not self._above(state.log_history[-1]):
            return
        control.should_save = False
        recent = [entry for entry in state.log_history if "kl" in entry][-PATIENCE:]
        if len(recent) == PATIENCE and all(map(self._above, recent)):
            numbers = ", ".join(f"{entry['kl']:.3g}" for entry in recent)
            raise UserError(
                f"step {state.global_step}: the KL to the base model stays above --max_kl "
                f"{self.max_kl:g} ({numbers}). {_TRY}; --max_kl 0 lets it go on"
            )

    def _above(self, entry: Mapping[str, Any]) -> bool:
        kl = entry.get("kl")
        return kl is not None and kl > self.max_kl


@contextmanager
def room_to_write(explain: Callable[[], str]) -> Iterator[None]:
    """Turn the errors of a full disk, which each writer words in its own way, into one line.

    Args:
        explain: what is whole and what to do, asked for when it happens.

    Raises:
        UserError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        raise UserError(f"the disk is full; {explain()}") from error


def _is_full(error: BaseException) -> bool:
    return (isinstance(error, OSError) and error.errno in _FULL) or (
        not isinstance(error, UserError) and any(text in str(error) for text in _FULL_TEXTS)
    )


def reward_failed(
    names: Sequence[str],
    functions: Sequence[Any],
    columns: Mapping[str, Sequence[Any]],
    state: Any,
    error: Exception,
) -> UserError:
    """The error of a reward on a batch, in one line that names reward and sample.

    Plain functions are called again, on one completion at a time: the first that raises is named.

    Args:
        names: of the reward functions.
        functions: as GRPOTrainer has them.
        columns: their arguments that are lists with an entry a completion; ``id`` names samples.
        state: of the trainer, their other argument.
        error: what came of the batch.
    """
    for name, function in zip(names, functions, strict=True):
        if isinstance(function, torch.nn.Module) or inspect.iscoroutinefunction(function):
            continue
        for row in range(len(columns["completions"])):
            try:
                one = {key: [values[row]] for key, values in columns.items() if key != "prompt"}
                function(**one, trainer_state=state)
            except Exception as found:
                return UserError(
                    f"reward {name} fails on {_sample(columns, row)}: {_said(found)}; mend the "
                    "reward or the sample, and the same command goes on from the last checkpoint"
                )
    return UserError(
        f"reward {' or '.join(names)} fails on the batch that begins with {_sample(columns, 0)}, "
        f"though on none of its completions alone: {_said(error)}"
    )


def _sample(columns: Mapping[str, Sequence[Any]], row: int) -> str:
    return f"sample {columns['id'][row]}" if "id" in columns else f"completion {row} of the batch"


def _said(error: BaseException) -> str:
    """Type and text in one line.

    >>> _said(KeyError("answer"))
    "KeyError: 'answer'"
    """
    return " ".join(f"{type(error).__name__}: {error}".split())
