"""Load a model and its processor: a local folder, a Hub name, or ``mini``, the embedded one."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import is_offline_mode
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

from star_r1.errors import UserError
from star_r1.model.processor import load_processor as read_processor

MINI = "mini"

TRAINABLE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Model types that training knows."""


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
        if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise UserError(f"{path}: no config.json, so not a model folder")
        return name_or_path
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") != 1:
        raise UserError(
            f"model {name_or_path!r}: no such folder; give a model folder, a Hub name "
            "such as Qwen/Qwen2.5-VL-7B-Instruct, or 'mini'; evaluate also takes endpoint:NAME"
        )
    return name_or_path


def load_model(
    name_or_path: str,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str | None = None,
) -> Any:
    """The model, in evaluation mode on the CPU.

    Args:
        name_or_path: as ``resolve`` takes it.
        dtype: of the weights.
        attn_implementation: ``sdpa``, ``eager``, ``flash_attention_2``; the default is
            transformers' own choice.

    Raises:
        UserError: there is no such model here, its files are broken or lack weights, or the
            attention is not installed.
    """
    path = resolve(name_or_path)
    logging.disable_progress_bar()  # one bar, of the work itself
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            path, dtype=dtype, attn_implementation=attn_implementation, output_loading_info=True
        )
    except _FAULTS as error:
        raise UserError(f"model {name_or_path!r}: {_explain(path, error)}") from None
    # transformers fills these with random numbers and only logs it
    if absent := sorted(found["missing_keys"]):
        raise UserError(
            f"model {name_or_path!r}: its files lack {len(absent)} weights, the first "
            f"{absent[0]}; fetch or save it again"
        )
    return model.eval()


def load_processor(
    name_or_path: str, min_pixels: int | None = None, max_pixels: int | None = None
) -> Any:
    """The processor that belongs to the model; it pads on the left, as generation needs.

    Args:
        name_or_path: as ``resolve`` takes it.
        min_pixels: smaller pictures are enlarged to as many pixels; the default is the saved one.
        max_pixels: larger pictures are reduced to as many.

    Raises:
        UserError: there is no such processor here, it cannot read pictures, or the bounds are not
            ones.
    """
    path = resolve(name_or_path)
    if min_pixels is not None and min_pixels < 1:
        raise UserError(f"min_pixels {min_pixels}: give a number of 1 or more")
    if max_pixels is not None and max_pixels < max(1, min_pixels or 1):
        raise UserError(f"max_pixels {max_pixels}: give a number of min_pixels or more")
    try:
        processor = read_processor(path, min_pixels, max_pixels)
    except _FAULTS as error:
        raise UserError(f"processor of {name_or_path!r}: {_explain(path, error)}") from None
    if not hasattr(processor, "image_processor"):
        raise UserError(f"processor of {name_or_path!r}: it reads no pictures; give another model")
    return processor


def check_trainable(model: Any) -> None:
    """Training reaches into the model, so it knows its families; evaluation takes any.

    Raises:
        UserError: the model is of another family.
    """
    if model.config.model_type not in TRAINABLE:
        raise UserError(
            f"{type(model).__name__} cannot be trained here; give a Qwen2-VL, Qwen2.5-VL or "
            "(dense) Qwen3-VL"
        )


_FAULTS = (OSError, ValueError, ImportError, RuntimeError, SafetensorError)


def _explain(path: str, error: BaseException) -> str:
    """One line: why it does not load, and what to do."""
    if not Path(path).is_dir() and try_to_load_from_cache(path, "config.json") is None:
        why = "HF_HUB_OFFLINE forbids to fetch it" if is_offline_mode() else _first_line(error)
        return (
            f"not in the Hub's cache, and {why}; run 'hf download {path}' where there is a "
            "network, or give a model folder"
        )
    return f"does not load: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
