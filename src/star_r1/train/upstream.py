"""What TRL and the libraries below it refuse of a user's settings: one line, and no bug.

Such an error comes before the end of the first step, out of their code. One out of ours is a bug,
and so is one of a type that no library raises on purpose.
"""

import dataclasses
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from transformers import TrainerCallback, TrainingArguments

import star_r1
from star_r1.errors import UserError

_BUGS: Final = (AttributeError, LookupError, NameError, AssertionError)
_OURS: Final = Path(star_r1.__file__).parent


@contextmanager
def plainly(args: Any = None, holds: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turn an error out of a library into one line.

    Args:
        args: the settings, if they are there already; those that the error speaks of without
            naming them are named.
        holds: whether an error may still be about settings, asked for when it happens.

    Raises:
        UserError: a library refuses something.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (UserError, *_BUGS)) or not holds() or not _upstream(error):
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, torch.OutOfMemoryError):
            said = f"the model does not fit the card, whose memory --dry-run estimates: {said}"
        raise UserError(said + _flags(args, said)) from error


def _upstream(error: BaseException) -> bool:
    """Whether an error was raised outside of this project; what the system says has a file."""
    if isinstance(error, OSError) and error.errno is not None:
        return False
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if _OURS in path.parents:
            return False
        if "site-packages" in path.parts or "dist-packages" in path.parts:
            return True
    return False  # the standard library, called by ours


def _flags(args: Any, said: str) -> str:
    """The flags whose values, but not whose names, an error speaks of."""
    found = []
    for field in dataclasses.fields(args) if args is not None else ():
        given = getattr(args, field.name, None)
        for value in given if isinstance(given, list) else [given]:
            text = getattr(value, "value", value)
            named = isinstance(text, str) and len(text) > 2 and text.lower() in said.lower()
            if named and text != field.default and field.name not in said:
                found.append(f"--{field.name} {text}")
    return f" ({', '.join(found)})" if found else ""


class Plainly:
    """Mixin for a Trainer, the first of its bases: it says plainly what it refuses."""

    _begun = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As the trainer.

        Raises:
            UserError: upstream refuses something.
        """
        given = (value for value in (*args, *kwargs.values()))
        settings = next((value for value in given if isinstance(value, TrainingArguments)), None)
        with plainly(settings):
            super().__init__(*args, **kwargs)
            trainer: Any = self
            trainer.add_callback(_Begun(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the trainer; after the first step, errors are no longer about settings.

        Raises:
            UserError: upstream refuses something.
        """
        trainer: Any = self
        self._begun = False
        with plainly(trainer.args, lambda: not self._begun):
            return super().train(*args, **kwargs)  # type: ignore[misc]


class _Begun(TrainerCallback):  # type: ignore[misc]
    """Notes that the settings have been through a step."""

    def __init__(self, trainer: Plainly) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer._begun = True
