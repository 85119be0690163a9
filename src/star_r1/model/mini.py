"""The embedded mini model: the real Qwen2.5-VL class at a size that a laptop trains in minutes."""

from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from star_r1.model.processor import (
    END,
    IMAGE,
    MERGE,
    PAD,
    PATCH,
    VIDEO,
    VISION_END,
    VISION_START,
    build_processor,
    build_tokenizer,
)

__all__ = ["build_config", "build_model", "build_processor"]


def build_config(
    hidden_size: int = 128,
    layers: int = 4,
    vision_hidden_size: int = 96,
    vision_depth: int = 3,
) -> Qwen2_5_VLConfig:
    """The configuration of the mini model; the arguments size it."""
    tokenizer = build_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (PAD, END, IMAGE, VIDEO)}
    head_dim = 32  # the least that vLLM's kernels take
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden_size,
            "intermediate_size": hidden_size * 3,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden_size // head_dim,
            "num_key_value_heads": hidden_size // head_dim,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [6, 5, 5],
            },
            "bos_token_id": None,
            "eos_token_id": ids[END],
            "pad_token_id": ids[PAD],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": vision_depth,
            "hidden_size": vision_hidden_size,
            "intermediate_size": vision_hidden_size * 3,
            "num_heads": vision_hidden_size // head_dim,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": 4 * PATCH * MERGE,
            "out_hidden_size": hidden_size,
            "fullatt_block_indexes": list(range(vision_depth)),
        },
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=tokenizer.convert_tokens_to_ids(VISION_START),
        vision_end_token_id=tokenizer.convert_tokens_to_ids(VISION_END),
        tie_word_embeddings=True,
    )


def build_model(seed: int = 0, **sizes: Any) -> Qwen2_5_VLForConditionalGeneration:
    """A mini model with random weights that follow from ``seed``; ``sizes`` as ``build_config``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(build_config(**sizes))
    model.generation_config.eos_token_id = model.config.text_config.eos_token_id
    model.generation_config.pad_token_id = model.config.text_config.pad_token_id
    return model
