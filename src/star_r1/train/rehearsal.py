"""The first step of a run, on a model too small to matter: what would be refused.

TRL and the libraries below it check settings where they use them: in the config, in the trainer, in
the optimizer, in the loss. So a dry run goes through all of it, in the run's classes.
"""

import copy
import tempfile
from io import BytesIO
from typing import Any, Final

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoModelForImageTextToText, TrainerCallback
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from trl import GRPOConfig

from star_r1.model.processor import build_processor
from star_r1.model.published import shrink
from star_r1.train.adapters import LORA
from star_r1.train.launch import Launch

SIDE: Final = 64
"""Of a picture, in pixels."""


class _Done(Exception):
    """The step is taken."""


class _Curtain(TrainerCallback):  # type: ignore[misc]
    """Ends a rehearsal after the first step, before anything is saved or reported."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise _Done


def rehearse(trainer_class: Any, arguments: Any, args: Any, config: Any, launch: Launch) -> None:
    """Set up a run in this process, and take a step; nothing is kept, downloaded or reported.

    What divides a model (``launch``) and vLLM are left out: they need the machine of the run.

    Args:
        trainer_class: of the run.
        arguments: ``StarArguments``.
        args: TRL's config.
        config: of the model.
        launch: the processes.

    Raises:
        UserError: upstream refuses something.
    """
    if launch.division != "none" or args.fsdp or args.deepspeed:
        return
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        trainer = _build(trainer_class, arguments, _alone(args, folder), config)
        callbacks = trainer.callback_handler.callbacks
        reporting = [c for c in callbacks if "integrations" in type(c).__module__]
        callbacks[:] = [_Curtain(), *(c for c in callbacks if c not in reporting)]
        try:
            trainer.train()
        except _Done:
            return


def _alone(args: Any, folder: str) -> Any:
    """The settings without what reaches beyond this process."""
    args = copy.copy(args)
    args.output_dir, args.push_to_hub, args.use_vllm, args._n_gpu = folder, False, False, 1
    args.eval_on_start, args.torch_compile, args.max_completion_length = False, False, 2
    args.dataloader_pin_memory = False  # without a card torch warns of it
    if args.dataloader_num_workers:  # processes that take longer to start than all else
        args.dataloader_num_workers, args.dataloader_prefetch_factor = 0, None
        args.dataloader_persistent_workers = False
    args.fp16 = args.fp16 and (args.use_cpu or torch.cuda.is_available())
    return args


def _build(trainer_class: Any, arguments: Any, args: Any, config: Any) -> Any:
    processor = build_processor()
    vision = config.vision_config
    processor.image_processor = Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        min_pixels=1,
        max_pixels=SIDE * SIDE,
    )
    tiny = shrink(config, len(processor.tokenizer))
    for name in ("vision_start", "vision_end", "image_pad", "video_pad"):
        token = processor.tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        setattr(tiny, f"{name.removesuffix('_pad')}_token_id", token)
    model = AutoModelForImageTextToText.from_config(tiny)
    adapter = None
    if arguments.use_peft:
        adapter = LoraConfig(task_type="CAUSAL_LM", target_modules=LORA["lora_target_modules"])
        if arguments.source.adapter is not None:
            model, adapter = get_peft_model(model, adapter), None
    is_grpo = isinstance(args, GRPOConfig)
    rows = _rows(args.generation_batch_size if is_grpo else args.per_device_train_batch_size)
    given = (model, _nothing, args) if is_grpo else (model, args)
    return trainer_class(
        *given,
        train_dataset=rows,
        eval_dataset=rows if arguments.eval_data else None,
        processing_class=processor,
        peft_config=adapter,
    )


def _nothing(completions: Any, **columns: Any) -> list[float]:
    return [0.0] * len(completions)


def _rows(count: int) -> Dataset:
    png = BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(png, "PNG")
    picture = {"bytes": png.getvalue(), "path": None}
    pictures = [{"type": "image", "text": None}] * 2
    said = {"role": "assistant", "content": [{"type": "text", "text": "none"}]}
    row = {
        "images": [picture, picture],
        "prompt": [{"role": "user", "content": [*pictures, {"type": "text", "text": "?"}]}],
        "completion": [said],
        "answer": "none",
    }
    return Dataset.from_list([row | {"id": str(number)} for number in range(count)])
