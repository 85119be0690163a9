"""One arm in a process of its own: TRL's training loop, a step at each question."""

import copy
import gc
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer import grpo_trainer

from grpo_step.case import ARMS, SEED, Case
from grpo_step.shapes import build, write_data
from star_r1.model.published import parameter_count
from star_r1.reward.adapters.trl import star_reward
from star_r1.train.grpo import (
    SharedPromptGRPOTrainer,
    StarGRPOConfig,
    StarGRPOTrainer,
    prompts_of,
)
from star_r1.train.vision_tokens import NEVER

TRAINERS = dict(zip(ARMS, (StarGRPOTrainer, SharedPromptGRPOTrainer), strict=True))


def serve(connection: Connection, arm: str, folder: Path, threads: int) -> None:
    """Run cases until None comes, or memory does not suffice: a new process starts clean.

    A case is answered when it is ready for its first step.
    """
    torch.set_num_threads(threads)
    while (case := connection.recv()) is not None:
        try:
            _train(connection, arm, case, folder)
        except torch.OutOfMemoryError:
            connection.send({"error": "out of memory"})
            return
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _train(connection: Connection, arm: str, case: Case, folder: Path) -> None:
    data = folder / f"{arm}-{case.pictures[0]}"
    if not data.exists():
        write_data(data, case)
    rows = prompts_of(str(data), ["center"])
    model, processor = build(case, rows)
    args = StarGRPOConfig(
        str(folder / "out"),
        per_device_train_batch_size=case.prompts * case.group,
        num_generations=case.group,
        max_completion_length=case.length,
        max_steps=len(case.steps),
        gradient_checkpointing=case.checkpointing,
        bf16=not case.on_cpu,
        use_cpu=case.on_cpu,
        log_completions=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        seed=SEED,
    )
    with _reference_in_memory(model):
        trainer = TRAINERS[arm](
            model, star_reward, args, train_dataset=rows, processing_class=processor
        )
    if not case.free:
        _never_end(trainer)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Meter(trainer, connection, case))
    connection.send(_sizes(trainer, case))
    trainer.train()


class _Meter(TrainerCallback):  # type: ignore[misc]
    """Waits for the question before each step, and answers what the step cost."""

    def __init__(self, trainer: Any, connection: Connection, case: Case) -> None:
        self._trainer, self._connection, self._case = trainer, connection, case
        self._draw = trainer._generate_single_turn
        self._score = trainer._generate_and_score_completions
        trainer._generate_single_turn = self._completions
        trainer._generate_and_score_completions = self._checked
        self._kind = ""
        self._cost: dict[str, float] = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait; then the clock starts."""
        if not self._case.on_cpu:  # so that what the update adds to what is there is activations
            for parameter in self._trainer.model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
        self._kind = self._connection.recv()
        _forget_peak()
        self._cost = {"resident": _allocated()}
        self._begun = _clocks()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The optimizer's own temporaries are no activations."""
        self._cost["update_peak"] = _peak()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Answer."""
        self._cost |= _since(self._begun, "step")
        self._connection.send(self._cost)

    def _completions(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        """In the place of the trainer's method: the same, timed, or random tokens."""
        begun = _clocks()
        if self._kind == "sampled":
            result = self._draw(prompt_ids, *args, **kwargs)
        else:
            shape = (len(prompt_ids), self._case.length)
            result = np.random.default_rng(SEED).integers(100, 200, shape).tolist(), None
        self._cost |= _since(begun, "sampling")
        self._cost["sampling_peak"] = _peak()
        _forget_peak()
        return result

    def _checked(self, inputs: Any) -> Any:
        """Both arms must work on completions of the same length."""
        output = self._score(inputs)
        lengths = output["completion_mask"].sum(1)
        assert self._case.free or (lengths == self._case.length).all(), lengths
        self._cost["length"] = lengths.float().mean().item()
        return output


def _clocks() -> tuple[float, float]:
    """Seconds on the wall, and of the processor."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def _since(begun: tuple[float, float], part: str) -> dict[str, float]:
    wall, cpu = (now - then for now, then in zip(_clocks(), begun, strict=True))
    return {part: wall, f"{part}_cpu": cpu}


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _allocated() -> int:
    """Bytes held: on the GPU now, else the most by this process so far."""
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else _peak()


def _peak() -> int:
    """The most bytes held: on the GPU since ``_forget_peak``, else by this process ever."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def _reference_in_memory(model: Any) -> Iterator[None]:
    """The reference model is a copy; TRL would read it from disk, which takes a minute for 7B."""
    before, reference = grpo_trainer.create_model_from_path, copy.deepcopy(model)
    grpo_trainer.create_model_from_path = lambda *args, **kwargs: reference
    model.config._name_or_path = model.config._name_or_path or "in memory"
    try:
        yield
    finally:
        grpo_trainer.create_model_from_path = before


def _never_end(trainer: Any) -> None:
    """Take all probability from the tokens that end a completion, as from the vision tokens."""
    pad = trainer.processing_class.tokenizer.pad_token_id
    for model in (trainer.model, trainer.ref_model):
        bias = trainer.accelerator.unwrap_model(model).get_output_embeddings().bias
        bias[[*trainer.eos_token_ids, pad]] = NEVER


def _sizes(trainer: Any, case: Case) -> dict[str, Any]:
    """Of the model, and of each prompt: tokens in all, and patches of its pictures."""
    processor = trainer.processing_class
    batches = []
    for row in trainer.train_dataset:
        text = processor.apply_chat_template(
            row["prompt"], add_generation_prompt=True, tokenize=False
        )
        pictures = [Image.new("RGB", case.pictures)] * len(row["images"])
        batches.append(processor(images=[pictures], text=[text], return_tensors="pt"))
    config = trainer.accelerator.unwrap_model(trainer.model).config
    count = parameter_count(config)
    text_config = config.text_config
    heads = text_config.num_attention_heads
    head_width = getattr(text_config, "head_dim", None) or text_config.hidden_size // heads
    return {
        "parameters": {
            "vision": count.vision,
            "language": count.language,
            "embeddings": count.embeddings,
            "output layer": text_config.vocab_size * text_config.hidden_size,
        },
        "attention_width": text_config.num_hidden_layers * heads * head_width,
        "prompt_tokens": [batch["input_ids"].shape[1] for batch in batches],
        "prompt_patches": [int(batch["image_grid_thw"].prod(-1).sum()) for batch in batches],
    }
