"""Models, processors and data of the sizes that are measured."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from grpo_step.case import SEED, Case
from star_r1.data.shards import encode_png, make_row, to_parquet
from star_r1.files import write_atomic
from star_r1.model.loading import load_model, load_processor
from star_r1.model.processor import (
    CHAT_TEMPLATE,
    END,
    IMAGE,
    PAD,
    SPECIAL,
    VIDEO,
    VISION_END,
    VISION_START,
    ImageOnlyProcessor,
)
from star_r1.model.published import published_config, shrink
from star_r1.model.source import MINI
from star_r1.render.mitsuba import MitsubaRenderer
from star_r1.tvr.rules import SceneRules
from star_r1.tvr.sampler import draw_sample
from star_r1.tvr.scene import Scene

_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizer splits a text before it merges; of plain English each piece is a token."""


def write_data(folder: Path, case: Case) -> None:
    """As many pairs as prompts, as ``star-r1 generate`` draws them.

    For mini they are rendered, 2-5 objects as in the demo; else ten objects and pictures of noise,
    which cost the same.
    """
    noise = np.random.default_rng(SEED)
    width, height = case.pictures
    mini = case.shape == MINI
    renderer = MitsubaRenderer(case.pictures, samples_per_pixel=8) if mini else None
    rules = SceneRules((2, 5), (1, 2)) if mini else SceneRules((10, 10), (1, 4))

    def picture(scene: Scene) -> bytes:
        drawn: NDArray[np.uint8] = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if renderer is not None:
            drawn = renderer.render(scene, sample.rig, "center")
        return encode_png(drawn)

    rows = []
    for index in range(case.prompts):
        sample = draw_sample(SEED, index, lambda s, *_: {o.index: 999 for o in s.visible}, rules)
        rows.append(make_row(sample, (picture(sample.initial), picture(sample.final)), {}))
    write_atomic(folder / "data" / "train-00000-of-00001.parquet", to_parquet(rows))


def build(case: Case, rows: Any) -> tuple[Any, Any]:
    """The model, its vision tower frozen as in the recipes, and the processor."""
    if case.shape == MINI:
        model, processor = load_model(MINI), load_processor(MINI)
    else:
        config = published_config(case.shape)
        processor = _processor(config, rows)
        name = processor.tokenizer.convert_tokens_to_ids
        if case.tiny:
            config = shrink(config, len(processor.tokenizer))
        config.image_token_id, config.video_token_id = name(IMAGE), name(VIDEO)
        config.vision_start_token_id = name(VISION_START)
        config.vision_end_token_id = name(VISION_END)
        ends = {"eos_token_id": name(END), "pad_token_id": name(PAD)}
        config.text_config.update(ends)
        torch.manual_seed(SEED)
        with torch.device("cpu" if case.on_cpu else "cuda"):
            model = AutoModelForImageTextToText.from_config(
                config, dtype=torch.float32 if case.on_cpu else torch.bfloat16
            )
        model.generation_config.update(**ends)
    model.model.visual.requires_grad_(False)
    return model, processor


def _processor(config: PreTrainedConfig, rows: Any) -> ImageOnlyProcessor:
    """Cuts pictures as the published one does, and texts into about as many tokens."""
    texts = [p["text"] for row in rows for m in row["prompt"] for p in m["content"] if p["text"]]
    split = pre_tokenizers.Split(Regex(_QWEN_WORDS), "isolated")
    pieces = split.pre_tokenize_str("\n".join(["system\nuser\nassistant\n", *texts]))
    words = sorted({word for word, _ in pieces})
    filler = (f"<{number}>" for number in range(256))  # random completions have ids up to 256
    vocabulary = [*SPECIAL, *words, *filler, "<unk>"]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = split
    vision = config.vision_config
    return ImageOnlyProcessor(
        Qwen2VLImageProcessorPil(
            patch_size=vision.patch_size,
            merge_size=vision.spatial_merge_size,
            min_pixels=28 * 28,
            max_pixels=1280 * 28 * 28,
        ),
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=PAD,
            eos_token=END,
            additional_special_tokens=[token for token in SPECIAL if token not in (PAD, END)],
            padding_side="left",
            model_input_names=["input_ids", "attention_mask"],
        ),
        chat_template=CHAT_TEMPLATE.replace(" if message.role != 'system'", ""),
    )
