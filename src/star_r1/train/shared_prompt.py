"""GRPO on Qwen's vision-language models with each prompt computed once for all its completions.

All G completions of a group continue one prompt with the same pictures. TRL repeats prompt and
pictures G times, in sampling, in the reference model and in the update. Here the vision tower sees
a prompt once, and

- the update packs prompt and completions into one row without padding: ``P c1 c2 ... cG``. A
  completion attends to the prompt and to itself, and its positions continue the prompt's. The
  layers run as they are, so LoRA, gradient checkpointing and sharding need nothing of their own;
  only the attention function knows of the row, and it calls the kernels of plain attention on the
  blocks that are not masked, so that no (T, T) mask exists;
- sampling prefills a prompt once and gives each completion a copy of its keys and values.

Everything else of TRL stays as it is, and so do the numbers: log-probabilities and gradients equal
TRL's to rounding (tests/invariants).

Shapes: U prompts of P tokens each (P differs), B completions of at most C tokens, G of them a
prompt, T tokens in the packed row, H hidden size, V vocabulary.
"""

import math
import types
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from accelerate.utils import is_peft_model
from datasets import Image
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    LogitsProcessorList,
    MinPLogitsWarper,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPast
from trl import GRPOConfig
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.utils import split_tensor_dict

MODELS: Final = (
    Qwen2VLForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
"""Whose prompts can be shared."""
ATTENTION: Final = "shared_prompt"
"""The name under which transformers knows ``packed_attention``."""
COMPACT_BELOW: Final = 0.75
"""Stopped rows are dropped from sampling once so small a share of the rows still grows."""


@dataclass(frozen=True)
class Prompt:
    """One encoded prompt of P tokens.

    Attributes:
        input_ids: (P,).
        position_ids: (3, P), temporal, height and width positions (mrope).
        next_position: the position of a completion's first token.
        pictures: as the dataset holds them, decoded.
        pixel_values: (patches of all its pictures, patch size).
        image_grid_thw: (pictures, 3), in patches.
        features: once the vision tower has seen the pictures: its output (visual tokens, H), and
            for Qwen3-VL what goes into the first layers (deepstack), each of the same shape.
    """

    input_ids: Tensor
    position_ids: Tensor
    next_position: int
    pictures: Sequence[Any]
    pixel_values: Tensor
    image_grid_thw: Tensor
    features: tuple[Tensor, ...] | None = None


def encode(rows: Sequence[dict[str, Any]], backbone: Any, processor: Any) -> list[Prompt]:
    """Encode rows with ``prompt`` (messages) and ``images`` (pictures, or undecoded ones)."""
    pictures = [[_decode(picture) for picture in row["images"]] for row in rows]
    messages = [
        prepare_multimodal_messages(row["prompt"], images)
        for row, images in zip(rows, pictures, strict=True)
    ]
    texts = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    batch = processor(
        images=pictures, text=texts, padding=True, padding_side="left", return_tensors="pt"
    ).to(backbone.device)
    positions, delta = backbone.get_rope_index(**batch)
    masks = batch["attention_mask"].bool()
    grids = torch.split(batch["image_grid_thw"], [len(images) for images in pictures])
    patches = torch.split(batch["pixel_values"], [int(g.prod(-1).sum()) for g in grids])
    return [
        Prompt(
            batch["input_ids"][row, mask],
            positions[:, row, mask],
            int(mask.sum() + delta[row, 0]),
            pictures[row],
            patches[row],
            grids[row],
        )
        for row, mask in enumerate(masks)
    ]


def _decode(picture: Any) -> Any:
    """A picture, read if it is still the undecoded dict of ``datasets.Image(decode=False)``."""
    return Image().decode_example(picture) if isinstance(picture, dict) else picture


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


def _embed(
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


# --- the update: one row -------------------------------------------------------------------------


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


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: tuple[Segment, ...] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a packed row by ``segments``, or transformers' sdpa attention without them.

    Args:
        module: the attention module.
        query: (1, heads, T, head size); ``key`` and ``value``: (1, key heads, T, head size).
        attention_mask: of the plain form; a packed row has none.
        scaling, dropout: of the scores.
        segments: the packed row's.
        **kwargs: of the plain form.

    Returns:
        (1, T, heads, head size), and None for the weights, as transformers wants it.
    """
    if segments is None:
        output, _ = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            scaling=scaling,
            dropout=dropout,
            **kwargs,
        )
        return output, None
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
    return torch.cat(parts)[None], None


AttentionInterface.register(ATTENTION, packed_attention)
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
        **_embed(self, prompts, row.input_ids, row.is_picture),
        position_ids=row.position_ids,
        use_cache=False,
        segments=row.segments,
    )
    return BaseModelOutputWithPast(last_hidden_state=output.last_hidden_state[:, row.sources])


def share(model: Any) -> None:
    """Teach ``model`` (a member of ``MODELS``) the packed row."""
    model.model.forward = types.MethodType(_forward, model.model)
    model.model.language_model.config._attn_implementation = ATTENTION


# --- sampling ------------------------------------------------------------------------------------


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
        **_embed(backbone, prompts, ids, is_picture),
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
        model: a member of ``MODELS``.
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


# --- the trainer ---------------------------------------------------------------------------------


class SharedPrompt:
    """Mixin for TRL's GRPOTrainer on ``MODELS``, full or LoRA; ``obstacle`` says where not.

    The rows need an ``id`` that names the prompt.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As GRPOTrainer."""
        super().__init__(*args, **kwargs)
        trainer: Any = self
        for model in (trainer.model, trainer.ref_model):
            if model is not None:
                share(self._unwrap(model))
        self._prompts: dict[str, list[Prompt]] = {}
        self._names: list[str] = []
        self._group = torch.empty(0)

    def _unwrap(self, model: Any) -> Any:
        model = self.accelerator.unwrap_model(model)  # type: ignore[attr-defined]
        return model.get_base_model() if is_peft_model(model) else model

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"  # type: ignore[attr-defined]

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As GRPOTrainer, but the completions of a prompt stay together.

        TRL shuffles them over the batches that it splits a generation batch into, each of which
        would have to compute most prompts again. Within an optimizer step the order changes
        nothing; between several on one generation batch, each now has whole groups.
        """
        trainer: Any = self
        if self._mode == "eval":
            return trainer._generate_and_score_completions(generation_batch)
        parts = trainer.args.steps_per_generation
        if trainer._step % (parts * trainer.num_iterations) == 0 or not trainer._buffered_inputs:
            scored = trainer._generate_and_score_completions(generation_batch)
            trainer._buffered_inputs = split_tensor_dict(scored, parts)
        return trainer._buffered_inputs[trainer._step % parts]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Encode each prompt once; TRL gets the rows without pictures."""
        trainer: Any = self
        rows = {row["id"]: row for row in inputs}
        numbers = {name: number for number, name in enumerate(rows)}
        backbone = self._unwrap(trainer.model).model
        prompts = encode(list(rows.values()), backbone, trainer.processing_class)
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        if not sharded and not any(p.requires_grad for p in backbone.visual.parameters()):
            with torch.no_grad():
                prompts = see(prompts, backbone)
        self._prompts[self._mode] = prompts
        self._names = [row["id"] for row in inputs]
        group = torch.tensor([numbers[name] for name in self._names], device=backbone.device)
        self._group = group
        output: dict[str, Any] = super()._generate_and_score_completions(  # type: ignore[misc]
            [{key: value for key, value in row.items() if key != "images"} for row in inputs]
        )
        return {**output, "group": group}  # TRL splits it with the rest

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The tokens of the encoded prompts, one list a completion."""
        tokens = [prompt.input_ids.tolist() for prompt in self._prompts[self._mode]]
        return [tokens[number] for number in self._group.tolist()], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Sample by ``sample``, or hand vLLM the pictures too, as it encodes prompts by itself."""
        trainer: Any = self
        prompts = self._prompts[self._mode]
        if trainer.use_vllm:
            images = [list(prompts[number].pictures) for number in self._group.tolist()]
            return super()._generate_single_turn(prompt_ids, images, *args, **kwargs)  # type: ignore[misc]
        with trainer.accelerator.autocast():
            completions = sample(
                self._unwrap(trainer.model),
                prompts,
                self._group,
                torch.from_numpy(self._uniforms()),
                trainer.eos_token_ids,
                warpers(trainer.args),
            )
        return completions, None

    def _uniforms(self) -> np.ndarray[Any, Any]:
        """(B, C): they follow from seed, step and prompt, whatever process samples a completion."""
        trainer: Any = self
        many = trainer.num_generations if self._mode == "train" else trainer.num_generations_eval
        size = (many, trainer.max_completion_length)
        tables = {
            name: uniforms(trainer.args.seed, trainer.state.global_step, name, size)
            for name in set(self._names)
        }
        # a group may lie across processes, each of which holds as many rows
        first = trainer.accelerator.process_index * len(self._names)
        return np.stack(
            [tables[name][(first + row) % many] for row, name in enumerate(self._names)]
        )

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """Log-probabilities (B, C), and entropies; each prompt is computed once a batch."""
        completion_ids = input_ids[:, -logits_to_keep:]
        completion_mask = attention_mask[:, -logits_to_keep:]
        prompts, config = self._prompts[self._mode], self._unwrap(model).config
        log_probs, entropies = [], []
        size = batch_size or len(input_ids)
        for rows in (slice(start, start + size) for start in range(0, len(input_ids), size)):
            used, local = torch.unique(self._group[rows], return_inverse=True)
            chosen = [prompts[number] for number in used.tolist()]
            ids, mask = completion_ids[rows], completion_mask[rows]
            row = pack(chosen, local, ids, mask, config.image_token_id)
            with self.accelerator.autocast():  # type: ignore[attr-defined]
                output = model(
                    prompts=chosen, row=row, shift_labels=row.targets[None], fused_lm_head=True
                )
            log_probs.append(row.unpack(output.log_probs, ids.shape))
            if compute_entropy:
                entropies.append(row.unpack(output.entropy, ids.shape))
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._group = inputs["group"]
        loss: Tensor = super()._compute_loss(model, inputs)  # type: ignore[misc]
        return loss


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


def obstacle(model: Any, args: GRPOConfig) -> str | None:
    """Why prompts cannot be shared under ``args``, or None where they can."""
    sharded = bool(args.fsdp) or args.deepspeed is not None
    known = ", ".join(model.__name__ for model in MODELS)
    reasons = {
        f"{type(model).__name__} is none of {known}": not isinstance(model, MODELS),
        "FSDP or DeepSpeed without vLLM": sharded and not args.use_vllm,
        "repetition_penalty": args.repetition_penalty != 1,
        "generation_kwargs": bool(args.generation_kwargs) and not args.use_vllm,
        "cache_implementation": args.cache_implementation is not None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
