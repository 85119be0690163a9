"""Flags and recipes of the training commands, read by TRL's parser, with errors in one line."""

import dataclasses
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import torch
from peft import LoraConfig
from trl import TrlParser

from star_r1.data.manifest import holds_dataset
from star_r1.errors import UserError
from star_r1.model.source import Source, find_model
from star_r1.train.adapters import LORA, configure, load
from star_r1.train.checkpoints import COMPLETE
from star_r1.train.launch import Launch, read_launch, started_otherwise
from star_r1.train.numbers import check_numbers
from star_r1.train.record import TRAINING
from star_r1.train.settings import idle, refusals
from star_r1.train.terminal import say
from star_r1.train.upstream import plainly
from star_r1.tvr.vocabulary import camera_position
from star_r1.yaml_file import read_yaml


def _of_adapter(name: str, what: str) -> Any:
    """A field that is None where the flag is not given: an adapter in --model may decide."""
    said = f"{what}; the default: that of the adapter in --model, else {LORA[name]}."
    return dataclasses.field(default=None, metadata={"help": said})


@dataclasses.dataclass
class StarArguments:
    """What is trained on what; the other flags are those of TRL's config."""

    model_name_or_path: str = dataclasses.field(
        default="mini",
        metadata={
            "aliases": ["--model"],
            "help": "Folder or Hub name of a model or of a LoRA adapter, or 'mini', the embedded "
            "model.",
        },
    )
    dtype: str = dataclasses.field(
        default="float32",
        metadata={"choices": ["float32", "bfloat16", "float16"], "help": "Of the weights."},
    )
    attn_implementation: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Attention of the model: sdpa (transformers' choice), flash_attention_2, ... "
            "Shared prompts keep their own for the language model."
        },
    )
    min_pixels: int | None = dataclasses.field(
        default=None, metadata={"help": "Smaller pictures are enlarged; the default: the model's."}
    )
    max_pixels: int | None = dataclasses.field(
        default=None, metadata={"help": "Larger pictures are reduced; the default: the model's."}
    )
    data: str = dataclasses.field(
        default="", metadata={"help": "Folder that 'star-r1 generate' wrote; required."}
    )
    views: list[str] = dataclasses.field(
        default_factory=lambda: ["center"],
        metadata={"help": "Views of the final picture to train on; the paper: center."},
    )
    eval_data: str | None = dataclasses.field(
        default=None, metadata={"help": "Folder to evaluate on while training (--eval_strategy)."}
    )
    eval_views: list[str] | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Views to evaluate on, such as center left right, each with curves of its own; "
            "the default: --views."
        },
    )
    freeze_vision: bool = dataclasses.field(
        default=True, metadata={"help": "Keep the vision tower and its merger as they are."}
    )
    use_peft: bool = dataclasses.field(
        default=False,
        metadata={"help": "Train a LoRA adapter: a fresh one, or that in --model goes on."},
    )
    lora_r: int | None = _of_adapter("lora_r", "Rank of the adapter")
    lora_alpha: int | None = _of_adapter("lora_alpha", "Scale of the adapter")
    lora_dropout: float | None = _of_adapter("lora_dropout", "In the adapter (0 in one of --model)")
    lora_target_modules: str | None = _of_adapter(
        "lora_target_modules", "Regular expression of the modules that get an adapter"
    )
    launch: str | None = dataclasses.field(
        default=None,
        metadata={"help": "The accelerate config to start it with; what --dry-run counts on."},
    )
    dry_run: bool = dataclasses.field(
        default=False,
        metadata={"help": "Show data, schedule and memory, and what cannot work; start nothing."},
    )
    restart: bool = dataclasses.field(
        default=False,
        metadata={"help": "Move the run in --output_dir aside, and begin anew there."},
    )
    threads: int | None = dataclasses.field(
        default=None, metadata={"help": "CPU threads of torch; the default is torch's own choice."}
    )

    def __post_init__(self) -> None:
        """Check what argparse cannot.

        Raises:
            UserError: no data, an unknown view or one given twice, a number that cannot be.
        """
        if not self.data:
            raise UserError("no --data; give a folder that 'star-r1 generate' wrote")
        check_numbers(self)
        for flag, views in (("--views", self.views), ("--eval_views", self.eval_views or [])):
            if isinstance(views, str) or len(set(views)) < len(views):
                raise UserError(f"{flag} {views}: give a list of views, each once")
            for view in views:
                try:
                    camera_position(view)
                except ValueError as error:
                    raise UserError(f"{flag}: {error}") from None
        if self.threads is not None:
            torch.set_num_threads(self.threads)

    @property
    def views_to_evaluate(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(self.eval_views or self.views))

    @property
    def source(self) -> Source:
        """What the run starts from; a dry run downloads nothing.

        Raises:
            UserError: it is not there.
        """
        return find_model(self.model_name_or_path, fetch=not self.dry_run)

    def load(self) -> tuple[Any, Any]:
        """The model that is trained, its vision tower frozen if so asked, and its processor.

        Raises:
            UserError: they are not there, do not load, or cannot be trained so.
        """
        return load(self)

    def adapter(self) -> LoraConfig | None:
        """The LoRA adapter that is trained, or None where all parameters are.

        Raises:
            UserError: the flags contradict the adapter that the run starts from.
        """
        return configure(self)

    def lora(self) -> dict[str, Any]:
        """The LoRA flags as they are obeyed; nothing where there is no adapter to train.

        Raises:
            UserError: as ``adapter``.
        """
        config = self.adapter()
        if config is None:
            return {}
        targets = config.target_modules
        if not isinstance(targets, str):
            targets = sorted(targets or ())
        return dict(
            zip(LORA, (config.r, config.lora_alpha, config.lora_dropout, targets), strict=True)
        )

    def fresh_adapter(self) -> LoraConfig | None:
        """The adapter for TRL to attach; ``load`` has attached one that the run starts from.

        PEFT would initialise that anew, silently (seen in 0.21).
        """
        return None if self.source.adapter else self.adapter()


