"""Flags and recipes of the training commands: dataclasses, read by TRL's parser, errors in one line."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from trl import ModelConfig, TrlParser

from star_r1.errors import UserError
from star_r1.tvr.vocabulary import VIEWS


@dataclasses.dataclass
class StarArguments(ModelConfig):  # type: ignore[misc]
    """What is trained on what; the rest of the flags are those of TRL's config and ModelConfig."""

    model_name_or_path: str = dataclasses.field(
        default="mini",
        metadata={
            "aliases": ["--model"],
            "help": "Model folder, Hub name, or 'mini', the embedded model.",
        },
    )
    data: str = dataclasses.field(
        default="", metadata={"help": "Folder that 'star-r1 generate' wrote; required."}
    )
    views: list[str] = dataclasses.field(
        default_factory=lambda: ["center"],
        metadata={"help": "Views of the final picture to train on; the paper: center."},
    )
    eval_data: str | None = dataclasses.field(
        default=None, metadata={"help": "Folder to evaluate on while training (--eval_strategy)."}
    )
    freeze_vision: bool = dataclasses.field(
        default=True, metadata={"help": "Keep the vision tower and its merger as they are."}
    )
    lora_target_modules: list[str] | None = dataclasses.field(
        # all-linear would reach into the vision tower
        default_factory=lambda: [r".*language_model.*(q_proj|v_proj)$"],
        metadata={"help": "LoRA targets: module names, or one regular expression."},
    )
    threads: int | None = dataclasses.field(
        default=None, metadata={"help": "CPU threads of torch; the default is torch's own choice."}
    )

    def __post_init__(self) -> None:
        """Check what argparse cannot.

        Raises:
            UserError: no data, an unknown view.
        """
        super().__post_init__()
        if not self.data:
            raise UserError("no --data; give a folder that 'star-r1 generate' wrote")
        for view in self.views:
            if view not in VIEWS:
                raise UserError(f"--views {view}: choose from {', '.join(VIEWS)}")
        if len(self.lora_target_modules or ()) == 1:
            # PEFT reads a list as names and a string as a regular expression.
            (self.lora_target_modules,) = self.lora_target_modules  # type: ignore[misc,assignment]
        if self.threads is not None:
            torch.set_num_threads(self.threads)


def default(config: type, name: str, value: Any) -> Any:
    """The field ``name`` of the dataclass ``config`` with another default and the same help."""
    metadata = config.__dataclass_fields__[name].metadata  # type: ignore[attr-defined]
    if isinstance(value, list):
        return dataclasses.field(default_factory=lambda: list(value), metadata=metadata)
    return dataclasses.field(default=value, metadata=metadata)


def mixed_precision(bf16: bool | None) -> bool | None:
    """TRL turns bfloat16 on unless told otherwise; on a CPU that is only slow, so not there."""
    return False if bf16 is None and not torch.cuda.is_available() else bf16


class _Parser(TrlParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse(prog: str, argv: Sequence[str], *types: type) -> tuple[Any, ...]:
    """Read ``--config FILE`` and flags, which win over the file, into the dataclasses ``types``.

    Raises:
        UserError: an unknown flag or key, a value that does not fit, a file that is no YAML mapping.
    """
    parser = _Parser(types, prog=prog, allow_abbrev=False)
    arguments = []
    for argument in argv:  # TrlParser only knows the form with a space
        head, equals, tail = argument.partition("=")
        arguments += [head, tail] if head == "--config" and equals else [argument]
    if arguments and arguments[-1] == "--config":
        raise UserError("--config: give the path of a recipe (YAML)")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports each run otherwise
    try:
        parsed, unknown = _split_unknown(parser, arguments)
    except FileNotFoundError as error:
        raise UserError(f"--config {error.filename}: no such file") from None
    except yaml.YAMLError as error:
        raise UserError(f"--config: not valid YAML: {' '.join(str(error).split())}") from None
    except (ValueError, TypeError) as error:
        raise UserError(" ".join(str(error).split())) from None
    if unknown:
        raise UserError(f"unknown flag {unknown[0]}; '{prog} --help' lists them all")
    return parsed


def _split_unknown(parser: Any, arguments: list[str]) -> tuple[tuple[Any, ...], list[str]]:
    *parsed, from_file, from_flags = parser.parse_args_and_config(
        arguments, return_remaining_strings=True, separate_remaining_strings=True
    )
    return tuple(parsed), [*from_file, *from_flags]


def output_folder(output_dir: str | None) -> Path:
    """The run's folder, made if need be.

    Raises:
        UserError: none was named, or a file is in the way.
    """
    if not output_dir:
        raise UserError("no --output_dir; name the folder that takes checkpoints and the model")
    path = Path(output_dir)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--output_dir {path}: a file is in the way") from None
    return path
