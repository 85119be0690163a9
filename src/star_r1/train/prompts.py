"""Prompts with pictures, encoded once: tokens, positions, and what the vision tower sees.

Shapes: U prompts of P tokens each (P differs), H hidden size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from trl.data_utils import prepare_multimodal_messages

from star_r1.data.pictures import read_pair
from star_r1.model.template import render


@dataclass(frozen=True)
class Prompt:
    """One encoded prompt of P tokens.

    Attributes:
        messages: the conversation, with the pictures in it.
        input_ids: (P,).
        position_ids: (3, P), temporal, height and width positions (mrope).
        next_position: the position of a completion's first token.
        pictures: decoded.
        pixel_values: (patches of all its pictures, patch size).
        image_grid_thw: (pictures, 3), in patches.
        features: once the vision tower has seen the pictures: its output (visual tokens, H), and
            for Qwen3-VL what goes into the first layers (deepstack), each of the same shape.
    """

    messages: list[dict[str, Any]]
    input_ids: Tensor
    position_ids: Tensor
    next_position: int
    pictures: Sequence[Any]
    pixel_values: Tensor
    image_grid_thw: Tensor
    features: tuple[Tensor, ...] | None = None


def encode(
    rows: Sequence[dict[str, Any]],
    backbone: Any,
    processor: Any,
    template: Mapping[str, Any] | None = None,
) -> list[Prompt]:
    """Encode rows with ``prompt`` (messages) and ``images`` (pictures, or undecoded ones).

    Args:
        rows: of a dataset.
        backbone: that the prompts are for.
        processor: that belongs to it.
        template: ``chat_template_kwargs``, as for ``render``.
    """
    pictures = [pictures_of(row) for row in rows]
    messages = [
        prepare_multimodal_messages(row["prompt"], images)
        for row, images in zip(rows, pictures, strict=True)
    ]
    texts = render(processor, messages, template)
    batch = processor(
        images=pictures, text=texts, padding=True, padding_side="left", return_tensors="pt"
    ).to(backbone.device)
    positions, delta = backbone.get_rope_index(**batch)
    masks = batch["attention_mask"].bool()
    grids = torch.split(batch["image_grid_thw"], [len(images) for images in pictures])
    patches = torch.split(batch["pixel_values"], [int(g.prod(-1).sum()) for g in grids])
    return [
        Prompt(
            messages[row],
            batch["input_ids"][row, mask],
            positions[:, row, mask],
            int(mask.sum() + delta[row, 0]),
            pictures[row],
            patches[row],
            grids[row],
        )
        for row, mask in enumerate(masks)
    ]


def pictures_of(row: Mapping[str, Any]) -> Sequence[Any]:
    """The pictures of a row, read if they are still the files that ``dataset.load`` gives.

    Raises:
        UserError: one of them cannot be used; row and picture are named.
    """
    pictures = row["images"]
    decoded = pictures and all(isinstance(picture, Image.Image) for picture in pictures)
    return pictures if decoded else read_pair(row)


def see(prompts: Sequence[Prompt], backbone: Any) -> list[Prompt]:
    """The prompts with ``features``, from the vision tower of ``backbone``."""
    output = backbone.get_image_features(
        torch.cat([prompt.pixel_values for prompt in prompts]),
        torch.cat([prompt.image_grid_thw for prompt in prompts]),
        return_dict=True,
    )
    levels = [torch.cat(output.pooler_output)]
    levels += [torch.cat(level) for level in getattr(output, "deepstack_features", None) or ()]
    merged = backbone.config.vision_config.spatial_merge_size**2
    sizes = [int(prompt.image_grid_thw.prod(-1).sum()) // merged for prompt in prompts]
    features = zip(*(torch.split(level, sizes) for level in levels), strict=True)
    return [replace(p, features=own) for p, own in zip(prompts, features, strict=True)]


def embed(
    backbone: Any, prompts: Sequence[Prompt], input_ids: Tensor, is_picture: Tensor
) -> dict[str, Any]:
    """Arguments of the language model: tokens embedded, and visual features where they belong."""
    if any(prompt.features is None for prompt in prompts):
        prompts = see(prompts, backbone)
    levels = [
        torch.cat(level)
        for level in zip(*(prompt.features or () for prompt in prompts), strict=True)
    ]
    embeddings = backbone.get_input_embeddings()(input_ids)
    first = levels[0].to(embeddings.dtype)
    arguments = {"inputs_embeds": embeddings.masked_scatter(is_picture.unsqueeze(-1), first)}
    if levels[1:]:
        arguments |= {"visual_pos_masks": is_picture, "deepstack_visual_embeds": levels[1:]}
    return arguments
