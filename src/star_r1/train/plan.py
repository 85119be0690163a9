"""``star-r1 train ... --dry-run``: what a run would do, on what memory, and what cannot work.

Nothing is downloaded, no folder made, no weight read: the model is built without storage, from the
configuration in its folder, in the Hub's cache or known to ``model.published``.
"""

import dataclasses
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import torch
from trl import GRPOConfig
from trl.trainer.utils import RepeatSampler

from star_r1.errors import UserError
from star_r1.files import check_free
from star_r1.model.published import read_config
from star_r1.reward.adapters.trl import TrlReward
from star_r1.texts import harmless
from star_r1.train.adapters import build
from star_r1.train.arguments import faults, parse, parse_known
from star_r1.train.identity import identify
from star_r1.train.launch import Launch, read_launch
from star_r1.train.memory import (
    FREE,
    Load,
    Precision,
    count_parameters,
    estimate,
    gigabytes,
    parts,
    smallest_card,
)
from star_r1.train.rehearsal import rehearse
from star_r1.train.rows import Prompt, Rows, example_answers, measure_prompt, read_rows
from star_r1.train.settings import idle, unfit
from star_r1.train.shared_prompt import obstacle
from star_r1.train.start import HOLDS, Start, look

T = TypeVar("T")
Lines: TypeAlias = list[tuple[str, str]]
"""Name and value."""

FLAGS: Final = ("--dry-run", "--dry_run")
LAUNCHER: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""What torchrun and accelerate leave in the environment of each process."""
ANSWER_TOKENS: Final = 64
"""Of the longest completion that STAR-SFT learns: four changes between tags."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What one optimizer step takes, over all cards, and how many steps there are.

    Attributes:
        prompts: of a step.
        samples: completions of a step (GRPO), or rows (SFT).
        epoch: steps of an epoch; None where the number of rows is not known.
        steps: of the run; likewise.
    """

    prompts: int
    samples: int
    epoch: int | None
    steps: int | None


def asked_for(argv: Sequence[str]) -> bool:
    """Whether the flags of a training command ask for a plan.

    >>> asked_for(["--config", "recipes/mini-grpo.yaml", "--dry-run"])
    True
    """
    return any(word in FLAGS for word in argv)


def show(
    prog: str,
    argv: Sequence[str],
    types: Sequence[type],
    trainer_class: type,
    make_reward: Callable[..., TrlReward] | None = None,
) -> int:
    """Print the plan, or all reasons why it cannot work; returns the exit code, 0 or 2.

    Args:
        prog: the command, such as ``star-r1 train grpo``.
        argv: its flags.
        types: its dataclasses, as for ``parse``: a kind of ``StarArguments`` first, TRL's config
            last.
        trainer_class: of the run.
        make_reward: from the dataclasses to the reward, but for TRL's config; None in SFT.

    Raises:
        UserError: the flags or the recipe cannot be read.
    """
    launch = read_launch(parse_known(prog, argv, types[0])[0][0].launch, os.environ)
    with _alone():
        *given, args = parse(prog, argv, *types[:-1], _as_one_of(launch, types[-1]))
    if int(os.environ.get("RANK", "0")) > 0:
        return 0
    plan = _Plan(prog, argv, launch, given[0], given[-1], args)
    reward = None if make_reward is None else plan.attempt(make_reward, *given)
    sections = plan.sections(reward)
    if not plan.faults:  # what else there is comes in the words of others
        with _alone():
            plan.attempt(rehearse, trainer_class, given[0], args, plan.config, launch)
    if plan.faults:
        for fault in plan.faults:
            print(harmless(f"error: {fault}"), file=sys.stderr)
        return 2
    for heading, lines in sections.items():
        print(heading)
        for name, value in lines:
            print(f"  {name:<22}{value}")
    for note in plan.notes:
        print(f"note: {note}")
    return 0


def _as_one_of(launch: Launch, config: Any) -> type:
    """The config class, as each of the processes of ``launch`` has it."""

    class Planned(config):  # type: ignore[misc]
        bf16: bool | None
        world_size = launch.processes

        def __post_init__(self) -> None:
            # transformers refuses bfloat16 where there is no GPU, as where most plans are made
            self.asked_bf16 = self.bf16
            self.would_use_bf16 = self.bf16 is not False and not self.fp16 and not self.use_cpu
            if not (self.bf16 and self.fp16):  # which it refuses as well
                self.bf16 = False
            super().__post_init__()

    return Planned


@contextmanager
def _alone() -> Iterator[None]:
    """Hide the launcher, so that a config opens no connection to other processes."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name in LAUNCHER or name.startswith(("ACCELERATE_", "FSDP_"))
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


