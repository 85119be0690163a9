"""The start of a run, up to its first step, on a model too small to matter: what would be refused.

TRL and the libraries below it check settings where they use them: in the config, in the trainer, in
the optimizer, in the loaders of data. So a dry run goes through all of it, in the run's classes.
"""

import copy
import tempfile
from io import BytesIO
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoModelForImageTextToText, TrainerCallback
from trl import GRPOConfig

from star_r1.model.processor import build_processor
from star_r1.model.published import shrink
from star_r1.train.adapters import LORA
from star_r1.train.launch import Launch


class _Ready(Exception):
    """All is set up."""


class _Curtain(TrainerCallback):  # type: ignore[misc]
    """Ends a rehearsal where the first step would begin, before anything is reported."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise _Ready


def rehearse(trainer_class: Any, arguments: Any, args: Any, config: Any, launch: Launch) -> None:
    """Set up a run in this process; nothing is kept, downloaded or reported.

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
        trainer.callback_handler.callbacks.insert(0, _Curtain())
        try:
            trainer.train()
        except _Ready:
            return


def _alone(args: Any, folder: str) -> Any:
    """The settings without what reaches beyond this process."""
    args = copy.copy(args)
    args.output_dir, args.push_to_hub, args.use_vllm, args._n_gpu = folder, False, False, 1
    args.fp16 = args.fp16 and (args.use_cpu or torch.cuda.is_available())
    return args


def _build(trainer_class: Any, arguments: Any, args: Any, config: Any) -> Any:
    tiny = shrink(config, config.get_text_config().vocab_size)
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
        processing_class=build_processor(),
        peft_config=adapter,
    )


def _nothing(completions: Any, **columns: Any) -> list[float]:
    return [0.0] * len(completions)


def _rows(count: int) -> Dataset:
    png = BytesIO()
    Image.new("RGB", (56, 56)).save(png, "PNG")
    picture = {"bytes": png.getvalue(), "path": None}
    pictures = [{"type": "image", "text": None}] * 2
    said = {"role": "assistant", "content": [{"type": "text", "text": "none"}]}
    row = {
        "id": "0",
        "images": [picture, picture],
        "prompt": [{"role": "user", "content": [*pictures, {"type": "text", "text": "?"}]}],
        "completion": [said],
        "answer": "none",
    }
    return Dataset.from_list([row] * count)
