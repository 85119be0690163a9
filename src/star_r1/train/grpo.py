"""``star-r1 train grpo``: the paper's GRPO, on a thin subclass of TRL's GRPOTrainer.

The paper's GRPO (arXiv 2505.15804, after arXiv 2402.03300): G completions a prompt, advantage
(r - mean) / (std + 1e-4) within the group, clipped ratio, k3 KL to the base model, no supervised
warm start. Its numbers are unpublished; the defaults here are those of Reason-RFT on the same
data (arXiv 2503.20752), which TRL shares but for the ones that ``StarGRPOConfig`` sets.

Several processes: ``torchrun --nproc_per_node 2 -m star_r1.cli train grpo ...``.
"""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from safetensors.torch import load_model, save_model
from trl import GRPOConfig
from trl.import_utils import is_vllm_available
from trl.trainer import grpo_trainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from star_r1.data.dataset import load
from star_r1.data.pictures import check_all
from star_r1.errors import UserError
from star_r1.model.template import check_settings, render
from star_r1.reward.adapters.trl import PROMPT_END, REWARDS, TrlReward, make_star_reward
from star_r1.reward.star import StarConfig
from star_r1.train import plan
from star_r1.train.arguments import StarArguments, check, default, parse, settle
from star_r1.train.checkpoints import ExactResume
from star_r1.train.evaluation import ByView, rows_to_evaluate
from star_r1.train.guards import FiniteUpdates, reward_failed
from star_r1.train.prompts import pictures_of
from star_r1.train.record import describe_training
from star_r1.train.run import run
from star_r1.train.settings import unfit
from star_r1.train.shared_prompt import SharedPrompt, obstacle
from star_r1.train.start import Start, begin
from star_r1.train.terminal import quiet, say
from star_r1.train.upstream import Plainly
from star_r1.train.vision_tokens import forbid_vision_tokens
from star_r1.train.vllm import SaneVLLM
from star_r1.tvr.answer import opened

REFERENCE: Final = "reference.safetensors"
"""In a checkpoint, where ``--sync_ref_model`` moves the reference model."""


@dataclasses.dataclass
class StarGRPOConfig(GRPOConfig):  # type: ignore[misc]
    """TRL's GRPOConfig with the paper's GRPO as the default."""

    loss_type: str = default(GRPOConfig, "loss_type", "grpo")
    beta: float = default(GRPOConfig, "beta", 0.04)
    use_bias_correction_kl: bool = default(GRPOConfig, "use_bias_correction_kl", False)
    gradient_checkpointing: bool = default(GRPOConfig, "gradient_checkpointing", False)
    logging_steps: float = default(GRPOConfig, "logging_steps", 1)
    log_completions: bool = default(GRPOConfig, "log_completions", True)
    num_completions_to_print: int | None = default(GRPOConfig, "num_completions_to_print", 0)
    save_total_limit: int | None = default(GRPOConfig, "save_total_limit", 2)
    report_to: str = default(GRPOConfig, "report_to", "tensorboard")
    disable_tqdm: bool | None = default(GRPOConfig, "disable_tqdm", True)
    logging_nan_inf_filter: bool = default(GRPOConfig, "logging_nan_inf_filter", False)
    hub_strategy: str = default(GRPOConfig, "hub_strategy", "end")
    ddp_find_unused_parameters: bool | None = default(
        GRPOConfig, "ddp_find_unused_parameters", False
    )

    def __post_init__(self) -> None:
        """As TRL, after what ``settle`` does."""
        settle(self)
        super().__post_init__()


@dataclasses.dataclass
class GRPOArguments(StarArguments):
    """``StarArguments``, and what is rewarded."""

    reward: str = dataclasses.field(
        default="star", metadata={"help": f"One of {', '.join(REWARDS)}."}
    )
    share_prompts: bool = dataclasses.field(
        default=True,
        metadata={"help": "Compute each prompt once for its group, where the settings allow it."},
    )
    max_kl: float = dataclasses.field(
        default=10.0,
        metadata={
            "help": "Stop when the logged KL to the base model, in nats a token, is above this at "
            "three logging steps in a row; 0: never. Healthy runs stay below 1."
        },
    )


