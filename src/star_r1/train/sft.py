"""``star-r1 train sft``: STAR-SFT, the paper's baseline, supervised on the answers alone.

The paper gives no reasoning to imitate in this baseline, so the completion is an empty think block
and the true answer: ``<think></think><answer>2.color.cyan</answer>``. That keeps the answer
grammar, and so the evaluation, the same as for GRPO. The loss covers the completion only.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from trl import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from star_r1.data.dataset import load
from star_r1.data.pictures import check_all, read_pair
from star_r1.model.template import render
from star_r1.train import plan
from star_r1.train.arguments import StarArguments, check, default, parse, settle
from star_r1.train.checkpoints import ExactResume
from star_r1.train.evaluation import ByView, rows_to_evaluate
from star_r1.train.guards import FiniteUpdates
from star_r1.train.record import describe_training
from star_r1.train.run import run
from star_r1.train.start import Start, begin
from star_r1.train.terminal import quiet
from star_r1.train.upstream import Plainly
from star_r1.tvr.answer import opened


@dataclasses.dataclass
class StarSFTConfig(SFTConfig):  # type: ignore[misc]
    """TRL's SFTConfig with exact resume and nothing cut off as the default."""

    completion_only_loss: bool | None = default(SFTConfig, "completion_only_loss", True)
    max_length: int | None = default(SFTConfig, "max_length", None)
    pad_to_multiple_of: int | str | None = default(SFTConfig, "pad_to_multiple_of", None)
    gradient_checkpointing: bool = default(SFTConfig, "gradient_checkpointing", False)
    logging_steps: float = default(SFTConfig, "logging_steps", 1)
    save_total_limit: int | None = default(SFTConfig, "save_total_limit", 2)
    report_to: str = default(SFTConfig, "report_to", "tensorboard")
    disable_tqdm: bool | None = default(SFTConfig, "disable_tqdm", True)
    logging_nan_inf_filter: bool = default(SFTConfig, "logging_nan_inf_filter", False)
    hub_strategy: str = default(SFTConfig, "hub_strategy", "end")

    def __post_init__(self) -> None:
        """As TRL, after what ``settle`` does."""
        settle(self)
        super().__post_init__()


@dataclasses.dataclass
class _Seeing:
    """``collate`` with the pictures decoded here, where a broken one still has its row."""

    collate: Callable[[list[dict[str, Any]]], Any]

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        return self.collate([row | {"images": read_pair(row)} for row in rows])


class StarSFTTrainer(Plainly, ByView, FiniteUpdates, ExactResume, SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that resumes exactly, and stops when it breaks.

    Its rows hold pictures undecoded, and their ``id``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As SFTTrainer."""
        super().__init__(*args, **kwargs)
        trainer: Any = self
        trainer.data_collator = _Seeing(trainer.data_collator)

    def _set_signature_columns_if_needed(self) -> None:
        """Also the id stays in the rows."""
        super()._set_signature_columns_if_needed()
        if "id" not in self._signature_columns:
            self._signature_columns.append("id")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Also go on counting tokens where the run left off; TRL 1.16 starts again from zero."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
        counts = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
        self._total_train_tokens = counts[-1] if counts else 0


def answers_of(folder: str, views: Sequence[str]) -> Dataset:
    """Rows of ``id``, ``images``, ``prompt`` and ``answer``."""
    columns = ["id", "images", "prompt", "answer"]
    rows = load(Path(folder), views=tuple(views)).select_columns(columns)
    check_all(rows)
    return rows


def teach(rows: Dataset, processor: Any) -> Dataset:
    """Rows of ``images``, ``prompt`` and the ``completion`` to learn.

    TRL learns what the chat template makes of prompt and completion beyond what it makes of the
    prompt alone. So a think block that the template begins is repeated to the letter, and learned
    is only how it goes on.
    """
    (text,) = render(processor, rows.select_columns("prompt")[:1]["prompt"])
    begun = opened(text) or "<think>"
    block = begun if "</think>" in begun else f"{begun}</think>"

    def completion(row: dict[str, Any]) -> dict[str, Any]:
        text = f"{block}<answer>{row['answer']}</answer>"
        return {"completion": [{"role": "assistant", "content": [{"type": "text", "text": text}]}]}

    return rows.map(completion, remove_columns=["answer"], load_from_cache_file=False)


def main(argv: Sequence[str]) -> int:
    """Run ``star-r1 train sft``; returns the exit code.

    Raises:
        UserError: anything wrong with the flags, the recipe, the data or the model.
    """
    quiet()
    prog, types = "star-r1 train sft", (StarArguments, StarSFTConfig)
    if plan.asked_for(argv):
        return plan.show(prog, argv, types, StarSFTTrainer)
    arguments, args = parse(prog, argv, *types)
    check(arguments, args)
    with begin(arguments, args) as start:
        return _train(argv, arguments, args, start)


def _train(argv: Sequence[str], arguments: StarArguments, args: StarSFTConfig, start: Start) -> int:
    train = answers_of(arguments.data, arguments.views)
    others = rows_to_evaluate(arguments, answers_of)
    model, processor = arguments.load()
    if isinstance(others, dict):
        others = {view: teach(rows, processor) for view, rows in others.items()}
    elif others is not None:
        others = teach(others, processor)
    start = start.as_loaded(arguments.model_name_or_path)
    trainer = StarSFTTrainer(
        model,
        args,
        train_dataset=teach(train, processor),
        eval_dataset=others,
        processing_class=processor,
        peft_config=arguments.fresh_adapter(),
    )
    about = describe_training(argv, arguments, args, len(train), start)
    return run(trainer, about, start)
