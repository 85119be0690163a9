"""Greedy completions of a local vision-language model, batched without wasted work."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from star_r1.model.loading import TRAINABLE


@torch.inference_mode()
def complete(
    model: Any,
    processor: Any,
    rows: Any,
    *,
    batch_size: int = 64,
    max_new_tokens: int = 256,
) -> Iterator[tuple[str, str]]:
    """Complete the prompt of every row greedily.

    The rows come by length of the prompt, longest first: a batch holds prompts of nearly one
    length, and a lack of memory shows at once. In float32 a completion does not depend on the
    other rows of its batch. The model's generation config decides about the end token alone.

    Args:
        model: an image-text-to-text model of Hugging Face transformers, on its device and in its
            dtype; the Qwen-VL families are faster than others.
        processor: its processor, padding on the left.
        rows: a dataset with columns ``id``, ``prompt`` (messages) and ``images``.
        batch_size: rows completed at once, at least 1.
        max_new_tokens: a completion that has not ended by then is cut off, at least 1.

    Yields:
        (id, completion) of each row, once, without the end token and other special tokens.
    """
    ids = list(rows["id"])
    prompts = [
        processor.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        for prompt in rows["prompt"]
    ]
    lengths = [len(processor.tokenizer(prompt)["input_ids"]) for prompt in prompts]
    # The id as second key keeps the views of one sample, which share a picture, in one batch.
    order = sorted(range(len(ids)), key=lambda i: (-lengths[i], ids[i]))
    write = _greedy if model.config.model_type in TRAINABLE else _generate
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        inputs = processor(
            text=[prompts[i] for i in chosen],
            images=rows[chosen]["images"],
            padding=True,
            return_tensors="pt",
        )
        tokens = write(model, inputs, max_new_tokens)
        texts = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        yield from zip((ids[i] for i in chosen), texts, strict=True)


def _generate(model: Any, inputs: Any, max_new_tokens: int) -> list[list[int]]:
    """By transformers' own ``generate``, for families that ``_greedy`` does not know."""
    inputs = inputs.to(model.device, model.dtype)
    written: list[list[int]] = model.generate(
        # The penalty is no matter of sampling: greedy decoding would obey the model's own.
        **inputs,
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
    )[:, inputs["input_ids"].shape[1] :].tolist()
    return written


def _greedy(model: Any, inputs: Any, max_new_tokens: int) -> list[list[int]]:
    """The likeliest next token until the end token; rows that have ended leave the batch."""
    pictures = _see(model, inputs.pop("pixel_values"), inputs["image_grid_thw"])
    inputs = inputs.to(model.device)
    mask = inputs["attention_mask"]
    # A picture takes fewer positions than tokens, so positions are not counts of tokens.
    positions, _ = model.model.get_rope_index(**inputs)
    step = {"input_ids": inputs["input_ids"], "mm_encoder_outputs": {"image": pictures}}
    stops = torch.tensor(model.generation_config.eos_token_id, device=model.device)
    vision = [token for name, token in model.config.to_dict().items() if name in _VISION_TOKENS]

    written: list[list[int]] = [[] for _ in mask]
    alive = torch.arange(len(mask), device=model.device)
    cache = None
    for _ in range(max_new_tokens):
        out = model(
            **step,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        logits = out.logits[:, -1]
        # A picture token in the text would ask for a picture that is not there.
        logits[:, vision] = -torch.inf
        tokens = logits.argmax(-1)
        going = ~torch.isin(tokens, stops)
        for row, token, goes in zip(alive.tolist(), tokens.tolist(), going.tolist(), strict=True):
            if goes:
                written[row].append(token)
        if not going.any():
            break
        positions = positions.amax(2, keepdim=True).amax(0, keepdim=True).expand(3, -1, 1) + 1
        if not going.all():
            kept = going.nonzero()[:, 0]
            alive, tokens, mask = alive[kept], tokens[kept], mask[kept]
            positions = positions[:, kept]
            cache.batch_select_indices(kept)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        step = {"input_ids": tokens[:, None]}
    return written


_VISION_TOKENS = {
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
}


def _see(model: Any, patches: torch.Tensor, grids: torch.Tensor) -> Any:
    """The features of every picture; equal pictures pass through the vision tower once."""
    pictures = torch.split(patches, grids.prod(-1).tolist())
    keys = [hashlib.sha256(picture.numpy().tobytes()).digest() for picture in pictures]
    first: dict[bytes, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    distinct = list(first.values())
    seen = model.get_image_features(
        torch.cat([pictures[place] for place in distinct]).to(model.device),
        grids[distinct].to(model.device),
    )
    places = {key: place for place, key in enumerate(first)}
    order = [places[key] for key in keys]
    seen.pooler_output = tuple(seen.pooler_output[place] for place in order)
    if "deepstack_features" in seen:  # Qwen3-VL: what some inner layers saw, the same way
        seen.deepstack_features = [
            tuple(layer[place] for place in order) for layer in seen.deepstack_features
        ]
    return seen