RewardArguments = dataclasses.make_dataclass(
    "RewardArguments",
    [
        (
            f"reward_{field.name}",
            field.type,
            dataclasses.field(
                default=field.default,
                metadata={"help": f"StarConfig.{field.name} of the star reward."},
            ),
        )
        for field in dataclasses.fields(StarConfig)
    ],
)
"""``--reward_object 0`` and its like: each ablation of the paper is one flag."""


class EpochSampler(RepeatSampler):  # type: ignore[misc]
    """TRL's RepeatSampler with an order that follows from seed and epoch alone.

    TRL's keeps drawing from one generator, so that a run resumed in a later epoch sees that
    epoch's prompts in the order of the first (TRL 1.16).
    """

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer before each epoch."""
        if self.shuffle:
            self.generator.manual_seed((self.seed << 20) + epoch)


class StarGRPOTrainer(
    Plainly,
    SaneVLLM,
    ByView,
    FiniteUpdates,
    ExactResume,
    GRPOTrainer,  # type: ignore[misc]
):
    """GRPOTrainer that resumes exactly, never samples a vision token, and stops when it breaks."""

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        """As GRPOTrainer; ``model`` is a Qwen-VL object, which may exist in memory only."""
        forbid_vision_tokens(model)
        with _reference_of(model):
            super().__init__(model, *args, **kwargs)
        if self.ref_model is not None:
            forbid_vision_tokens(self.accelerator.unwrap_model(self.ref_model))
        for module in self.model.modules():  # of an adapter that is trained on: TRL's copy of it
            if "ref" in getattr(module, "lora_dropout", ()):
                module.lora_dropout["ref"] = torch.nn.Identity()  # drops in training mode (1.16)

    @property
    def between_rollouts(self) -> bool:
        """Whether each completion has been used as often as it will be.

        An epoch may end with an optimizer step on fewer batches, so steps do not tell.
        """
        uses = self.args.steps_per_generation * self.num_iterations
        return bool(self._step % uses == 0)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save a reference that moves with the policy too; TRL 1.16 would begin at the base."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.sync_ref_model and self.args.should_save:
            reference = self.accelerator.unwrap_model(self.ref_model)
            save_model(reference, str(Path(output_dir) / REFERENCE))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.args.sync_ref_model and checkpoint is not None:
            path = Path(checkpoint) / REFERENCE
            if not path.is_file():
                raise UserError(
                    f"{checkpoint} holds no reference model, which --sync_ref_model moves; give "
                    "another --output_dir"
                )
            load_model(self.accelerator.unwrap_model(self.ref_model), str(path))

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        sampler = super()._get_train_sampler(dataset)
        return EpochSampler(
            sampler.data_source,
            sampler.mini_repeat_count,
            sampler.batch_size,
            sampler.repeat_count,
            sampler.shuffle,
            sampler.seed,
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """With the pictures decoded, where prompts are not shared, so that they are here."""
        rows = [row | {"images": pictures_of(row)} if "images" in row else row for row in inputs]
        output: dict[str, Any] = super()._generate_and_score_completions(rows)
        return output

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids: Any
    ) -> Any:
        """Name the sample beside each completion in the table of completions, and in errors.

        Rewards and table are told what the chat template made of the prompts' end: without it
        nobody could say whether a completion keeps the format.

        Raises:
            UserError: a reward raised.
        """
        (text,) = render(self.processing_class, [prompts[0]], self.chat_template_kwargs)
        end = opened(text)
        inputs = [{**row, PROMPT_END: end} for row in inputs]
        columns = {name: [row[name] for row in inputs] for name in inputs[0]}
        for name in ("id", "answer", PROMPT_END):
            if name in columns:
                self._log_completion_extra(name, columns[name])
        try:
            return super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        except UserError:
            raise
        except Exception as error:
            columns |= {
                "prompts": prompts,
                "completions": completions,
                "completion_ids": completion_ids,
            }
            raise reward_failed(
                self.reward_func_names, self.reward_funcs, columns, self.state, error
            ) from error


class SharedPromptGRPOTrainer(SharedPrompt, StarGRPOTrainer):
    """``StarGRPOTrainer`` that computes each prompt once for all its completions."""


@contextmanager
def _reference_of(model: Any) -> Iterator[None]:
    """TRL loads the reference model from ``_name_or_path``: copy one that is on no disk."""
    if is_peft_model(model) or model.config._name_or_path:
        yield
        return
    with patch.object(
        grpo_trainer, "create_model_from_path", lambda *args, **kwargs: copy.deepcopy(model)
    ):
        yield


def reward_function(arguments: GRPOArguments, numbers: Any) -> TrlReward:
    """The reward that the flags name.

    Raises:
        UserError: no such reward; a ``--reward_*`` number without the star reward.
    """
    config = StarConfig(
        **{f.name: getattr(numbers, f"reward_{f.name}") for f in dataclasses.fields(StarConfig)}
    )
    if arguments.reward == "star":
        return make_star_reward(config)
    if arguments.reward not in REWARDS:
        raise UserError(f"--reward {arguments.reward}: choose from {', '.join(REWARDS)}")
    if config != StarConfig():
        raise UserError(f"the --reward_* numbers are the star reward's, not {arguments.reward}'s")
    return REWARDS[arguments.reward]


def prompts_of(folder: str, views: Sequence[str]) -> Dataset:
    """The rows to train on; pictures stay undecoded until their prompt is drawn."""
    rows = load(Path(folder), views=tuple(views)).select_columns(
        ["id", "images", "prompt", "answer", "changes", "vocabulary"]
    )
    check_all(rows)
    return rows


def main(argv: Sequence[str]) -> int:
    """Run ``star-r1 train grpo``; returns the exit code.

    Raises:
        UserError: anything wrong with the flags, the recipe, the data or the model.
    """
    quiet()
    prog, types = "star-r1 train grpo", (GRPOArguments, RewardArguments, StarGRPOConfig)
    if plan.asked_for(argv):
        return plan.show(prog, argv, types, StarGRPOTrainer, reward_function)
    arguments, numbers, args = parse(prog, argv, *types)
    check(arguments, args)
    if args.use_vllm and not is_vllm_available():
        raise UserError("--use_vllm: vLLM is not installed here; docs/training.md says how")
    reward = reward_function(arguments, numbers)
    with begin(arguments, args, numbers) as start:
        return _train(argv, arguments, numbers, args, reward, start)


def _train(
    argv: Sequence[str],
    arguments: GRPOArguments,
    numbers: Any,
    args: StarGRPOConfig,
    reward: TrlReward,
    start: Start,
) -> int:
    reason = obstacle(args) if arguments.share_prompts else "--share_prompts false"
    if reason:
        say(f"prompts are computed once a completion ({reason})")
    train = prompts_of(arguments.data, arguments.views)
    need = args.generation_batch_size // args.num_generations
    if len(train) < need:
        raise UserError(
            f"{arguments.data}: {len(train)} rows of view {', '.join(arguments.views)}, but one "
            f"generation batch takes {need} prompts (generation_batch_size / num_generations)"
        )
    others = rows_to_evaluate(arguments, prompts_of)
    model, processor = arguments.load()
    check_settings(processor, args.chat_template_kwargs or {})
    start = start.as_loaded(arguments.model_name_or_path)
    if why := unfit(args, model.config):
        raise UserError(why)
    trainer_class = StarGRPOTrainer if reason else SharedPromptGRPOTrainer
    trainer = trainer_class(
        model,
        reward,
        args,
        train_dataset=train,
        eval_dataset=others,
        processing_class=processor,
        peft_config=arguments.fresh_adapter(),
    )
    named = {"name": arguments.reward}
    if arguments.reward == "star":
        named |= {name.removeprefix("reward_"): number for name, number in vars(numbers).items()}
    about = describe_training(argv, arguments, args, len(train), start, named)
    return run(trainer, about, start, arguments.max_kl)
