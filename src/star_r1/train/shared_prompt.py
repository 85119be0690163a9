"""GRPO on Qwen's vision-language models with each prompt computed once for all its completions.

All G completions of a group continue one prompt with the same pictures. TRL repeats prompt and
pictures G times, in sampling, in the reference model and in the update. Here the vision tower sees
a prompt once, sampling prefills it once (``sampling``), and the update packs it and its completions
into one row (``packed``). Everything else of TRL stays as it is, and so do the numbers:
log-probabilities and gradients equal TRL's to rounding (tests/invariants).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from accelerate.utils import gather_object, is_peft_model
from torch import Tensor
from trl import GRPOConfig
from trl.trainer.utils import split_tensor_dict

from star_r1.train.launch import Launch, read_launch
from star_r1.train.packed import pack, share
from star_r1.train.prompts import Prompt, encode, see
from star_r1.train.sampling import sample, uniforms, warpers


class SharedPrompt:
    """Mixin for TRL's GRPOTrainer, full or LoRA; ``obstacle`` says where not.

    The model is one of ``loading.TRAINABLE``. The rows need an ``id`` that names the prompt.
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
        template = trainer.chat_template_kwargs
        prompts = encode(list(rows.values()), backbone, trainer.processing_class, template)
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        if not sharded and not any(p.requires_grad for p in backbone.visual.parameters()):
            with torch.no_grad(), trainer.accelerator.autocast():  # as in the forward pass
                prompts = see(prompts, backbone)
        self._prompts[self._mode] = prompts
        self._names = [row["id"] for row in inputs]
        group = torch.tensor([numbers[name] for name in self._names], device=backbone.device)
        self._group = group
        output: dict[str, Any] = super()._generate_and_score_completions(  # type: ignore[misc]
            [{key: value for key, value in row.items() if key != "images"} for row in inputs]
        )
        if trainer.log_multimodal:
            pictures = [list(prompt.pictures) for prompt in self._of_each]
            trainer._logs["images"].extend(gather_object(pictures))
        return {**output, "group": group}  # TRL splits it with the rest

    @property
    def _of_each(self) -> list[Prompt]:
        """The prompt of each completion."""
        prompts = self._prompts[self._mode]
        return [prompts[number] for number in self._group.tolist()]

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids: Any
    ) -> Any:
        """Rewards get the pictures, in prompts and in a column, as from TRL."""
        of_each = self._of_each
        inputs = [
            {**row, "images": list(prompt.pictures)}
            for row, prompt in zip(inputs, of_each, strict=True)
        ]
        prompts = [prompt.messages for prompt in of_each]
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids)  # type: ignore[misc]

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The tokens of the encoded prompts, one list a completion."""
        return [prompt.input_ids.tolist() for prompt in self._of_each], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Sample by ``sample``, or hand vLLM the pictures too, as it encodes prompts by itself."""
        trainer: Any = self
        prompts = self._prompts[self._mode]
        if trainer.use_vllm:
            images = [list(prompt.pictures) for prompt in self._of_each]
            return super()._generate_single_turn(prompt_ids, images, *args, **kwargs)  # type: ignore[misc]
        numbers = torch.from_numpy(self._uniforms())
        model = self._unwrap(trainer.model)
        training = model.training
        model.eval()  # a checkpointed layer in training keeps no keys, and dropout is for updates
        ends, warp = trainer.eos_token_ids, warpers(trainer.args)
        try:
            with trainer.accelerator.autocast():
                completions = sample(model, prompts, self._group, numbers, ends, warp)
        finally:
            model.train(training)
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


OBSTACLES: Final[Mapping[str, Callable[[GRPOConfig], bool]]] = {
    # each token of our sampling would gather every layer
    "fsdp": lambda args: bool(args.fsdp) and not args.use_vllm,
    "deepspeed": lambda args: args.deepspeed is not None and not args.use_vllm,
    # HF generate's
    "repetition_penalty": lambda args: args.repetition_penalty != 1,
    "generation_kwargs": lambda args: bool(args.generation_kwargs) and not args.use_vllm,
    "cache_implementation": lambda args: args.cache_implementation is not None,
    # noise as large as the rows are short, and a packed row is longer than a padded one
    "neftune_noise_alpha": lambda args: args.neftune_noise_alpha is not None,
    # each packed row has a form of its own, for which it would be compiled anew
    "torch_compile": lambda args: args.torch_compile,
    # its kernels have not been tried on packed rows
    "use_liger_kernel": lambda args: args.use_liger_kernel,
    # our sampling adds probabilities up, for which CUDA has no deterministic kernel (torch 2.13)
    "full_determinism": lambda args: args.full_determinism and not args.use_vllm,
}
"""Setting of TRL -> whether it keeps prompts from being shared."""


def obstacle(args: GRPOConfig, launch: Launch | None = None) -> str | None:
    """Why prompts cannot be shared under ``args``, or None where they can.

    Args:
        args: TRL's config.
        launch: how the run is started; the default: as this process was.
    """
    launch = launch or read_launch(None, os.environ)
    if launch.division != "none" and not args.use_vllm:
        return "FSDP or DeepSpeed without vLLM"
    return next((f"--{name}" for name, holds in OBSTACLES.items() if holds(args)), None)