def default(config: type, name: str, value: Any) -> Any:
    """The field ``name`` of the dataclass ``config`` with another default and the same help."""
    metadata = config.__dataclass_fields__[name].metadata  # type: ignore[attr-defined]
    if isinstance(value, list):
        return dataclasses.field(default_factory=lambda: list(value), metadata=metadata)
    return dataclasses.field(default=value, metadata=metadata)


def settle(args: Any) -> None:
    """What both configs decide before TRL's own ``__post_init__``.

    TRL turns bfloat16 on unless told otherwise; on a CPU that is only slow, so not there. The
    flag that transformers renamed gets its new name.

    Raises:
        UserError: numbers that no training can have; what contradicts itself; a file that is
            not there.
    """
    check_numbers(args)
    if args.bf16 and args.fp16:
        raise UserError("--bf16 and --fp16: give one of them")
    if isinstance(args.deepspeed, str) and not Path(args.deepspeed).is_file():
        raise UserError(f"--deepspeed {args.deepspeed}: no such file")
    if args.bf16 is None and not torch.cuda.is_available():
        args.bf16 = False
    if args.activation_checkpointing is None:
        args.activation_checkpointing = args.gradient_checkpointing


class _Parser(TrlParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse(prog: str, argv: Sequence[str], *types: type) -> tuple[Any, ...]:
    """Read ``--config FILE`` and flags, which win over the file, into the dataclasses ``types``.

    Raises:
        UserError: an unknown flag or key, a value that does not fit, a file that is no recipe.
    """
    parsed, unknown = parse_known(prog, argv, *types)
    if unknown:
        raise UserError(f"unknown flag {unknown[0]}; '{prog} --help' lists them all")
    if parsed[0].restart and not any(word.partition("=")[0] == "--restart" for word in argv):
        raise UserError(
            "restart in a recipe would begin anew at each start; give --restart on the command line"
        )
    return parsed


def parse_known(prog: str, argv: Sequence[str], *types: type) -> tuple[tuple[Any, ...], list[str]]:
    """As ``parse``, for some of a command's dataclasses: also returns what others may know.

    Raises:
        UserError: a value that does not fit, a file that is no recipe.
    """
    parser = _Parser(types, prog=prog, allow_abbrev=False)
    arguments = []
    for argument in argv:  # TrlParser only knows the form with a space
        head, equals, tail = argument.partition("=")
        arguments += [head, tail] if head == "--config" and equals else [argument]
    if arguments and arguments[-1] == "--config":
        raise UserError("--config: give the path of a recipe (YAML)")
    for flag, recipe in pairwise(arguments):
        if flag == "--config":
            read_yaml(Path(recipe), f"--config {recipe}")  # TRL reads it without any check
    try:
        with plainly():
            return _split_unknown(parser, arguments)
    except (ValueError, TypeError) as error:
        raise UserError(" ".join(str(error).split())) from None


def _split_unknown(parser: Any, arguments: list[str]) -> tuple[tuple[Any, ...], list[str]]:
    *parsed, from_file, from_flags = parser.parse_args_and_config(
        arguments, return_remaining_strings=True, separate_remaining_strings=True
    )
    return tuple(parsed), [*from_file, *from_flags]


def faults(arguments: StarArguments, args: Any, launch: Launch) -> list[str]:
    """What the flags cannot say by themselves: no output folder, or none that can be made;
    evaluation without data; a measure of the best model that no view has; what vLLM would sample
    in another way; what ``settings`` refuses.
    """
    found = []
    if not args.output_dir:
        found.append("no --output_dir; name the folder that takes checkpoints and the model")
    elif any(path.is_file() for path in (Path(args.output_dir), *Path(args.output_dir).parents)):
        found.append(f"--output_dir {args.output_dir}: a file is in the way")
    elif what := _taken(Path(args.output_dir).resolve()):
        found.append(f"--output_dir {args.output_dir}: {what}; name a folder of its own")
    if args.eval_strategy != "no" and not arguments.eval_data:
        found.append(f"--eval_strategy {args.eval_strategy.value}: give --eval_data, a folder")
    elif args.eval_on_start and not arguments.eval_data:
        found.append("--eval_on_start: give --eval_data, a folder")
    if arguments.eval_views and not arguments.eval_data:
        found.append("--eval_views: give --eval_data, a folder")
    views, best = arguments.views_to_evaluate, args.metric_for_best_model
    if best and len(views) > 1 and not best.removeprefix("eval_").startswith(tuple(views)):
        found.append(
            f"--metric_for_best_model {best}: evaluated by views; name one, such as "
            f"{views[0]}_{best.removeprefix('eval_')}"
        )
    if getattr(args, "use_vllm", False):
        from star_r1.train import vllm  # this loads vLLM itself, where it is installed

        found += vllm.faults(args)
    sharded = launch.division != "none" or bool(args.fsdp) or args.deepspeed is not None
    return found + refusals(args, arguments.use_peft, sharded)


def _taken(folder: Path) -> str:
    """What a folder belongs to, so that no run may write there; empty where it may."""
    if any(holds_dataset(place) for place in (folder, folder.parent)):
        return "it is part of a dataset"
    for run in (folder, *folder.parents):
        if (run / COMPLETE).is_file():
            return f"{run} is the checkpoint of a run"
        if run != folder and (run / TRAINING).is_file():
            return f"{run} is the folder of a run"
    return ""


def check(arguments: StarArguments, args: Any) -> None:
    """Say where the run is not started as its recipe says.

    Raises:
        UserError: the first of ``faults``; a dry run that a recipe asks for.
    """
    if arguments.dry_run:
        raise UserError("dry_run in a recipe does nothing; give --dry-run on the command line")
    for fault in faults(arguments, args, read_launch(None, os.environ)):
        raise UserError(fault)
    for line in idle(arguments, args):
        say(line)
    if told := started_otherwise(arguments.launch, os.environ):
        say(told)
