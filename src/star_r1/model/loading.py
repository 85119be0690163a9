"""Load a model and its processor: a local folder, a Hub name, or ``mini``, the embedded one."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

from star_r1.errors import UserError
from star_r1.model.processor import load_processor as _load_processor

MINI = "mini"


def resolve(name_or_path: str) -> str:
    """The folder or Hub name that ``name_or_path`` stands for.

    Raises:
        UserError: it looks like a folder and is none, or the embedded weights are absent.
    """
    if name_or_path == MINI:
        weights = Path(str(files("star_r1.model") / "weights"))
        if not (weights / "model.safetensors").is_file():
            raise UserError(
                "the embedded weights are missing from this installation; make them with "
                "'star-r1 pretrain', or reinstall star-r1"
            )
        return str(weights)
    path = Path(name_or_path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{path}: no config.json, so not a model folder")
        return name_or_path
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") != 1:
        raise UserError(
            f"model {name_or_path!r}: no such folder; give a model folder, a Hub name "
            "such as Qwen/Qwen2.5-VL-7B-Instruct, or 'mini'"
        )
    return name_or_path


def load_model(name_or_path: str, dtype: torch.dtype = torch.float32) -> Any:
    """The model, in evaluation mode on the CPU."""
    path = resolve(name_or_path)
    logging.disable_progress_bar()  # one bar, of the work itself
    try:
        return AutoModelForImageTextToText.from_pretrained(path, dtype=dtype).eval()
    except (OSError, ValueError) as error:
        raise UserError(f"model {name_or_path!r} does not load: {_first_line(error)}") from None


def load_processor(name_or_path: str, **kwargs: Any) -> Any:
    """The processor that belongs to the model; it pads on the left, as generation needs."""
    path = resolve(name_or_path)
    try:
        return _load_processor(path, **kwargs)
    except (OSError, ValueError) as error:
        raise UserError(f"processor of {name_or_path!r}: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
