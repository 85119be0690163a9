"""Sampling with vLLM: what TRL hands it, mended so that it draws from the policy being trained."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from accelerate.utils import is_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from trl import GRPOConfig
from trl.generation.vllm_generation import VLLMGeneration

from star_r1.errors import UserError

FORBIDDEN: Final = -100.0
"""The least bias of a logit that vLLM takes."""
WHOLE: Final = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "vllm_structured_outputs_regex": None,
}
"""Flags at the values at which every token keeps the probability that the trainer computes."""
ENDS: Final = ("stop", "stop_token_ids")
"""Keys of ``--generation_kwargs`` that only end a completion."""
OWN: Final = (
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens"),
    *("n", "seed", "logprobs", "ignore_eos", "output_kind", "flat_logprobs"),
)
"""Keys that TRL sets, or on whose default it counts: with one seed all completions of a prompt are
the same, and of several log-probabilities a token it takes the likeliest token's."""


def faults(args: GRPOConfig) -> list[str]:
    """What vLLM would sample in another way than the trainer computes it; nothing without vLLM.

    vLLM's log-probabilities are normalised over what its sampling leaves of the vocabulary, the
    trainer's over all of it. TRL's correction takes their difference for one of the policies: with
    a nucleus the loss of each completion shrinks by the product of the probabilities kept, to
    nothing after some hundred tokens (huggingface/trl#6789). The off-policy mask would drop most
    completions. With neither, a nucleus does what it does without vLLM.
    """
    if not args.use_vllm:
        return []
    kwargs = args.generation_kwargs or {}
    found = []
    if taken := [key for key in OWN if key in kwargs]:
        found.append(
            f"--generation_kwargs {', '.join(taken)}: with --use_vllm these are TRL's own; "
            "leave them out (temperature, top_p and the like have their own flags)"
        )
    altered = [name for name, whole in WHOLE.items() if (getattr(args, name) or whole) != whole]
    said = [f"--{name} {getattr(args, name)}" for name in altered]
    said += [f"--generation_kwargs {key}" for key in kwargs if key not in (*ENDS, *OWN)]
    if said and (by := " and ".join(_comparing(args))):
        found.append(
            f"{', '.join(said)} with --use_vllm: vLLM's probabilities are then those among the "
            f"tokens left, the trainer's those among all, and {by} would take the difference for "
            "one of policies; sample from the whole vocabulary (--top_p 1 --top_k 0), or do "
            f"without {by}"
        )
    return found


def _comparing(args: GRPOConfig) -> list[str]:
    """The flags under which TRL sets vLLM's log-probabilities against the trainer's."""
    flags = {
        "--vllm_importance_sampling_correction": args.vllm_importance_sampling_correction,
        "--off_policy_mask_threshold": args.off_policy_mask_threshold is not None,
    }
    return [name for name, given in flags.items() if given]


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


