"""Settings of TRL's configs that would do nothing here, or not what they say: refused, or told.

A setting that is neither here nor in ``shared_prompt.OBSTACLES`` is obeyed. The tests name each
(tests/train/test_settings.py), so that one that a newer TRL brings is not overlooked.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from transformers import GenerationConfig
from trl import GRPOConfig

_UNGATHERED: Final = "evaluation gathers no predictions, only losses, rewards and their like"
_BATCHED: Final = "it does not support models that see pictures; use --use_vllm"
_TEXT: Final = "rows have pictures, and are prepared batch by batch"
_LOADED: Final = "models are loaded here; there are --dtype and --attn_implementation"

REFUSED: Final[Mapping[str, str]] = {
    "model_init_kwargs": _LOADED,
    "trust_remote_code": "the families that can be trained need no code of others",
    "router_aux_loss_coef": "the models that can be trained have no experts",
    "auto_find_batch_size": "the run would train in batches that its record does not tell of",
    "disable_tqdm": "the bar is this project's own, and shows in a terminal only",
    "logging_nan_inf_filter": "a loss that is no number ends the run, so it must be seen",
    "enable_jit_checkpoint": "a signal is answered by a checkpoint in any case",
    "restore_callback_states_from_checkpoint": "it would restore the stop of an interrupted run",
    "save_on_each_node": "one checkpoint is written, to a folder that all nodes share",
    "hub_strategy": "there is one upload, of the trained model",
    "hub_always_push": "there is one upload, of the trained model",
    "parallelism_config": "processes are for data, FSDP or DeepSpeed",
    "ignore_data_skip": "a resumed run would repeat rows, and not end as an uninterrupted one",
    "do_predict": "star-r1 evaluate does it",
    "label_names": _UNGATHERED,
    "prediction_loss_only": _UNGATHERED,
    "eval_do_concat_batches": _UNGATHERED,
    "eval_use_gather_object": _UNGATHERED,
    "include_for_metrics": _UNGATHERED,
    "batch_eval_metrics": _UNGATHERED,
    "fp16_full_eval": "evaluation while training is in the precision of the training",
    "bf16_full_eval": "evaluation while training is in the precision of the training",
}
"""Setting -> why another value than the default would be of no use, in both methods."""

REFUSED_GRPO: Final[Mapping[str, str]] = {
    "use_transformers_continuous_batching": _BATCHED,
    "use_transformers_paged": _BATCHED,
    "transformers_continuous_batching_config": _BATCHED,
    "max_tool_calling_iterations": "there are no tools",
    "remove_unused_columns": "rewards read the other columns",
    "label_smoothing_factor": "GRPO has no labels",
    "average_tokens_across_devices": "--loss_type says what GRPO's loss is averaged over",
    "train_sampling_strategy": "GRPO draws groups; there is --shuffle_dataset",
    "length_column_name": "GRPO draws groups; there is --shuffle_dataset",
    "data_seed": "the order of the prompts follows from --seed",
    "include_num_input_tokens_seen": "GRPO counts them in any case, as num_tokens",
}
"""Likewise, in GRPO."""

REFUSED_SFT: Final[Mapping[str, str]] = {
    "dataset_text_field": _TEXT,
    "dataset_kwargs": _TEXT,
    "dataset_num_proc": _TEXT,
    "packing": _TEXT,
    "packing_strategy": _TEXT,
    "eval_packing": _TEXT,
    "padding_free": _TEXT,
    "pad_to_multiple_of": "TRL cannot do it for prompts with pictures",
    "truncation_mode": "an end without its pictures teaches nothing; there is --max_length",
    "length_column_name": "rows have no lengths",
    "shuffle_dataset": "each epoch is shuffled; --train_sampling_strategy sequential keeps order",
    "assistant_only_loss": "the completion is what the assistant says; --completion_only_loss",
}
"""Likewise, in SFT."""

IDLE: Final[Mapping[str, tuple[Callable[[Mapping[str, Any]], Any], tuple[str, ...]]]] = {
    "--use_vllm": (lambda given: given.get("use_vllm"), ("vllm_",)),
    "--sync_ref_model": (lambda given: given.get("sync_ref_model"), ("ref_model_",)),
    "--use_adaptive_entropy": (
        lambda given: given.get("use_adaptive_entropy"),
        ("entropy_coef_", "entropy_target"),
    ),
    "--loss_type sapo": (lambda given: given["loss_type"] == "sapo", ("sapo_",)),
    "--loss_type vespo": (lambda given: given["loss_type"] == "vespo", ("vespo_",)),
    "--log_completions": (
        lambda given: given.get("log_completions"),
        ("log_unique_prompts", "num_completions_to_print"),
    ),
    "--use_peft": (lambda given: given["use_peft"], ("lora_",)),
    "--beta": (lambda given: given.get("beta"), ("max_kl", "use_bias_correction_kl")),
    "--metric_for_best_model": (
        lambda given: given["metric_for_best_model"],
        ("greater_is_better",),
    ),
    "--report_to trackio": (
        lambda given: "trackio" in given["report_to"],
        ("trackio_", "project"),
    ),
    "--eval_strategy": (
        lambda given: given["eval_strategy"] != "no" or given["eval_on_start"],
        ("eval_d", "eval_steps", "do_eval", "num_generations_eval", "per_device_eval_batch_size"),
    ),
    "--gradient_checkpointing": (
        lambda given: given["activation_checkpointing"],
        ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
    ),
    "--push_to_hub": (
        lambda given: given["push_to_hub"] or given.get("log_completions_hub_repo"),
        ("hub_",),
    ),
    "--use_liger_kernel": (lambda given: given["use_liger_kernel"], ("liger_kernel_config",)),
}
"""A flag, whether it is on, and how the settings begin that do nothing while it is not."""

_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0.01, 100.0),
    "top_p": (0.01, 1.0),
    "top_k": (0, math.inf),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
}
"""Of sampling, in GRPO."""

_OWN_FLAGS: Final = (
    *("max_new_tokens", "max_length", "do_sample", "num_return_sequences", "cache_implementation"),
    *_RANGES,
)
"""Keys of ``--generation_kwargs`` that other flags decide, on which TRL and the plan count."""


def rollout_period(args: GRPOConfig) -> int:
    """How many optimizer steps one generation batch feeds (1 in the mini recipe).

    >>> rollout_period(GRPOConfig("out", bf16=False, num_iterations=2, report_to="none"))
    2
    """
    micro_steps = args.steps_per_generation * args.num_iterations
    between: int = args.gradient_accumulation_steps
    return math.lcm(micro_steps, between) // between


def refusals(args: Any, use_peft: bool = False, sharded: bool = False) -> list[str]:
    """What ``args`` say that would do nothing, or not what they say; one line each.

    Args:
        args: TRL's config.
        use_peft: whether an adapter is trained.
        sharded: whether FSDP or DeepSpeed divides the model.
    """
    is_grpo = isinstance(args, GRPOConfig)
    reasons = {**REFUSED, **(REFUSED_GRPO if is_grpo else REFUSED_SFT)}
    found = [f"--{name}: {reasons[name]}; leave it out" for name in _changed(args, reasons)]
    found += [
        f'--{name} {value}: not JSON; give it in the form of {{"name": 1}}'
        for name in ("chat_template_kwargs", "generation_kwargs")
        if isinstance(value := getattr(args, name, None), str)
    ]
    if is_grpo:
        return found + _of_grpo(args, use_peft, sharded)
    if args.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
        found.append(
            f"--train_sampling_strategy {args.train_sampling_strategy}: how long a row is shows "
            "when its pictures are read; leave it out"
        )
    return found


def _of_grpo(args: GRPOConfig, use_peft: bool, sharded: bool) -> list[str]:
    found = [
        f"--{name} {value:g}: give a number from {low:g}"
        + (f" to {high:g}" if math.isfinite(high) else " on")
        for name, (low, high) in _RANGES.items()
        if (value := getattr(args, name)) is not None and not low <= value <= high
    ]
    if isinstance(args.generation_kwargs, dict) and not args.use_vllm:
        known = GenerationConfig().to_dict()
        found += [
            f"--generation_kwargs {key}: "
            + ("it has a flag of its own" if key in _OWN_FLAGS else "transformers has no such key")
            for key in args.generation_kwargs
            if key in _OWN_FLAGS or key not in known
        ]
    if args.sync_ref_model:
        reasons = {
            "--beta 0 measures no distance from it": args.beta == 0,
            "with an adapter there is none that could move": use_peft,
            "checkpoints of FSDP or DeepSpeed do not hold it, so that no resume is exact": sharded,
        }
        found += [
            f"--sync_ref_model moves the reference model, but {why}; leave it out"
            for why, holds in reasons.items()
            if holds
        ]
    period, every = rollout_period(args), args.save_steps
    if period > 1 and args.save_strategy == "best":
        found.append(
            f"--save_strategy best: rollouts last for {period} steps here, and a checkpoint does "
            "not hold them; give steps or epoch"
        )
    aligned = period == 1 or args.save_strategy != "steps" or every % period == 0
    if args.load_best_model_at_end and not aligned:
        found.append(
            f"--load_best_model_at_end: rollouts last for {period} steps here, and checkpoints "
            f"wait for their end; give a multiple of it for --save_steps ({every:g}), so that what "
            "is evaluated is what is saved"
        )
    return found


def unfit(args: Any, config: Any) -> str | None:
    """Why the model of a ``config`` cannot be trained under ``args``, or None where it can."""
    if getattr(args, "cast_lm_head_to_fp32", False) and config.tie_word_embeddings:
        return (
            "--cast_lm_head_to_fp32: the output layer of this model is also its embeddings (tied), "
            "which TRL 1.16 does not find in a Qwen-VL; leave it out, or give --dtype float32 "
            "instead"
        )
    return None


def idle(arguments: Any, args: Any) -> list[str]:
    """What was set and does nothing, since what it is part of is off; one line for each of these.

    No error: a recipe may be run with a part of it switched off.

    Args:
        arguments: the command's own.
        args: TRL's config.
    """
    given = {**vars(args), **vars(arguments)}
    found = []
    for switch, (is_on, beginnings) in IDLE.items():
        if is_on(given):
            continue
        names = [
            name
            for some in (arguments, args)
            for name in _changed(some, (field.name for field in dataclasses.fields(some)))
            if name.startswith(beginnings)
        ]
        if names:
            flags = ", ".join(f"--{name}" for name in names)
            found.append(f"without {switch}, no effect of {flags}")
    return found


def _changed(args: Any, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are not at their default."""
    found = []
    for name in names:
        field = args.__dataclass_fields__[name]
        default = field.default
        if default is dataclasses.MISSING:
            default = field.default_factory()
        if getattr(args, name) != default:
            found.append(name)
    return found
