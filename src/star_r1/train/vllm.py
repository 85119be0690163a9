"""Sampling with vLLM: what TRL hands it, mended so that it draws from the policy being trained."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

FORBIDDEN: Final = -100.0
"""The least bias of a logit that vLLM takes."""


def placeholders(prompt_ids: Sequence[Sequence[int]], vision_ids: Collection[int]) -> list[Any]:
    """Prompts with one placeholder a picture, as vLLM's own processor expects them.

    Args:
        prompt_ids: prompts whose placeholders are repeated, once a visual token.
        vision_ids: the ids of image and video placeholders.

    Returns:
        Lists of ids, each run of one and the same of these ids cut to its first.

    >>> placeholders([[7, 5, 5, 5, 8, 7, 5, 5, 8, 1]], {5, 6})
    [[7, 5, 8, 7, 5, 8, 1]]
    """
    return [
        [
            token
            for token, before in zip(ids, [None, *ids], strict=False)
            if token != before or token not in vision_ids
        ]
        for ids in prompt_ids
    ]


def as_seen(pictures: Sequence[Any], image_processor: Any) -> list[Any]:
    """Pictures at the size at which the processor will cut them into patches.

    vLLM makes a processor of its own from the files of the base model. It knows nothing of other
    limits of size, and resizes by another library; what fits already is left as it is by both.

    Args:
        pictures: Pillow's.
        image_processor: a Qwen-VL one, of the processor that the trainer uses.
    """
    size, found = image_processor.size, []
    for picture in pictures:
        height, width = smart_resize(
            picture.height,
            picture.width,
            image_processor.patch_size * image_processor.merge_size,
            size["shortest_edge"],
            size["longest_edge"],
        )
        fits = picture.size == (width, height)
        found.append(picture if fits else picture.resize((width, height), image_processor.resample))
    return found


class SaneVLLM:
    """Mixin for TRL's GRPOTrainer on Qwen2-VL, Qwen2.5-VL and Qwen3-VL; without vLLM it is idle.

    - A colocated vLLM gets the trainer's token ids, in which each picture's placeholder is already
      there once a visual token, and repeats the first ones again (huggingface/trl#6294, mended by
      its PR 6718; seen in TRL 1.16). A vLLM server is told where the features belong, and needs
      the ids as they are.
    - Nothing keeps vLLM from sampling a placeholder of a picture, which crashes the step
      (huggingface/trl#3847). A bias takes their probability, as ``forbid_vision_tokens`` does in
      the policy, so that log-probabilities on both sides are of one distribution.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As GRPOTrainer."""
        super().__init__(*args, **kwargs)
        trainer: Any = self
        if trainer.use_vllm:
            generation = trainer.vllm_generation
            bias = dict.fromkeys(self._vision_ids, FORBIDDEN)
            generation.generation_kwargs = {
                **generation.generation_kwargs,
                "logit_bias": bias | generation.generation_kwargs.get("logit_bias", {}),
            }

    @property
    def _vision_ids(self) -> set[int]:
        config = self.model.config  # type: ignore[attr-defined]
        return {config.image_token_id, config.video_token_id}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """As TRL's; what it returns belongs to the prompts as they came."""
        trainer: Any = self
        if trainer.use_vllm and images is not None:
            processor = trainer.processing_class.image_processor
            images = [row and as_seen(row, processor) for row in images]
            if trainer.vllm_mode == "colocate":
                prompt_ids = placeholders(prompt_ids, self._vision_ids)
        return super()._generate_single_turn(prompt_ids, images, *args, **kwargs)  # type: ignore[misc]
