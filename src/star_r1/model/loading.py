"""Load a model and its processor: full weights, or a LoRA adapter on those of its base."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import is_offline_mode
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    load_peft_weights,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, PreTrainedConfig
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import logging

from star_r1.errors import UserError
from star_r1.model.processor import load_processor as read_processor
from star_r1.model.source import Source, find_model

TRAINABLE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Model types that training knows."""


def load_model(
    name_or_path: str,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str | None = None,
) -> Any:
    """The model, in evaluation mode on the CPU.

    Args:
        name_or_path: as ``find_model`` takes it.
        dtype: of the weights.
        attn_implementation: ``sdpa``, ``eager``, ``flash_attention_2``; the default is
            transformers' own choice.

    Raises:
        UserError: there is no such model here, its files are broken or lack weights, or the
            attention is not installed.
    """
    source = find_model(name_or_path)
    model = load_weights(source, dtype, attn_implementation)
    if source.adapter is not None:
        model = load_adapter(model, source, source.lora(), trained=False).get_base_model()
    return model.eval()


def load_weights(
    source: Source, dtype: torch.dtype = torch.float32, attn_implementation: str | None = None
) -> Any:
    """The full weights alone, without the adapter; otherwise as ``load_model``.

    Raises:
        UserError: as ``load_model``.
    """
    logging.disable_progress_bar()  # one bar, of the work itself
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            source.weights,
            dtype=dtype,
            attn_implementation=attn_implementation,
            output_loading_info=True,
        )
    except _FAULTS as error:
        raise UserError(f"model {source.base!r}: {_explain(source.weights, error)}") from None
    # transformers fills these with random numbers and only logs it
    if absent := sorted(found["missing_keys"]):
        raise UserError(
            f"model {source.base!r}: its files lack {len(absent)} weights, the first "
            f"{absent[0]}; fetch or save it again"
        )
    return model.eval()


def load_adapter(model: Any, source: Source, config: LoraConfig, trained: bool) -> PeftModel:
    """The adapter of ``source`` on its full weights.

    Args:
        model: the full weights, in which PEFT replaces the layers that the adapter is of; without
            storage (on ``meta``) it is seen whether the adapter fits, and nothing is kept.
        source: where the adapter is.
        config: of the adapter, from ``source.lora()``.
        trained: whether it is to be trained on, else it is frozen.

    Raises:
        UserError: its files are broken, or it is of another architecture than the full weights.
    """
    adapter, device = str(source.adapter), next(model.parameters()).device
    config.inference_mode = not trained
    # where it is found now, which need not be where it was when the adapter was trained
    config.base_model_name_or_path = model.name_or_path
    try:
        wrapped = get_peft_model(
            model,
            config,
            # as TRL does it: ZeRO-3 gathers weights of one type only (huggingface/trl#6089)
            autocast_adapter_dtype=not is_deepspeed_zero3_enabled(),
            low_cpu_mem_usage=device.type == "meta",
        )
        tensors = load_peft_weights(adapter, device="cpu")
        found = set_peft_model_state_dict(
            wrapped, {name: tensor.to(device) for name, tensor in tensors.items()}
        )
    except (*_FAULTS, TypeError, KeyError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        sizes = [line for line in lines if line.startswith("size mismatch")]
        if sizes or "not found in the base model" in lines[0]:
            raise UserError(_misfit(source, (sizes or lines)[0].rstrip("."))) from None
        raise UserError(f"adapter {source.name}: {_explain(adapter, error)}") from None
    # PEFT leaves these at random numbers, or out
    missing = [name for name in found.missing_keys if "lora_" in name]
    if wrong := [*missing, *found.unexpected_keys]:
        raise UserError(
            _misfit(source, f"{len(wrong)} weights of one are not in the other, first {wrong[0]}")
        )
    return wrapped


def _misfit(source: Source, how: str) -> str:
    return (
        f"adapter {source.name} does not fit {source.base}: {how}; it was trained on another "
        "model, or its files are incomplete"
    )


def load_processor(
    name_or_path: str, min_pixels: int | None = None, max_pixels: int | None = None
) -> Any:
    """The processor that belongs to the model; it pads on the left, as generation needs.

    Args:
        name_or_path: as ``find_model`` takes it.
        min_pixels: smaller pictures are enlarged to as many pixels; the default is the saved one.
        max_pixels: larger pictures are reduced to as many.

    Raises:
        UserError: there is no such processor here, it cannot read pictures, or the bounds are not
            ones.
    """
    path = find_model(name_or_path).processor
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


def check_trainable(config: PreTrainedConfig) -> None:
    """Training reaches into the model, so it knows its families; evaluation takes any.

    Raises:
        UserError: the configuration is of another family.
    """
    if config.model_type not in TRAINABLE:
        raise UserError(
            f"a model of type {config.model_type} cannot be trained here; give a Qwen2-VL, "
            "Qwen2.5-VL or (dense) Qwen3-VL"
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