class _Plan:
    """Works out the sections; what cannot work is collected in ``faults``."""

    def __init__(
        self,
        prog: str,
        argv: Sequence[str],
        launch: Launch,
        arguments: Any,
        numbers: Any,
        args: Any,
    ) -> None:
        self.prog, self.argv, self.launch = prog, argv, launch
        self.arguments, self.numbers, self.args = arguments, numbers, args
        self.is_grpo = isinstance(args, GRPOConfig)
        self.faults = faults(arguments, args, launch)
        self.notes = idle(arguments, args)
        self.precision = Precision(getattr(torch, arguments.dtype), args.would_use_bf16)

    def attempt(self, function: Callable[..., T], *args: Any) -> T | None:
        """The result, or None and one fault more."""
        try:
            return function(*args)
        except UserError as error:
            self.faults.append(str(error))
            return None

    def sections(self, reward: TrlReward | None) -> dict[str, Lines]:
        """Heading -> lines; without those that what is wrong leaves unknown."""
        arguments = self.arguments
        recipes = _recipes(self.argv)
        rows = self.attempt(read_rows, Path(arguments.data), arguments.views, recipes)
        if arguments.eval_data:
            folder = Path(arguments.eval_data)
            others = self.attempt(read_rows, folder, arguments.views_to_evaluate, recipes)
            if others is not None and others.missing:
                self.notes.append(f"{folder} is not there yet; make it: {others.missing}")
        self.config = config = self.attempt(lambda: read_config(arguments.source, fetch=False))
        refers = self.is_grpo and self.args.beta != 0
        divided = self.launch.division != "none"
        model = None
        if config is not None:
            model = self.attempt(
                lambda: build(arguments, config, reference=refers, divided=divided)
            )
        if rows is None or config is None or model is None:
            return {}
        start = None if rows.missing else self.attempt(self._look)
        bounds = (arguments.min_pixels, arguments.max_pixels)
        template = getattr(self.args, "chat_template_kwargs", None)
        if isinstance(template, str):  # no JSON, which is among the faults
            template = None
        prompt = self.attempt(
            measure_prompt, rows, arguments.model_name_or_path, config, *bounds, template
        )
        schedule = self._schedule(rows)
        if prompt is None:
            return {}
        self._check(rows, prompt, config)
        shared = self._why_not_shared() is None if self.is_grpo else False
        found: dict[str, Lines] = {}
        if rows.missing:
            found[f"{arguments.data} is not there yet; make it: {rows.missing}"] = []
        found["Data"] = self._data(rows, prompt)
        if reward is not None:
            found["Reward"] = self._reward(reward, rows)
        found["Schedule"] = self._steps(schedule)
        if self.is_grpo:
            found["Tokens of a step, prompts and completions at their longest"] = self._tokens(
                schedule, prompt, model
            )
        found["Model"] = self._model(model, prompt)
        found["Memory of a card, estimated"] = self._memory(model, self._load(prompt, shared))
        found["Disk"] = self._disk(model, schedule)
        found["It would start"] = self._start(start)
        return found

    def _check(self, rows: Rows, prompt: Prompt, config: Any) -> None:
        """Lengths, sizes and settings that do not fit the model."""
        if why := unfit(self.args, config):
            self.faults.append(why)
        context = config.get_text_config().max_position_embeddings
        if self.is_grpo and self.args.use_vllm and self.args.vllm_max_model_length:
            context = min(context, self.args.vllm_max_model_length)
        if prompt.tokens + self._completion > context:
            self.faults.append(
                f"a prompt of {prompt.tokens} tokens and a completion of {self._completion} exceed "
                f"the context of {context}; lower --max_completion_length or --max_pixels"
            )
        limit = self.arguments.max_pixels
        if limit is not None and math.prod(rows.size) > limit:
            self.notes.append(
                "pictures of {}x{} are reduced to {} pixels (--max_pixels)".format(
                    *rows.size, limit
                )
            )

    @property
    def _completion(self) -> int:
        return int(self.args.max_completion_length) if self.is_grpo else ANSWER_TOKENS

    def _schedule(self, rows: Rows) -> Schedule:
        args, processes = self.args, self.launch.processes
        samples = args.per_device_train_batch_size * processes * args.gradient_accumulation_steps
        group = args.num_generations if self.is_grpo else 1
        epoch = None
        if rows.count is not None:
            if self.is_grpo and rows.count < (need := args.generation_batch_size // group):
                self.faults.append(
                    f"{self.arguments.data}: {rows.count} rows of view "
                    f"{', '.join(self.arguments.views)}, but one generation batch takes {need} "
                    "prompts (generation_batch_size / num_generations)"
                )
            batches = _grpo_batches if self.is_grpo else _sft_batches
            passes = batches(args, rows.count, processes)
            epoch = max(-(-passes // args.gradient_accumulation_steps), 1)
        steps: int | None = args.max_steps
        if args.max_steps <= 0:
            steps = None if epoch is None else math.ceil(args.num_train_epochs * epoch)
        return Schedule(samples // group, samples, epoch, steps)

    def _why_not_shared(self) -> str | None:
        if not self.arguments.share_prompts:
            return "--share_prompts false"
        return obstacle(self.args, self.launch)

    def _load(self, prompt: Prompt, shared: bool) -> Load:
        args, size = self.args, self.args.per_device_train_batch_size
        group = args.num_generations if shared else 1
        batch = size * args.steps_per_generation if self.is_grpo else 0
        sampled = 0 if batch and args.use_vllm else batch
        return Load(
            prompt=prompt.tokens,
            completion=self._completion,
            update_prompts=-(-size // group),
            update_completions=size,
            sample_prompts=-(-sampled // group),
            sample_completions=sampled,
            patches=prompt.patches * -(-size // group),
            held_patches=prompt.patches * -(-batch // group) * shared,
        )

    def _data(self, rows: Rows, prompt: Prompt) -> Lines:
        views = ", ".join(self.arguments.views)
        count = "unknown" if rows.count is None else f"{rows.count}"
        lines = [("folder", self.arguments.data)]
        lines += [("rows", f"{count} of view {views}{', assumed' * bool(rows.missing)}")]
        if rows.columns:
            others = {v: n for v, n in rows.views.items() if v not in self.arguments.views}
            if others:
                lines += [("rows of other views", ", ".join(f"{n} {v}" for v, n in others.items()))]
            lines += [("columns", ", ".join(rows.columns))]
        if self.args.eval_strategy != "no":
            evaluated = ", ".join(self.arguments.views_to_evaluate)
            lines += [("evaluated on", f"view {evaluated} of {self.arguments.eval_data}")]
        lines += [("pictures", "{} x {} pixels".format(*rows.size))]
        return [*lines, ("longest prompt", f"{prompt.tokens} tokens, {prompt.how}")]

    def _reward(self, reward: TrlReward, rows: Rows) -> Lines:
        row = rows.example
        columns: dict[str, Any] = {
            name: [row[name]] for name in ("id", "changes", "vocabulary") if name in row
        }
        lines = [("name", self.arguments.reward)]
        if self.arguments.reward == "star":
            numbers = dataclasses.asdict(self.numbers).items()
            said = ", ".join(f"{name.removeprefix('reward_')} {value}" for name, value in numbers)
            lines += [("numbers", said)]
        lines += [("example", f"{row.get('id', 'made up')}, {row['answer'] or 'none'}")]
        for name, answer in example_answers(row).items():
            completion = f"<think></think><answer>{answer}</answer>"
            (score,) = reward(completions=[completion], answer=[row["answer"]], **columns)
            lines += [(name, f"{score:+.2f}")]
        return lines

    def _steps(self, schedule: Schedule) -> Lines:
        args, launch = self.args, self.launch
        machines = f" on {launch.machines} machines" if launch.machines > 1 else ""
        lines = [("processes", f"{launch.processes}{machines}")]
        if self.is_grpo:
            group, batch = args.num_generations, args.generation_batch_size
            lines += [
                ("a step", f"{schedule.prompts} prompts x {group} completions"),
                ("sampled at once", f"{batch // group} prompts x {group} completions"),
            ]
        else:
            lines += [("a step", f"{schedule.samples} rows")]
        if schedule.epoch is not None:
            lines += [("an epoch", f"{schedule.epoch} steps")]
        if schedule.steps is None:
            return [*lines, ("steps", f"{args.num_train_epochs:g} epochs of rows not there yet")]
        warmup = args.get_warmup_steps(schedule.steps)
        return [
            *lines,
            ("steps", f"{schedule.steps}"),
            (
                "learning rate",
                f"{args.learning_rate:g}, {args.lr_scheduler_type.value}, {warmup} of warm-up",
            ),
        ]

    def _tokens(self, schedule: Schedule, prompt: Prompt, model: Any) -> Lines:
        said = schedule.samples * self._completion
        shared = schedule.prompts * prompt.tokens + said
        plain = schedule.samples * prompt.tokens + said
        reason = self._why_not_shared()
        return [
            ("sampled", f"{said}"),
            ("prompts repeated", f"{plain}"),
            ("prompts shared", f"{shared}, {plain / shared:.2f} times fewer"),
            ("are they shared", "yes" if reason is None else f"no: {reason}"),
        ]

    def _model(self, model: Any, prompt: Prompt) -> Lines:
        arguments = self.arguments
        trained, frozen = count_parameters(model)
        how = "all but the vision tower" if arguments.freeze_vision else "all"
        source, adapter = arguments.source, arguments.adapter()
        if adapter is not None:
            where = adapter.target_modules
            on = where if isinstance(where, str) else ", ".join(sorted(where or ()))
            how = f"LoRA of rank {adapter.r} on {on}"
        name = arguments.model_name_or_path
        if source.adapter is not None:
            goes_on = "an adapter, trained on" if adapter else "an adapter, merged"
            name += f": {goes_on}, of {source.base}"
        return [
            ("name", name),
            ("parameters", f"{trained + frozen}"),
            ("trained", f"{trained}, {how}"),
            ("think block", _think_block(prompt.begun)),
        ]

    def _memory(self, model: Any, load: Load) -> Lines:
        args, launch = self.args, self.launch
        low = self.precision.weights.itemsize == 2 and launch.division == "none"
        if low and not self.arguments.use_peft:
            self.notes.append(
                f"weights in {self.arguments.dtype} without float32 copies, which ZeRO and FSDP "
                f"keep, round updates of {args.learning_rate:g} away; use --dtype float32"
            )
        memory = estimate(
            model,
            load,
            self.precision,
            launch,
            optimizer=str(getattr(args.optim, "value", args.optim)),
            reference=self.is_grpo and args.beta != 0 and not self.arguments.use_peft,
            checkpointing=bool(args.activation_checkpointing),
            nucleus=self.is_grpo and (args.top_p < 1 or bool(args.top_k)),
        )
        lines = [(name, gigabytes(size)) for name, size in parts(memory)]
        lines += [("at the peak", gigabytes(memory.peak))]
        names = {"none": "no", "fsdp": "by FSDP"}
        divided = names.get(launch.division, f"by ZeRO-{launch.division[-1]}")
        lines += [("divided", divided)]
        share, beside = 0.0, 0
        if self.is_grpo and args.use_vllm:
            if args.vllm_mode == "colocate":
                share = args.vllm_gpu_memory_utilization
                beside = 2 * sum(count_parameters(_base(model))) // args.vllm_tensor_parallel_size
            took = f"{share:.0%} of the card, its weights {gigabytes(beside)}"
            lines += [("vLLM", took if share else "on cards of its own")]
            if not torch.cuda.is_available():
                self.notes.append("--use_vllm: the run needs vLLM and GPUs; neither is looked for")
        if args.use_cpu:
            return lines
        card = smallest_card(memory.peak, share, beside)
        enough = f"a card of {card} GB, with {FREE:.0%} left free"
        return [*lines, ("enough", "no usual card" if card is None else enough)]

    def _disk(self, model: Any, schedule: Schedule) -> Lines:
        args, adapter = self.args, self.arguments.use_peft
        trained, frozen = count_parameters(model)
        divided = self.launch.division
        wide = adapter or (divided == "fsdp" and self.precision.bf16)
        weight = 4 if wide else self.precision.weights.itemsize
        states = 2 * weight
        if divided.startswith("zero") and self.precision.bf16:  # DeepSpeed's float32 masters too
            weight, states = 2, 12
        model_bytes = weight * (trained if adapter else trained + frozen)
        checkpoint = model_bytes + (0 if args.save_only_model else states * trained)
        if self.is_grpo and args.sync_ref_model:  # the reference that moves, too
            checkpoint += model_bytes
        strategy = args.save_strategy.value
        if strategy == "no":
            return [("checkpoints", "none"), ("the model", gigabytes(model_bytes))]
        every = strategy
        if strategy == "steps":
            steps = args.save_steps
            count = math.ceil(steps * (schedule.steps or 0)) if steps < 1 else int(steps)
            every = f"{count} steps"
        lines = [("a checkpoint", gigabytes(checkpoint)), ("saved every", every)]
        if args.save_total_limit:  # one more is there while the oldest has not gone
            whole = (args.save_total_limit + 1) * checkpoint + model_bytes
            lines += [("at most", f"{gigabytes(whole)} with the trained model")]
        return lines

    def _look(self) -> Start | None:
        """What the run would find in its folder; None where it has none."""
        if not self.args.output_dir:
            return None
        folder = Path(self.args.output_dir)
        check_free(folder, *HOLDS)
        return look(self.arguments, self.args, self._identity)

    def _identity(self) -> dict[str, Any]:
        numbers = self.numbers if self.is_grpo else None
        found = identify(self.arguments, self.args, numbers, self.launch)
        asked = self.args.asked_bf16
        if asked is None and not torch.cuda.is_available():
            del found["bf16"]  # the machine of the run decides
        else:
            found["bf16"] = not self.args.fp16 if asked is None else asked
        return found

    def _start(self, begins: Start | None) -> Lines:
        words = [word for word in self.argv if word not in FLAGS]
        lines = [("command", shlex.join([*self.prog.split(), *words]))]
        if (launch := self.launch).processes > 1:
            config = f"--config_file {self.arguments.launch}" if self.arguments.launch else ""
            start = f"accelerate launch {config} --num_processes {launch.processes} -m star_r1.cli"
            lines = [("command", shlex.join([*start.split(), *self.prog.split()[1:], *words]))]
        if self.args.output_dir:
            lines += [("folder", self.args.output_dir)]
        if begins is None:
            return lines
        self.notes += begins.notes
        if begins.aside:
            lines += [("the run there", f"is moved to {begins.aside}")]
        if begins.done is not None:
            lines += [("nothing to do", f"all {begins.done} steps are done")]
        elif begins.checkpoint:
            lines += [("goes on from", f"{begins.checkpoint}")]
        return lines


def _think_block(begun: str | None) -> str:
    """Who begins it: the format is judged together with what the chat template wrote."""
    if begun is None:
        return "unknown: the chat template is not at hand"
    if not begun:
        return "begun by the model"
    if "</think>" in begun:
        return "an empty one is written by the chat template"
    return "begun by the chat template, to be closed by the model"


def _base(model: Any) -> Any:
    return model.get_base_model() if getattr(model, "peft_config", None) else model


def _recipes(argv: Sequence[str]) -> Path:
    """Where the recipes of data are: beside the recipe, or where the project has them."""
    words = [part for word in argv for part in word.split("=", 1)]
    config = words[words.index("--config") + 1] if "--config" in words else "recipes/none.yaml"
    return Path(config).parent / "data"


def _grpo_batches(args: GRPOConfig, count: int, processes: int) -> int:
    """Forward and backward passes of one process in an epoch, by TRL's own sampler."""
    sampler = RepeatSampler(
        range(count),
        mini_repeat_count=args.num_generations,
        batch_size=args.generation_batch_size // args.num_generations,
        repeat_count=args.num_iterations * args.steps_per_generation,
    )
    batch = args.per_device_train_batch_size * args.steps_per_generation
    return int(len(sampler) // (batch * processes))


def _sft_batches(args: Any, count: int, processes: int) -> int:
    """Forward and backward passes of one process in an epoch."""
    size = args.per_device_train_batch_size
    batches: int = count // size if args.dataloader_drop_last else -(-count // size)
    return -(-batches // processes)
