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
from transformers.cache_utils import DynamicLayer
from trl import GRPOConfig

from star_r1.train.prompts import Prompt, embed

COMPACT_BELOW: Final = 0.75
"""Stopped rows are dropped once so small a share of the rows still grows."""


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer with room for what is to come: appending copies the new columns only.

    DynamicLayer copies all columns at every step, which is half of the time of sampling.
    """

    def __init__(self, keys: Tensor, values: Tensor, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._length = 0
        shape = (*keys.shape[:2], keys.shape[2] + room, keys.shape[3])
        self._keys, self._values = keys.new_empty(shape), values.new_empty(shape)
        self.update(keys, values)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append (B, heads, n, head size); returns all columns so far."""
        start, self._length = self._length, self._length + key_states.shape[2]
        self._keys[:, :, start : self._length] = key_states
        self._values[:, :, start : self._length] = value_states
        return self._view()

    def keep(self, rows: Tensor) -> None:
        """Drop all but ``rows``."""
        self._keys, self._values = self._keys[rows], self._values[rows]
        self._view()

    def _view(self) -> tuple[Tensor, Tensor]:
        self.keys = self._keys[:, :, : self._length]
        self.values = self._values[:, :, : self._length]
        return self.keys, self.values


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
        model: of one of ``loading.TRAINABLE``.
        prompts: U prompts.
        group: (B,), which prompt each completion continues.
        uniforms: (B, C), each in [0, 1): the t-th token of a completion is where the cumulative
            distribution passes the t-th of them. So a completion depends on its own numbers
            alone, not on what is sampled beside it.
        end_ids: the tokens that end a completion.
        warp: what is done to the logits first.
    """
    backbone = model.model
    ends = torch.tensor(end_ids, device=group.device)
    room = uniforms.shape[1]
    last, cache, mask = _prefill(backbone, prompts)
    cache.layers = [
        _RoomyLayer(layer.keys[group], layer.values[group], room) for layer in cache.layers
    ]
    logits, mask = model.lm_head(last)[group], mask[group]
    position = torch.tensor([p.next_position for p in prompts], device=group.device)[group]
    alive, going = torch.arange(len(group)), torch.ones(len(group), dtype=torch.bool)
    completions: list[list[int]] = [[] for _ in group]
    for step in range(room):
        cdf = warp(None, logits.float()).softmax(-1).double().cumsum(-1)
        reached = uniforms[alive, step].to(cdf)[:, None] * cdf[:, -1:]
        tokens = torch.searchsorted(cdf, reached, right=True)
        for row, token in zip(alive[going].tolist(), tokens.cpu()[going, 0].tolist(), strict=True):
            completions[row].append(token)
        going &= ~torch.isin(tokens[:, 0], ends).cpu()
        if step == room - 1 or not going.any():
            break
        if going.sum() < COMPACT_BELOW * len(going):
            rows = going.nonzero()[:, 0].to(group.device)
            tokens, mask, position = tokens[rows], mask[rows], position[rows]
            alive, going = alive[going], going[going]
            for layer in cache.layers:
                layer.keep(rows)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        hidden = backbone.language_model(
            inputs_embeds=backbone.get_input_embeddings()(tokens),
            attention_mask=mask[:, None, None],
            position_ids=(position + step)[None, :, None].expand(3, -1, -1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits = model.lm_head(hidden[:, 0])
    return completions


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
