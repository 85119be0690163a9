"""Sampling of many completions a prompt: one vision pass and one prefill a prompt.

Shapes: U prompts of P tokens each (P differs), B completions of at most C tokens, G of them a
prompt, V vocabulary.
"""

import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from trl import GRPOConfig

from star_r1.train.prompts import Prompt, embed

COMPACT_BELOW: Final = 0.75
"""Stopped completions are dropped once the others need so small a share of the room."""


class Columns:
    """Keys and values of completions, a column a step; those of the prompts are not repeated.

    A step's queries meet the keys of their prompt, all G of a group at once, and their own. This
    reads far less memory than a copy of the prompt for each completion, which is what costs time.
    """

    def __init__(self, cache: DynamicCache, mask: Tensor, many: int, room: int) -> None:
        """Room for ``many`` completions, of ``room`` tokens, of each of the U prompts in ``cache``.

        ``mask``: (U, P), which columns of the cache are tokens.
        """
        self.prompts = [(layer.keys, layer.values) for layer in cache.layers]
        self.mask = mask[:, None, None]
        self.own = [
            (
                k.new_empty(*k.shape[:2], many, room, k.shape[3]),
                v.new_empty(*v.shape[:2], many, room, v.shape[3]),
            )
            for k, v in self.prompts
        ]
        self.length = 0

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Add the next column and attend from it.

        Args:
            layer: its number.
            query: (U, heads, G, head size); ``key`` and ``value``: (U, key heads, G, head size).
            scaling: of the scores.

        Returns:
            (U, G, heads, head size).
        """
        (prompt_k, prompt_v), (own_k, own_v) = self.prompts[layer], self.own[layer]
        own_k[:, :, :, self.length], own_v[:, :, :, self.length] = key, value
        own_k, own_v = (own[:, :, :, : self.length + 1] for own in (own_k, own_v))
        rows, _, many, size = query.shape
        key_heads, seen = prompt_k.shape[1:3]
        query = (query * scaling).to(prompt_k.dtype).view(rows, key_heads, -1, many, size)
        # (U, key heads, heads a key head, G, columns)
        scores = torch.cat(
            [
                (query.flatten(2, 3) @ prompt_k.transpose(2, 3))
                .masked_fill(~self.mask, -torch.inf)
                .view(*query.shape[:4], seen),
                (query.transpose(2, 3) @ own_k.transpose(3, 4)).transpose(2, 3),
            ],
            dim=-1,
        )
        weights = scores.softmax(-1, dtype=torch.float32).to(prompt_v.dtype)
        of_prompt, of_own = weights[..., :seen], weights[..., seen:]
        output: Tensor = (of_prompt.flatten(2, 3) @ prompt_v).view(query.shape)
        output = output + (of_own.transpose(2, 3) @ own_v).transpose(2, 3)
        return output.flatten(1, 2).transpose(1, 2)

    def keep(self, rows: Tensor, places: Tensor) -> None:
        """Go on with prompts ``rows`` (U',) alone, and ``places`` (U', G') of their completions.

        One layer after the other, so that no more than one of them is there twice.
        """
        self.mask = self.mask[rows]
        for layer, (k, v) in enumerate(self.prompts):
            self.prompts[layer] = k[rows], v[rows]
        at = rows[:, None]
        for layer, (k, v) in enumerate(self.own):
            # two index tensors around a slice put what they index in front
            self.own[layer] = (
                k[at, :, places].transpose(1, 2),
                v[at, :, places].transpose(1, 2),
            )


def _prefill(backbone: Any, prompts: Sequence[Prompt]) -> tuple[Tensor, DynamicCache, Tensor]:
    """Last hidden states (U, H), keys and values, and mask (U, P) of prompts padded on the left."""
    ids, mask = (
        pad_sequence(rows, batch_first=True, padding_side="left")
        for rows in (
            [prompt.input_ids for prompt in prompts],
            [torch.ones_like(prompt.input_ids) for prompt in prompts],
        )
    )
    positions = pad_sequence(
        [prompt.position_ids.T for prompt in prompts], batch_first=True, padding_side="left"
    )
    cache = DynamicCache(config=backbone.config.text_config)
    is_picture = (ids == backbone.config.image_token_id) & mask.bool()
    output = backbone.language_model(
        **embed(backbone, prompts, ids, is_picture),
        attention_mask=mask,
        position_ids=positions.permute(2, 0, 1),
        past_key_values=cache,
        use_cache=True,
    )
    return output.last_hidden_state[:, -1], cache, mask.bool()


def draw(logits: Tensor, numbers: Tensor, warp: LogitsProcessorList) -> Tensor:
    """Tokens (N,): where the cumulative distribution of ``logits`` (N, V) passes ``numbers`` (N,).

    ``warp`` is done to the logits first.
    """
    cdf = warp(None, logits.float()).softmax(-1).double().cumsum(-1)
    return torch.searchsorted(cdf, numbers[:, None] * cdf[:, -1:], right=True)[:, 0]


@torch.no_grad()
def sample(
    model: Any,
    prompts: Sequence[Prompt],
    group: Tensor,
    uniforms: Tensor,
    end_ids: Sequence[int],
    warp: LogitsProcessorList,
) -> list[list[int]]:
    """Sample B completions: lists of token ids, up to and with the first end token.

    Args:
        model: of one of ``loading.TRAINABLE``, in evaluation mode, prepared by ``packed.share``.
        prompts: U prompts, each of which some completion continues.
        group: (B,), which prompt each completion continues.
        uniforms: (B, C), each in [0, 1): the t-th token of a completion is where the cumulative
            distribution passes the t-th of them. So a completion depends on its own numbers
            alone, not on what is sampled beside it.
        end_ids: the tokens that end a completion.
        warp: what is done to the logits first.
    """
    backbone, device = model.model, group.device
    ends, room = torch.tensor(end_ids, device=device), uniforms.shape[1]
    uniforms = uniforms.to(device)
    members = [torch.nonzero(group == number)[:, 0] for number in range(len(prompts))]
    slots = pad_sequence(members, batch_first=True, padding_value=-1)  # (U, G), rows of (B, C)
    last, cache, mask = _prefill(backbone, prompts)
    columns = Columns(cache, mask, slots.shape[1], room)
    del cache  # or it would keep the prompts that are dropped
    logits = model.lm_head(last)[:, None].expand(-1, slots.shape[1], -1)
    position = torch.tensor([prompt.next_position for prompt in prompts], device=device)
    completions = torch.full_like(uniforms, -1, dtype=torch.long)
    alive = slots >= 0
    for step in range(room):
        numbers = uniforms[slots.flatten(), step]
        tokens = draw(logits.flatten(0, 1), numbers, warp).view(slots.shape)
        completions[slots[alive], step] = tokens[alive]
        alive &= ~torch.isin(tokens, ends)
        if step == room - 1 or not alive.any():
            break
        rows, width = alive.any(1).nonzero()[:, 0], int(alive.sum(1).max())
        if len(rows) * width < COMPACT_BELOW * alive.numel():
            places = alive[rows].sort(descending=True, stable=True).indices[:, :width]
            columns.keep(rows, places)
            slots, alive, tokens = (
                table[rows].gather(1, places) for table in (slots, alive, tokens)
            )
            position = position[rows]
        hidden = backbone.language_model(
            inputs_embeds=backbone.get_input_embeddings()(tokens),
            position_ids=(position + step)[None, :, None].expand(3, -1, slots.shape[1]),
            use_cache=False,
            columns=columns,
        ).last_hidden_state
        columns.length += 1
        logits = model.lm_head(hidden)
    return [[token for token in row if token >= 0] for row in completions.tolist()]


def uniforms(seed: int, step: int, name: str, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Numbers in [0, 1) for the completions of prompt ``name`` at ``step``: (G, C), float64.

    >>> uniforms(0, 1, "000001-center", (2, 3)).shape
    (2, 3)
    """
    return np.random.default_rng([seed, step, zlib.crc32(name.encode())]).random(size)


def warpers(args: GRPOConfig) -> LogitsProcessorList:
    """What the sampling flags of ``args`` do to the logits, in the order of HF generate."""
    warp = LogitsProcessorList()
    if args.temperature != 1:
        warp.append(TemperatureLogitsWarper(args.temperature))
    if args.top_k:
        warp.append(TopKLogitsWarper(args.top_k))
    if args.top_p < 1:
        warp.append(TopPLogitsWarper(args.top_p))
    if args.min_p:
        warp.append(MinPLogitsWarper(args.min_p))
    return warp
