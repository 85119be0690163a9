"""Numbers that no training can have, refused before TRL computes with them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

from star_r1.errors import UserError

_LEAST: Final[Mapping[str, float]] = {
    **dict.fromkeys(("learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm"), 0),
    **dict.fromkeys(("warmup_steps", "eval_delay", "dataloader_num_workers", "seed"), 0),
    **dict.fromkeys(("beta", "epsilon", "epsilon_high", "max_kl", "lora_dropout"), 0),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), 1),
    **dict.fromkeys(("gradient_accumulation_steps", "generation_batch_size"), 1),
    **dict.fromkeys(("num_iterations", "steps_per_generation"), 1),
    **dict.fromkeys(("max_completion_length", "max_length"), 1),
    **dict.fromkeys(("lora_r", "lora_alpha", "threads", "min_pixels", "max_pixels"), 1),
    **dict.fromkeys(("num_generations", "num_generations_eval"), 2),
}
"""Setting -> the least that it can be."""
_ABOVE_0: Final = ("num_train_epochs", "logging_steps", "save_steps", "eval_steps")
_NUMBERS: Final = (*_LEAST, *_ABOVE_0, "max_steps", "temperature", "top_p", "top_k")


def check_numbers(settings: Any) -> None:
    """See that each number of a dataclass is finite, and one that its setting can have.

    Raises:
        UserError: one is not.

    >>> @dataclasses.dataclass
    ... class Settings:
    ...     beta: float = 0.04
    >>> check_numbers(Settings(float("nan")))
    Traceback (most recent call last):
        ...
    star_r1.errors.UserError: --beta nan: give a finite number
    """
    for field in dataclasses.fields(settings):
        name, value = field.name, getattr(settings, field.name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and not math.isfinite(value):
            raise UserError(f"--{name} {value}: give a finite number")
        if name not in _NUMBERS or (value is None and field.default is None):
            continue
        if not number:
            raise UserError(f"--{name} {value}: give a number")
        if value < _LEAST.get(name, -math.inf):
            raise UserError(f"--{name} {value}: give a number of {_LEAST[name]} or more")
        if name in _ABOVE_0 and value <= 0:
            raise UserError(f"--{name} {value}: give a number above 0")
        if name == "lora_dropout" and value >= 1:
            raise UserError(f"--{name} {value}: give a share below 1")
        if name == "max_steps" and value < 1 and value != -1:
            raise UserError(f"--{name} {value}: give 1 or more, or -1 to let the epochs decide")
