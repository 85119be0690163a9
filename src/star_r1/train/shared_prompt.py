"""GRPO on Qwen2.5-VL with each prompt computed once for all its completions.

All G completions of a group continue one prompt with the same two pictures. TRL repeats prompt and
pictures G times in sampling, in the reference model and in the update. Here a prompt is encoded
once; its completions attend to its keys and values. Everything else of TRL stays as it is, and so
do the numbers: log-probabilities and gradients equal TRL's to rounding (tests/invariants).

Shapes: U prompts of P tokens (padded on the left), B completions of C tokens (on the right),
G completions a prompt, H hidden size, V vocabulary.
"""

import types
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import is_peft_model
from datasets import Image
from torch import Tensor
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    MinPLogitsWarper,
    Qwen2_5_VLForConditionalGeneration,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast
from trl import GRPOConfig
from trl.data_utils import prepare_multimodal_messages


@dataclass(frozen=True)
class Prompts:
    """U encoded prompts, each with the same number of pictures.

    Attributes:
        input_ids, attention_mask: (U, P).
        position_ids: (3, U, P), Qwen2.5-VL's temporal, height and width positions.
        next_position: (U,), the position of a completion's first token.
        pixel_values: U tensors (patches of the prompt's pictures, patch size).
        image_grid_thw: (U, pictures, 3).
        features: U tensors (visual tokens of the prompt, H), once the vision tower has seen them.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    next_position: Tensor
    pixel_values: Sequence[Tensor]
    image_grid_thw: Tensor
    features: Sequence[Tensor] | None = None

    @classmethod
    def encode(cls, rows: Sequence[dict[str, Any]], backbone: Any, processor: Any) -> "Prompts":
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
        position_ids, delta = backbone.get_rope_index(**batch)
        grids = batch["image_grid_thw"].view(len(rows), -1, 3)
        return cls(
            batch["input_ids"],
            batch["attention_mask"],
            position_ids,
            batch["attention_mask"].sum(1) + delta[:, 0],
            torch.split(batch["pixel_values"], grids.prod(-1).sum(-1).tolist()),
            grids,
        )

    def select(self, index: Tensor) -> "Prompts":
        """The prompts at ``index`` (distinct numbers in [0, U))."""
        numbers = index.tolist()
        return Prompts(
            self.input_ids[index],
            self.attention_mask[index],
            self.position_ids[:, index],
            self.next_position[index],
            [self.pixel_values[n] for n in numbers],
            self.image_grid_thw[index],
            None if self.features is None else [self.features[n] for n in numbers],
        )

    def see(self, backbone: Any) -> "Prompts":
        """The same with ``features``, from the vision tower of ``backbone``."""
        output = backbone.get_image_features(
            torch.cat(tuple(self.pixel_values)), self.image_grid_thw.flatten(0, 1), return_dict=True
        )
        merged = backbone.config.vision_config.spatial_merge_size**2
        sizes = (self.image_grid_thw.prod(-1).sum(-1) // merged).tolist()
        return replace(self, features=torch.split(torch.cat(output.pooler_output), sizes))


def _decode(picture: Any) -> Any:
    """A picture, read if it is still the undecoded dict of ``datasets.Image(decode=False)``."""
    return Image().decode_example(picture) if isinstance(picture, dict) else picture


def _prefill(backbone: Any, prompts: Prompts) -> tuple[Tensor, DynamicCache]:
    """The last hidden state (U, H) and the keys and values of the prompts."""
    if prompts.features is None:
        prompts = prompts.see(backbone)
    embeddings = backbone.get_input_embeddings()(prompts.input_ids)
    pictures = (prompts.input_ids == backbone.config.image_token_id).unsqueeze(-1)
    assert prompts.features is not None
    features = torch.cat(tuple(prompts.features)).to(embeddings.dtype)
    embeddings = embeddings.masked_scatter(pictures, features)
    cache = DynamicCache(config=backbone.config.text_config)
    output = backbone.language_model(
        inputs_embeds=embeddings,
        attention_mask=prompts.attention_mask,
        position_ids=prompts.position_ids,
        past_key_values=cache,
        use_cache=True,
    )
    return output.last_hidden_state[:, -1], cache


def complete_hidden(
    backbone: Any, prompts: Prompts, group: Tensor, completion_ids: Tensor, completion_mask: Tensor
) -> Tensor:
    """The hidden states that predict each completion token, (B, C, H); ``group`` (B,) in [0, U)."""
    last, cache = _prefill(backbone, prompts)
    for layer in cache.layers:  # index_select, because its backward adds in a fixed order
        layer.keys = layer.keys.index_select(0, group)
        layer.values = layer.values.index_select(0, group)
    steps = torch.arange(completion_ids.shape[1] - 1, device=completion_ids.device)
    positions = prompts.next_position[group, None] + steps
    output = backbone.language_model(
        inputs_embeds=backbone.get_input_embeddings()(completion_ids[:, :-1]),
        attention_mask=torch.cat([prompts.attention_mask[group], completion_mask[:, :-1]], dim=1),
        position_ids=positions.expand(3, -1, -1),
        past_key_values=cache,
        use_cache=True,
    )
    return torch.cat([last[group].unsqueeze(1), output.last_hidden_state], dim=1)


def _shared_forward(
    self: Any,
    *args: Any,
    prompts: Prompts | None = None,
    group: Tensor | None = None,
    completion_ids: Tensor | None = None,
    completion_mask: Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """``Qwen2_5_VLModel.forward``, with a second form for the completions of shared prompts."""
    if prompts is None or group is None or completion_ids is None or completion_mask is None:
        return type(self).forward(self, *args, **kwargs)
    hidden = complete_hidden(self, prompts, group, completion_ids, completion_mask)
    return BaseModelOutputWithPast(last_hidden_state=hidden)


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
        """Append (U, heads, n, head size); returns all columns so far."""
        start, self._length = self._length, self._length + key_states.shape[2]
        self._keys[:, :, start : self._length] = key_states
        self._values[:, :, start : self._length] = value_states
        self.keys = self._keys[:, :, : self._length]
        self.values = self._values[:, :, : self._length]
        return self.keys, self.values


@torch.no_grad()
def sample(
    model: Qwen2_5_VLForConditionalGeneration,
    prompts: Prompts,
    group_size: int,
    max_new_tokens: int,
    end_ids: Sequence[int],
    pad_id: int,
    warp: LogitsProcessorList,
) -> list[list[list[int]]]:
    """Sample ``group_size`` completions a prompt: U lists of G lists of token ids.

    The completions of a prompt advance side by side in one row: step t appends G columns to the
    row's keys, and completion g sees the prompt and its own columns only.
    """
    backbone = model.model
    ends = torch.tensor(end_ids, device=model.device)
    last, cache = _prefill(backbone, prompts)
    cache.layers = [
        _RoomyLayer(layer.keys, layer.values, group_size * max_new_tokens) for layer in cache.layers
    ]
    rows = len(last)
    logits = model.lm_head(last).unsqueeze(1).expand(-1, group_size, -1)
    mask = prompts.attention_mask.bool()[:, None, None].expand(-1, 1, group_size, -1)
    own = torch.eye(group_size, dtype=torch.bool, device=model.device).expand(rows, 1, -1, -1)
    done = torch.zeros(rows, group_size, dtype=torch.bool, device=model.device)
    columns = []
    for step in range(max_new_tokens):
        scores = warp(None, logits.flatten(0, 1).float())
        tokens = torch.multinomial(scores.softmax(-1), 1).view(rows, group_size)
        tokens = tokens.masked_fill(done, pad_id)
        columns.append(tokens)
        done |= torch.isin(tokens, ends)
        if done.all():
            break
        mask = torch.cat([mask, own], dim=-1)
        positions = (prompts.next_position + step)[None, :, None].expand(3, -1, group_size)
        hidden = backbone.language_model(
            inputs_embeds=backbone.get_input_embeddings()(tokens),
            attention_mask={"full_attention": mask},
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits = model.lm_head(hidden)
    completions = torch.stack(columns, dim=-1)  # (U, G, C)
    ended = torch.isin(completions, ends).int()
    kept = ended.cumsum(-1) - ended == 0  # up to and with the first end
    return [
        [ids[keep].tolist() for ids, keep in zip(*group, strict=True)]
        for group in zip(completions, kept, strict=True)
    ]


class SharedPrompt:
    """Mixin for TRL's GRPOTrainer on Qwen2.5-VL, full or LoRA; ``obstacle`` says where not.

    The rows need an ``id`` that names the prompt.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As GRPOTrainer."""
        super().__init__(*args, **kwargs)
        trainer: Any = self
        for model in (trainer.model, trainer.ref_model):
            if model is not None:
                backbone = self._unwrap(model).model
                backbone.forward = types.MethodType(_shared_forward, backbone)
        self._prompts: dict[str, Prompts] = {}
        self._group = torch.empty(0)

    def _unwrap(self, model: Any) -> Any:
        model = self.accelerator.unwrap_model(model)  # type: ignore[attr-defined]
        return model.get_base_model() if is_peft_model(model) else model

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"  # type: ignore[attr-defined]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Encode each prompt once; TRL gets the rows without pictures."""
        trainer: Any = self
        rows = {row["id"]: row for row in inputs}
        numbers = {name: number for number, name in enumerate(rows)}
        backbone = self._unwrap(trainer.model).model
        prompts = Prompts.encode(list(rows.values()), backbone, trainer.processing_class)
        if not any(p.requires_grad for p in backbone.visual.parameters()):
            with torch.no_grad():
                prompts = prompts.see(backbone)
        self._prompts[self._mode] = prompts
        group = torch.tensor([numbers[row["id"]] for row in inputs], device=backbone.device)
        self._group = group
        output: dict[str, Any] = super()._generate_and_score_completions(  # type: ignore[misc]
            [{key: value for key, value in row.items() if key != "images"} for row in inputs]
        )
        return {**output, "group": group}  # TRL shuffles and splits it with the rest

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The tokens of the encoded prompts, one list a completion."""
        encoded = self._prompts[self._mode]
        masked = zip(encoded.input_ids, encoded.attention_mask.bool(), strict=True)
        tokens = [ids[mask].tolist() for ids, mask in masked]
        return [tokens[number] for number in self._group.tolist()], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], None]:
        """Sample as many completions of each prompt as the batch has rows of it."""
        trainer: Any = self
        order = self._group.tolist()
        seen: Counter[int] = Counter()
        slots = []
        for number in order:
            slots.append((number, seen[number]))
            seen[number] += 1
        completions = sample(
            self._unwrap(trainer.model),
            self._prompts[self._mode],
            max(seen.values()),
            trainer.max_completion_length,
            trainer.eos_token_ids,
            trainer.processing_class.tokenizer.pad_token_id,
            warpers(trainer.args),
        )
        return [completions[number][slot] for number, slot in slots], None

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
        group = self._group
        completion_ids = input_ids[:, -logits_to_keep:]
        completion_mask = attention_mask[:, -logits_to_keep:]
        log_probs, entropies = [], []
        size = batch_size or len(group)
        for rows in (slice(start, start + size) for start in range(0, len(group), size)):
            used, local = torch.unique(group[rows], return_inverse=True)
            with self.accelerator.autocast():  # type: ignore[attr-defined]
                output = model(
                    prompts=self._prompts[self._mode].select(used),
                    group=local,
                    completion_ids=completion_ids[rows],
                    completion_mask=completion_mask[rows],
                    shift_labels=completion_ids[rows].masked_fill(completion_mask[rows] == 0, -100),
                    fused_lm_head=True,
                )
            log_probs.append(output.log_probs)
            entropies.append(output.entropy)
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
    reasons = {
        f"{type(model).__name__} is not Qwen2.5-VL": not isinstance(
            model, Qwen2_5_VLForConditionalGeneration
        ),
        "gradient checkpointing drops the keys of the prompt": args.gradient_checkpointing,
        "FSDP or DeepSpeed": bool(args.fsdp) or args.deepspeed is not None,
        "repetition_penalty": args.repetition_penalty != 1,
        "generation_kwargs": bool(args.generation_kwargs),
        "cache_implementation": args.cache_implementation is not None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