class FaithfulVLLM(VLLMGeneration):  # type: ignore[misc]
    """TRL's side of vLLM, on Qwen2-VL, Qwen2.5-VL and Qwen3-VL, whose numbers are the trainer's.

    - A colocated vLLM gets the trainer's token ids, in which each picture's placeholder is already
      there once a visual token, and repeats the first ones again (huggingface/trl#6294, mended by
      its PR 6718; seen in TRL 1.16). A vLLM server is told where the features belong, and needs
      the ids as they are.
    - An adapter is merged into the base in place and taken out again at each sync, which in low
      precision leaves other weights behind (huggingface/trl#6688). Here it is merged into a copy
      of one weight at a time, and the base is only read.
    - vLLM keeps the features of pictures by their hash, also when the tower that made them has
      learned (huggingface/trl#7198). They are dropped at each sync.
    """

    generation_kwargs: dict[str, Any]

    def adopt(self, args: GRPOConfig) -> None:
        """Once vLLM is there: see that it can do what is asked of it.

        Nothing keeps vLLM from sampling a placeholder of a picture, which crashes the step
        (huggingface/trl#3847). A bias takes their probability, as ``forbid_vision_tokens`` does in
        the policy, so that log-probabilities on both sides are of one distribution.

        Raises:
            UserError: an adapter that cannot be merged into a copy; a server that reports other
                probabilities than those it samples with.
        """
        config = self.model.config
        self._vision_ids = {config.image_token_id, config.video_token_id}
        given = self.generation_kwargs.get("logit_bias") or {}
        bias = {**given, **dict.fromkeys(self._vision_ids, FORBIDDEN)}
        self.generation_kwargs = {**self.generation_kwargs, "logit_bias": bias}
        if is_peft_model(self.model):
            _check_adapter(self.model, self._dist.fsdp_version)
        self._context: int | None = None
        if self.mode == "colocate":
            self._context = self.llm.llm_engine.model_config.max_model_len
        elif self.accelerator.is_main_process:
            served = self.vllm_client.get_server_info()["model_config"]
            self._context = served.get("max_model_len")
            if _comparing(args) and served["logprobs_mode"] != "processed_logprobs":
                raise UserError(
                    f"the vLLM server runs with --logprobs-mode {served['logprobs_mode']}, whose "
                    "numbers are not those that it samples with; start it with --logprobs-mode "
                    "processed_logprobs, as at the head of the recipe"
                )

    def _iter_named_params(self) -> Iterator[tuple[str, Tensor]]:
        """As TRL's, but an adapter is merged on the way and the base stays as it is."""
        if not is_peft_model(self.model):
            yield from super()._iter_named_params()
            return
        modules = dict(self.model.named_modules())
        for name, parameter in self.model.named_parameters():
            if self.model.prefix in name or "original_module" in name or ".ref." in name:
                continue
            owner = name.rpartition(".base_layer.")[0]
            layer = modules[owner] if owner else None
            needed = [parameter] if layer is None else list(layer.parameters())
            with self._dist.gather_params(needed):
                merged = self._whole(parameter)
                if layer is not None and name.endswith(".weight"):
                    for adapter in filter(layer.scaling.__contains__, layer.active_adapters):
                        delta = self._whole(layer.get_delta_weight(adapter))
                        merged = (merged + delta).to(merged.dtype)
                name = name.removeprefix("base_model.model.").replace(".base_layer", "")
                yield self._fix_param_name_to_vllm(name, ["modules_to_save.default."]), merged

    def _whole(self, tensor: Tensor) -> Tensor:
        """On this process's device, all of it, also where FSDP2 has divided it."""
        tensor = tensor.detach().to(self.accelerator.device)
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def sync_weights(self) -> None:
        """As TRL's, and vLLM forgets what it has seen with the old weights."""
        super().sync_weights()
        if self.mode == "colocate":
            self.llm.llm_engine.reset_encoder_cache()
        elif self.accelerator.is_main_process:
            client = self.vllm_client
            response = client.session.post(f"{client.base_url}/reset_encoder_cache")
            response.raise_for_status()

    def generate(
        self,
        prompts: list[list[int]],
        images: list[list[Any] | None] | None,
        num_generations: int,
        profiler: Any = None,
    ) -> Any:
        """As TRL's, with pictures and their placeholders as vLLM needs them.

        Raises:
            UserError: prompt and completion exceed vLLM's context; vLLM reads other prompts than
                the trainer.
        """
        longest = max(map(len, prompts)) + self.max_completion_length
        if self._context is not None and longest > self._context:
            raise UserError(
                f"prompt and completion take {longest} tokens, and vLLM has room for "
                f"{self._context}; raise --vllm_max_model_length (a server's --max-model-len)"
            )
        if images is not None:
            processor = self.processing_class.image_processor
            images = [row and as_seen(row, processor) for row in images]
        given = prompts
        if images is not None and self.mode == "colocate":
            given = placeholders(prompts, self._vision_ids)
        found, *rest = super().generate(given, images, num_generations, profiler)
        for ours, theirs in zip(prompts, found, strict=True):
            _check_same(len(ours), len(theirs))
        return found, *rest

    def _place_features(self, features: Any, prompt_ids: list[int]) -> Any:
        placed = super()._place_features(features, prompt_ids)
        if placed is not None:
            theirs, ours = (
                [part["length"] for part in kind["mm_placeholders"]["image"]]
                for kind in (features, placed)
            )
            _check_same(sum(ours), sum(theirs))
        return placed


def _check_adapter(model: Any, fsdp_version: int | None) -> None:
    """Raise UserError where a merged copy of a weight is more than base and a difference."""
    if fsdp_version == 1:
        raise UserError("--use_peft with --use_vllm under FSDP 1: take fsdp_version: 2, or ZeRO")
    for name, module in model.named_modules():
        plain = (
            isinstance(module, LoraLayer)
            and not module.lora_variant
            and not any(module.lora_bias.values())
        )
        if isinstance(module, BaseTunerLayer) and not plain:
            raise UserError(
                f"--use_vllm takes plain LoRA adapters only, and {name} has something else "
                "(DoRA, a bias of its own, another method); train it without --use_vllm"
            )


def _check_same(ours: int, theirs: int) -> None:
    """Raise UserError where vLLM reads a prompt of another length than the trainer."""
    if ours != theirs:
        raise UserError(
            f"vLLM makes {theirs} tokens of what the trainer makes {ours} of: its processor is the "
            "model's own, and --min_pixels or --max_pixels goes beyond the limits of that one"
        )


class SaneVLLM:
    """Mixin for TRL's GRPOTrainer: vLLM by ``FaithfulVLLM``; without vLLM it is idle."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As GRPOTrainer.

        Raises:
            UserError: vLLM cannot do what is asked of it.
        """
        super().__init__(*args, **kwargs)
        trainer: Any = self
        if trainer.use_vllm:
            trainer.vllm_generation.__class__ = FaithfulVLLM
            trainer.vllm_generation.adopt(trainer.args)
