"""A prompt and its completions in one row, which computes what each completion alone computes.

The row is ``P c1 c2 ... cG``, without padding. A completion attends to the prompt and to itself,
and its positions continue the prompt's. The layers of the model run as they are, so LoRA, gradient
checkpointing and sharding need nothing of their own; only the attention function knows of the row,
and it calls the kernels of plain attention on the blocks that are not masked. So no (T, T) mask
exists, and the same code is fast on CPUs and GPUs.

Shapes: U prompts of P tokens each (P differs), B completions of at most C tokens, G of them a
prompt, T tokens in the row of all, N completion tokens to predict.
"""

import math
import types
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPast

from star_r1.train.prompts import Prompt, embed

ATTENTION: Final = "shared_prompt"
"""The name under which transformers knows ``attention``."""


@dataclass(frozen=True)
class Segment:
    """A prompt and its completions in the packed row.

    Attributes:
        start, prompt, end: where the prompt begins, how long it is, where its completions end.
        index: (G, C), where in the completions' part of the segment each token stands.
        mask: (G, C), which of them exist.
    """

    start: int
    prompt: int
    end: int
    index: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Row:
    """Prompts and completions packed into one row of T tokens.

    Attributes:
        input_ids: (1, T). The last token of a completion predicts nothing and is left out.
        position_ids: (3, 1, T).
        is_picture: (1, T), the placeholders of the visual features.
        segments: what may attend to what.
        sources: (N,), where in the row each of the N completion tokens is predicted.
        targets: (N,), these tokens, in the order of ``slots``.
        slots: (N,), where each stands in the flattened (B, C).
    """

    input_ids: Tensor
    position_ids: Tensor
    is_picture: Tensor
    segments: tuple[Segment, ...]
    sources: Tensor
    targets: Tensor
    slots: Tensor

    def unpack(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Values (1, N) of the completion tokens as (B, C), zero where there is no token."""
        return values.new_zeros(math.prod(shape)).index_copy(0, self.slots, values[0]).view(shape)


def pack(
    prompts: Sequence[Prompt],
    group: Tensor,
    completion_ids: Tensor,
    completion_mask: Tensor,
    image_token_id: int,
) -> Row:
    """Pack completions (B, C), ended by ``completion_mask``, of ``prompts[group]``, group (B,)."""
    device, width = completion_ids.device, completion_ids.shape[1]
    owners, lengths = group.tolist(), completion_mask.sum(1).tolist()
    ids, positions, pictures, segments, sources, targets, slots = [], [], [], [], [], [], []
    start = 0
    for number, prompt in enumerate(prompts):
        size = len(prompt.input_ids)
        ids.append(prompt.input_ids)
        positions.append(prompt.position_ids)
        pictures.append(prompt.input_ids == image_token_id)
        counts, offset = [], 0
        for completion, (owner, length) in enumerate(zip(owners, lengths, strict=True)):
            if owner != number or length == 0:
                continue
            tokens = completion_ids[completion, :length]
            ids.append(tokens[:-1])
            steps = torch.arange(length - 1, device=device)
            positions.append((prompt.next_position + steps).expand(3, -1))
            pictures.append(torch.zeros(length - 1, dtype=torch.bool, device=device))
            here = torch.arange(length, device=device) + (start + size + offset - 1)
            here[0] = start + size - 1
            sources.append(here)
            targets.append(tokens)
            slots.append(torch.arange(length, device=device) + completion * width)
            counts.append(length - 1)
            offset += length - 1
        steps = torch.arange(max(counts, default=0), device=device)
        sizes = torch.tensor(counts, dtype=torch.long, device=device)[:, None]
        mask = steps < sizes
        index = (sizes.cumsum(0) - sizes + steps).where(mask, 0)
        segments.append(Segment(start, size, start + size + offset, index, mask))
        start += size + offset
    empty = [torch.zeros(0, dtype=torch.long, device=device)]
    return Row(
        torch.cat(ids)[None],
        torch.cat(positions, dim=1)[:, None],
        torch.cat(pictures)[None],
        tuple(segments),
        torch.cat(sources or empty),
        torch.cat(targets or empty),
        torch.cat(slots or empty),
    )


class Columns(Protocol):
    """Keys and values of the completions that are being sampled (``sampling.Columns``)."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Add a token of each completion, and attend from it: (U, G, heads, head size)."""


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    segments: Sequence[Segment] | None = None,
    columns: Columns | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls as attention, under the name ``ATTENTION``.

    Args:
        module: the attention module.
        query: (rows, heads, T, head size); ``key`` and ``value``: (rows, key heads, T, head size).
        attention_mask: of the plain form; the others have none.
        scaling, dropout: of the scores.
        segments: of a packed row; then there is one row.
        columns: the completions of a sampling step; then rows are prompts, and T completions.
        **kwargs: of the plain form, which is transformers' sdpa attention.

    Returns:
        (rows, T, heads, head size), and None for the weights, as transformers wants it.
    """
    if columns is not None:
        return columns.attend(module.layer_idx, query, key, value, scaling), None
    if segments is not None:
        return packed_attention(query, key, value, scaling, dropout, segments), None
    plain: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
    )
    return plain


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    dropout: float,
    segments: Sequence[Segment],
) -> Tensor:
    """Attention of a packed row, (1, T, heads, head size); arguments as for ``attention``."""
    # Under autocast rotary positions leave queries and keys in float32. The kernels for a causal
    # block are called below the level at which autocast would see that.
    query, key = query.to(value.dtype), key.to(value.dtype)
    attend = partial(
        scaled_dot_product_attention,
        scale=scaling,
        dropout_p=dropout,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    parts = []
    for segment in segments:
        inner = segment.start + segment.prompt
        q, k, v = (x[:, :, segment.start : inner] for x in (query, key, value))
        parts.append(attend(q, k, v, is_causal=True)[0].transpose(0, 1))
        many, steps = segment.index.shape
        if segment.end == inner:
            continue
        own_q, own_k, own_v = (  # (G, heads, C, head size)
            x[0, :, inner : segment.end]
            .index_select(1, segment.index.flatten())
            .view(x.shape[1], many, steps, x.shape[3])
            .transpose(0, 1)
            for x in (query, key, value)
        )
        all_k = torch.cat([k.expand(many, -1, -1, -1), own_k], dim=2)
        all_v = torch.cat([v.expand(many, -1, -1, -1), own_v], dim=2)
        causal = causal_lower_right(steps, segment.prompt + steps)
        output = attend(own_q, all_k, all_v, attn_mask=causal)
        parts.append(output.transpose(1, 2)[segment.mask])
    return torch.cat(parts)[None]


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _forward(
    self: Any, *args: Any, prompts: Sequence[Prompt] | None = None, row: Any = None, **kwargs: Any
) -> Any:
    """The backbone's ``forward``, with a second form for a packed row: states (1, N, H).

    It is reached through the model's own ``forward``, as DDP, FSDP and DeepSpeed need it.
    """
    if prompts is None:
        return type(self).forward(self, *args, **kwargs)
    output = self.language_model(
        **embed(self, prompts, row.input_ids, row.is_picture),
        position_ids=row.position_ids,
        use_cache=False,
        segments=row.segments,
    )
    return BaseModelOutputWithPast(last_hidden_state=output.last_hidden_state[:, row.sources])


def share(model: Any) -> None:
    """Teach ``model`` (of one of ``loading.TRAINABLE``) the packed row."""
    model.model.forward = types.MethodType(_forward, model.model)
    model.model.language_model.config._attn_implementation = ATTENTION
