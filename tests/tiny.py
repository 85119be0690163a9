"""A tiny random-weight checkpoint of a published architecture, in the layout of the real one."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModelForImageTextToText, GenerationConfig
from transformers.utils import logging

from star_r1.model.published import published_config, shrink

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
"""Qwen's special tokens, in the order of their ids; here they follow the 256 bytes."""

WORDS = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
"""The next of Qwen's added tokens; these are not special, so that decoding keeps them."""

_SPLIT = (  # Qwen2's, as its tokenizer.json has it
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Of the same form as Qwen's own: who has no system message gets one (Qwen3-VL has none), pictures
# and videos become one placeholder each, and the assistant's turn is opened on demand.
_SYSTEM = (
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}SYSTEM<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "patch_size": 14,
}
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16}
PREPROCESSORS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {
        **{"min_pixels": 3136, "max_pixels": 12_845_056},
        **_CLIP,
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
    },
    "qwen2_5_vl": {
        **{"min_pixels": 3136, "max_pixels": 12_845_056},
        **_CLIP,
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    },
    "qwen3_vl": {
        "size": {"longest_edge": 16_777_216, "shortest_edge": 65_536},
        **_HALF,
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "processor_class": "Qwen3VLProcessor",
    },
}
"""``preprocessor_config.json`` as published, without what all share."""

GENERATION: dict[str, dict[str, float]] = {
    "qwen2_vl": {"temperature": 0.01, "top_p": 0.001, "top_k": 1, "repetition_penalty": 1.0},
    "qwen2_5_vl": {"temperature": 1e-6, "repetition_penalty": 1.05},
    "qwen3_vl": {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
}
"""``generation_config.json`` as published: plain ``generate`` follows it, even when greedy."""


def make_tiny(folder: Path, name: str, seed: int = 0) -> Path:
    """Write the checkpoint; the weights follow from ``seed``.

    Args:
        folder: where to, made if need be.
        name: a published model, ``Qwen/Qwen2.5-VL-7B-Instruct``.
        seed: of the weights.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    published = published_config(name)
    tokenizer = write_tokenizer(folder, published.model_type)
    config = shrink(published, tokenizer.get_vocab_size())
    end, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    config.text_config.bos_token_id, config.text_config.eos_token_id = pad, end
    for field in ("vision_start", "vision_end"):
        setattr(config, f"{field}_token_id", tokenizer.token_to_id(f"<|{field}|>"))
    for field in ("image", "video"):
        setattr(config, f"{field}_token_id", tokenizer.token_to_id(f"<|{field}_pad|>"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config)
    model.generation_config = GenerationConfig(
        bos_token_id=pad,
        pad_token_id=pad,
        eos_token_id=[end, pad],
        do_sample=True,
        **GENERATION[config.model_type],
    )
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    shared = {"temporal_patch_size": 2, "merge_size": 2}
    pictures = PREPROCESSORS[config.model_type]
    _write(folder / "preprocessor_config.json", {**pictures, **shared})
    if config.model_type == "qwen3_vl":
        videos = {
            "size": {"longest_edge": 25_165_824, "shortest_edge": 4096},
            **_HALF,
            **shared,
            "processor_class": "Qwen3VLProcessor",
            "video_processor_type": "Qwen3VLVideoProcessor",
        }
        _write(folder / "video_preprocessor_config.json", videos)
    return folder


def write_tokenizer(folder: Path, family: str) -> Tokenizer:
    """Qwen's tokenizer without its merges: one token a byte, and the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(token, normalized=False, special=True) for token in SPECIAL]
    added += [AddedToken(token, normalized=False, special=False) for token in WORDS]
    tokenizer.add_tokens(added)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = CHAT_TEMPLATE.replace("SYSTEM", "" if family == "qwen3_vl" else _SYSTEM)
    _write(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(tokenizer.token_to_id(token.content)): {
                    "content": token.content,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": token.special,
                }
                for token in added
            },
            "additional_special_tokens": list(SPECIAL[1:]),
            "bos_token": None,
            "chat_template": template,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 131_072,
            "pad_token": "<|endoftext|>",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    _write(folder / "chat_template.json", {"chat_template": template})
    return tokenizer


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
