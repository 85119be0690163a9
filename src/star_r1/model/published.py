"""The architectures of the published Qwen-VL models, known without a download, and tiny ones.

A dry run, a benchmark or a test builds on them. The numbers are those of ``config.json`` of each
model on the Hugging Face Hub; what is not named is the default of transformers' config class.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig

from star_r1.errors import UserError
from star_r1.model.source import Source, find_model

_LANGUAGE: dict[str, Any] = {"bos_token_id": 151_643, "eos_token_id": 151_645, "rms_norm_eps": 1e-6}
_ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
_ROPE_3 = {
    "rope_type": "default",
    "rope_theta": 5e6,
    "mrope_section": [24, 20, 20],
    "mrope_interleaved": True,
}

_FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # model type: what all its models share, of the language and of the vision part
    "qwen2_vl": ({"max_position_embeddings": 32_768, "rope_parameters": _ROPE}, {}),
    "qwen2_5_vl": (
        {"max_position_embeddings": 128_000, "rope_parameters": _ROPE},
        {"hidden_size": 1280, "tokens_per_second": 2},
    ),
    "qwen3_vl": (
        {"max_position_embeddings": 262_144, "rope_parameters": _ROPE_3, "head_dim": 128},
        {},
    ),
}

_NUMBERS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "vocab_size"),
)
_WIDE = {"intermediate_size": 3456}
_SMALL = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "deepstack_visual_indexes": [5, 11, 17],
}

PUBLISHED: dict[str, tuple[str, tuple[int, ...], bool, dict[str, Any]]] = {
    # model type; _NUMBERS of the language part; are its embeddings tied; vision, where it
    # differs within the family
    "Qwen/Qwen2-VL-2B-Instruct": ("qwen2_vl", (1536, 8960, 28, 12, 2, 151_936), True, {}),
    "Qwen/Qwen2-VL-7B-Instruct": ("qwen2_vl", (3584, 18_944, 28, 28, 4, 152_064), False, {}),
    "Qwen/Qwen2.5-VL-3B-Instruct": ("qwen2_5_vl", (2048, 11_008, 36, 16, 2, 151_936), True, {}),
    "Qwen/Qwen2.5-VL-7B-Instruct": ("qwen2_5_vl", (3584, 18_944, 28, 28, 4, 152_064), False, {}),
    "Qwen/Qwen2.5-VL-32B-Instruct": (
        "qwen2_5_vl",
        (5120, 27_648, 64, 40, 8, 152_064),
        False,
        _WIDE,
    ),
    "Qwen/Qwen2.5-VL-72B-Instruct": (
        "qwen2_5_vl",
        (8192, 29_568, 80, 64, 8, 152_064),
        False,
        _WIDE,
    ),
    "Qwen/Qwen3-VL-2B-Instruct": ("qwen3_vl", (2048, 6144, 28, 16, 8, 151_936), True, _SMALL),
    "Qwen/Qwen3-VL-4B-Instruct": ("qwen3_vl", (2560, 9728, 36, 32, 8, 151_936), True, _SMALL),
    "Qwen/Qwen3-VL-8B-Instruct": ("qwen3_vl", (4096, 12_288, 36, 32, 8, 151_936), False, {}),
    "Qwen/Qwen3-VL-32B-Instruct": ("qwen3_vl", (5120, 25_600, 64, 64, 8, 151_936), False, {}),
}


def published_config(name_or_path: str) -> PreTrainedConfig:
    """The configuration of a model folder, of a model in the Hub's cache, or of ``PUBLISHED``.

    That of an adapter is its base's. Nothing is downloaded.

    Raises:
        UserError: it is none of these.
    """
    return read_config(find_model(name_or_path, fetch=False), fetch=False)


def read_config(source: Source, fetch: bool) -> PreTrainedConfig:
    """The configuration of a model's full weights.

    Args:
        source: where they are.
        fetch: whether to ask the Hub for what is not in its cache.

    Raises:
        UserError: it is not there, does not load, or is not known.
    """
    path = source.weights
    try:
        return AutoConfig.from_pretrained(path, local_files_only=not fetch)
    except (OSError, ValueError) as error:
        if Path(path).is_dir():
            line = str(error).strip().splitlines()[0]
            raise UserError(f"{path}: config.json does not load: {line}") from None
    if path not in PUBLISHED:
        raise UserError(
            f"model {source.base!r}: its architecture is not known here; fetch it with "
            f"'hf download {path} config.json' (all of it, if it is an adapter)"
        )
    family, numbers, tied, differs = PUBLISHED[path]
    language, vision = copy.deepcopy(_FAMILIES[family])
    language |= _LANGUAGE | dict(zip(_NUMBERS, numbers, strict=True))
    # Qwen2-VL's vision part says hidden_size for what it gives, the others out_hidden_size.
    gives = "hidden_size" if family == "qwen2_vl" else "out_hidden_size"
    return AutoConfig.for_model(
        family,
        text_config=language,
        vision_config={**vision, **differs, gives: language["hidden_size"]},
        tie_word_embeddings=tied,
        dtype="bfloat16",
    )


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters; a tied output embedding counts once."""

    vision: int
    language: int
    embeddings: int

    @property
    def total(self) -> int:
        """Of the whole model."""
        return self.vision + self.language + self.embeddings


def parameter_count(config: PreTrainedConfig) -> Parameters:
    """The parameters of a model of the published families, counted on one without storage.

    ``vision`` includes the merger; ``embeddings`` are those of the tokens, on the way in and out.
    """
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    ends = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    embeddings = sum(weight.numel() for weight in ends)
    vision = sum(weight.numel() for weight in model.model.visual.parameters())
    total = sum(weight.numel() for weight in model.parameters())
    return Parameters(vision, total - vision - embeddings, embeddings)


def shrink(
    config: PreTrainedConfig, vocab_size: int, hidden_size: int = 64, layers: int = 2
) -> PreTrainedConfig:
    """A tiny configuration of the same architecture.

    What makes a family special stays at work: grouped key-value heads, mrope sections, tied or
    untied embeddings, Qwen2.5-VL's windowed and full attention, two of Qwen3-VL's deepstack
    layers. Heads are 32 wide, the least that vLLM's kernels take.

    Args:
        config: of one of the published families.
        vocab_size: of the tokenizer; the caller sets the ids of the special tokens.
        hidden_size: of the language model, a multiple of 64.
        layers: of the language model, two or more.
    """
    head = 32
    heads = hidden_size // head
    values = config.to_dict()
    text, vision = values["text_config"], values["vision_config"]
    sections = text["rope_parameters"]["mrope_section"]
    turns = [section * head // 2 // sum(sections) for section in sections]
    text.update(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=4096,
        rope_parameters={**text["rope_parameters"], "mrope_section": turns},
        bos_token_id=None,
        eos_token_id=None,
    )
    if "head_dim" in text:
        text["head_dim"] = head
    if "layer_types" in text:
        text["layer_types"] = ["full_attention"] * layers
    small = {"depth": 4, "num_heads": 2}
    if config.model_type == "qwen2_vl":
        small |= {"embed_dim": 2 * head, "hidden_size": hidden_size}
    else:
        small |= {"hidden_size": 2 * head, "intermediate_size": 96, "out_hidden_size": hidden_size}
    if config.model_type == "qwen2_5_vl":
        vision["fullatt_block_indexes"] = [1, 3]
    if config.model_type == "qwen3_vl":
        vision["deepstack_visual_indexes"] = [0, 2]
        vision["num_position_embeddings"] = 16 * 16
    vision.update(small)
    values["dtype"] = "float32"
    return type(config).from_dict(values)
