"""Every setting of TRL's configs: obeyed, with what shows it; an obstacle to sharing; or refused.

A setting that a newer TRL brings is in none of the tables, and fails here until it is decided.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from tests.invariants.test_settings import SETTINGS
from transformers import GenerationConfig
from trl import GRPOConfig, SFTConfig

from star_r1.errors import UserError
from star_r1.model.mini import build_model
from star_r1.model.published import published_config
from star_r1.train import sft
from star_r1.train.arguments import parse
from star_r1.train.grpo import GRPOArguments, RewardArguments, StarGRPOConfig
from star_r1.train.launch import Launch
from star_r1.train.sampling import warpers
from star_r1.train.settings import (
    IDLE,
    REFUSED,
    REFUSED_GRPO,
    REFUSED_SFT,
    idle,
    refusals,
    unfit,
)
from star_r1.train.sft import StarSFTConfig
from star_r1.train.shared_prompt import OBSTACLES, obstacle

TESTS: Final = Path(__file__).parents[1]
STEP: Final = "a step with it equals one of plain TRL: "
SEEN: Final = "test: "

BOTH: Final[Mapping[str, str]] = {
    # what the update does, by Trainer's own loop around our loss
    **dict.fromkeys(
        ("per_device_train_batch_size", "gradient_accumulation_steps", "max_steps"),
        f"{SEEN}train/test_plan.py::test_steps_are_those_of_the_trainer",
    ),
    "num_train_epochs": f"{SEEN}train/test_plan.py::test_steps_are_those_of_the_trainer",
    "dataloader_drop_last": f"{SEEN}train/test_plan.py::test_steps_are_those_of_the_sft_trainer",
    **dict.fromkeys(
        ("optim", "weight_decay", "adam_beta1", "max_grad_norm", "seed"),
        f"{STEP}optimizer and schedule",
    ),
    **dict.fromkeys(
        ("learning_rate", "lr_scheduler_type", "warmup_steps"), f"{STEP}optimizer and schedule"
    ),
    **dict.fromkeys(
        ("lr_scheduler_kwargs", "optim_args", "adam_beta2", "adam_epsilon", "optim_target_modules"),
        "Trainer makes optimizer and schedule, of the same parameters",
    ),
    **dict.fromkeys(("bf16", "fp16"), "accelerate's autocast is around the same calls as TRL's"),
    **dict.fromkeys(("tf32", "torch_empty_cache_steps"), "torch's own, whatever is computed"),
    **dict.fromkeys(
        ("gradient_checkpointing", "gradient_checkpointing_kwargs"), f"{STEP}untied, checkpointed"
    ),
    **dict.fromkeys(
        ("activation_checkpointing", "activation_checkpointing_kwargs"),
        "the new names of gradient_checkpointing, which settle and transformers copy",
    ),
    "liger_kernel_config": "part of use_liger_kernel",
    **dict.fromkeys(("torch_compile_backend", "torch_compile_mode"), "either is torch_compile"),
    "use_cache": "Trainer writes it into the model's config; our sampling always keeps a cache",
    # data
    **dict.fromkeys(
        (
            *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
            *("dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
            *("dataloader_in_order", "accelerator_config"),
        ),
        "Trainer and accelerate make the loader; both paths get the same rows from it",
    ),
    # processes
    **dict.fromkeys(
        (
            *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers"),
            *("ddp_static_graph", "ddp_backend", "ddp_timeout", "fsdp_config"),
        ),
        "accelerate wraps the model, which the packed row goes through (test_processes)",
    ),
    "local_rank": "the launcher's",
    "use_cpu": f"{SEEN}train/test_plan.py::test_numbers_by_hand",
    # evaluation
    **dict.fromkeys(("eval_strategy", "eval_steps", "eval_on_start"), f"{STEP}evaluation"),
    "per_device_eval_batch_size": f"{STEP}evaluation",
    **dict.fromkeys(("eval_delay", "eval_accumulation_steps"), "Trainer's loop of evaluation"),
    **dict.fromkeys(
        ("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
        f"{SEEN}train/test_evaluation.py::test_the_best_model_is_exported",
    ),
    # logging
    **dict.fromkeys(
        (
            *("logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node"),
            *("log_level", "log_level_replica", "report_to", "run_name", "project"),
            *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "debug"),
            *("skip_memory_metrics",),
        ),
        "Trainer's callbacks, which see the same numbers",
    ),
    # the run's folder
    "output_dir": f"{SEEN}train/test_arguments.py::test_a_mistake_in_what_is_there",
    **dict.fromkeys(
        ("save_strategy", "save_steps", "save_total_limit"),
        f"{SEEN}train/test_plan.py::test_checkpoints_on_disk",
    ),
    "save_only_model": f"{SEEN}train/test_start.py::test_without_checkpoints",
    "resume_from_checkpoint": f"{SEEN}train/test_start.py::test_a_checkpoint_by_name",
    "do_train": "is what the command does",
    "do_eval": "is --eval_strategy",
    **dict.fromkeys(
        ("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_revision"),
        "train/hub.py, one upload at the end (test_hub)",
    ),
}
"""Setting of both configs that is obeyed -> what shows it."""

GRPO: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("beta", "epsilon", "epsilon_high", "delta", "off_policy_mask_threshold"),
        f"{STEP}clipping",
    ),
    "num_iterations": f"{STEP}bnpo",
    "use_bias_correction_kl": f"{STEP}bnpo",
    "loss_type": f"{STEP}dapo",
    **dict.fromkeys(("sapo_temperature_neg", "sapo_temperature_pos"), f"{STEP}sapo"),
    **dict.fromkeys(
        ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"), f"{STEP}vespo"
    ),
    "importance_sampling_level": f"{STEP}GSPO",
    "scale_rewards": f"{STEP}bnpo",
    "reward_weights": f"{STEP}weighed rewards",
    "multi_objective_aggregation": f"{STEP}normalised rewards",
    "mask_truncated_completions": f"{STEP}dapo",
    "top_entropy_quantile": f"{STEP}dapo",
    "entropy_coef": f"{STEP}cispo",
    **dict.fromkeys(
        (
            *("use_adaptive_entropy", "entropy_coef_min", "entropy_coef_max"),
            *("entropy_coef_delta", "entropy_target"),
        ),
        f"{STEP}adaptive entropy",
    ),
    **dict.fromkeys(
        ("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"),
        f"{STEP}a moving reference",
    ),
    "disable_dropout": f"{STEP}LoRA",
    "cast_lm_head_to_fp32": f"{STEP}untied, checkpointed",
    "num_generations": f"{STEP}a group in two passes",
    "num_generations_eval": f"{STEP}evaluation",
    "max_completion_length": f"{SEEN}invariants/test_shared_prompt.py::"
    "test_sampling_stops_at_the_end_token_and_follows_the_seed",
    "steps_per_generation": f"{STEP}a group in two passes",
    **dict.fromkeys(
        ("generation_batch_size", "shuffle_dataset"), f"{STEP}several steps a generation"
    ),
    **dict.fromkeys(("temperature", "pad_to_multiple_of"), f"{STEP}dr_grpo"),
    **dict.fromkeys(
        ("top_p", "top_k", "min_p"),
        f"{SEEN}train/test_settings.py::test_what_is_drawn_from_is_what_hf_generate_draws_from",
    ),
    "chat_template_kwargs": f"{STEP}evaluation",
    "ds3_gather_for_generation": "HF generate's under DeepSpeed, where prompts are not shared",
    "use_vllm": f"{SEEN}train/test_vllm.py::",
    **{
        field.name: "handed to vLLM, or used in the loss, by TRL's own lines"
        for field in fields(GRPOConfig)
        if field.name.startswith("vllm_")
    },
    "log_multimodal": f"{SEEN}invariants/test_shared_prompt.py::"
    "test_pictures_reach_rewards_and_logs_as_from_trl",
    **dict.fromkeys(
        ("log_completions", "num_completions_to_print", "log_unique_prompts"),
        f"{SEEN}invariants/test_settings.py::test_completions_are_logged_as_by_trl",
    ),
    "log_completions_hub_repo": "TRL's, of the folder completions/",
}
"""Setting of GRPOConfig alone that is obeyed -> what shows it."""

SFT: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("chat_template_path", "eos_token", "pad_token"), "SFTTrainer's own, with the processor"
    ),
    **dict.fromkeys(
        ("max_length", "completion_only_loss"),
        "SFTTrainer's collator for pictures",
    ),
    **dict.fromkeys(
        (
            *("loss_type", "activation_offloading", "label_smoothing_factor"),
            *("average_tokens_across_devices",),
        ),
        "SFTTrainer's loss",
    ),
    "remove_unused_columns": "SFTTrainer keeps the columns that its collator reads",
    "train_sampling_strategy": "Trainer's sampler; what needs lengths is refused",
    "data_seed": "accelerate's sampler",
    "include_num_input_tokens_seen": "Trainer's, of each batch",
    **dict.fromkeys(
        ("neftune_noise_alpha", "torch_compile", "use_liger_kernel", "full_determinism"),
        "Trainer's; nothing is shared in SFT",
    ),
    **dict.fromkeys(("fsdp", "deepspeed"), "accelerate's; nothing is shared in SFT"),
}
"""Setting that is obeyed in SFT, though not so in GRPO -> what shows it."""

TYPES: Final = {
    "grpo": (GRPOArguments, RewardArguments, StarGRPOConfig),
    "sft": (sft.StarArguments, StarSFTConfig),
}
VALUES: Final = {
    "max_tool_calling_iterations": "3",
    "router_aux_loss_coef": "0.1",
    "label_smoothing_factor": "0.1",
    "data_seed": "1",
    "hub_strategy": "all_checkpoints",
    "train_sampling_strategy": "group_by_length",
    "include_num_input_tokens_seen": "all",
    "label_names": "labels",
    "include_for_metrics": "loss",
    "dataset_num_proc": "2",
    "packing_strategy": "wrapped",
    "pad_to_multiple_of": "8",
    "truncation_mode": "keep_end",
    "model_init_kwargs": '{"revision": "x"}',
    "dataset_kwargs": '{"a": 1}',
    "transformers_continuous_batching_config": '{"a": 1}',
}
"""What to give a setting that is refused; others are switched."""


@pytest.mark.parametrize(
    ("config", "tables"),
    [
        pytest.param(GRPOConfig, (BOTH, GRPO, OBSTACLES, REFUSED, REFUSED_GRPO), id="GRPOConfig"),
        pytest.param(SFTConfig, (BOTH, SFT, REFUSED, REFUSED_SFT), id="SFTConfig"),
    ],
)
def test_each_setting_is_decided_once(config: type, tables: tuple[Mapping[str, Any], ...]) -> None:
    decided = [name for table in tables for name in table]
    assert sorted(decided) == sorted(field.name for field in fields(config))


@pytest.mark.parametrize(
    ("name", "evidence"), [*BOTH.items(), *GRPO.items(), *SFT.items()], ids=lambda text: text[:40]
)
def test_the_evidence_is_there(name: str, evidence: str) -> None:
    """The step that is compared sets it; the test that is named is there."""
    if evidence.startswith(STEP):
        given = SETTINGS[evidence.removeprefix(STEP)]
        assert name in given
    elif evidence.startswith(SEEN):
        file, test = evidence.removeprefix(SEEN).split("::")
        assert f"def {test}" in (TESTS / file).read_text()


def words(method: str, name: str) -> list[str]:
    config = TYPES[method][-1]
    if name not in VALUES:
        switched = not config.__dataclass_fields__[name].default  # type: ignore[attr-defined]
        return [f"--{name}", str(switched).lower()]
    return [f"--{name}", VALUES[name]]


@pytest.mark.parametrize(
    ("method", "name"),
    [("grpo", name) for name in (*REFUSED, *REFUSED_GRPO)]
    + [("sft", name) for name in (*REFUSED, *REFUSED_SFT)],
)
def test_refused_in_one_line(method: str, name: str, tmp_path: Path) -> None:
    fixed = ["--data", "d", "--output_dir", str(tmp_path), "--use_cpu", "--report_to", "none"]
    if name == "parallelism_config":  # no flag makes one; a program may
        *_, args = parse("train", fixed, *TYPES[method])
        args.parallelism_config = object()
        told = refusals(args)
    else:
        try:
            *_, args = parse("train", [*fixed, *words(method, name)], *TYPES[method])
            told = refusals(args)
        except UserError as error:  # TRL refuses it by itself
            told = [str(error)]
    assert any(name in line for line in told)
    assert all("\n" not in line for line in told)


def make(**settings: Any) -> StarGRPOConfig:
    return StarGRPOConfig("out", use_cpu=True, report_to="none", **settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"repetition_penalty": 1.1}, "--repetition_penalty"),
        ({"generation_kwargs": {"no_repeat_ngram_size": 2}}, "--generation_kwargs"),
        ({"generation_kwargs": {"seed": 2}, "use_vllm": True}, None),
        ({"cache_implementation": "static"}, "--cache_implementation"),
        ({"neftune_noise_alpha": 5.0}, "--neftune_noise_alpha"),
        ({"torch_compile_backend": "eager"}, "--torch_compile"),
        ({"full_determinism": True}, "--full_determinism"),
        ({"full_determinism": True, "use_vllm": True}, None),
        ({"use_liger_kernel": True}, "--use_liger_kernel"),
        ({}, None),
    ],
)
def test_obstacles_to_sharing_prompts(settings: dict[str, Any], named: str | None) -> None:
    assert obstacle(make(**settings)) == named


@pytest.mark.parametrize(
    ("use_vllm", "named"), [(False, "FSDP or DeepSpeed without vLLM"), (True, None)]
)
def test_a_divided_model_is_an_obstacle_to_our_sampling(use_vllm: bool, named: str | None) -> None:
    assert obstacle(make(use_vllm=use_vllm), Launch(2, 1, "fsdp")) == named
    assert {"fsdp", "deepspeed"} < set(OBSTACLES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "--temperature 0: give a number from 0.01"),
        ({"top_p": 1.5}, "--top_p 1.5: give a number from 0.01 to 1"),
        ({"top_k": -1}, "--top_k -1: give a number from 0 on"),
        ({"min_p": 2.0}, "--min_p 2: give a number from 0 to 1"),
        ({"chat_template_kwargs": "thinking"}, "--chat_template_kwargs thinking: not JSON"),
        ({"generation_kwargs": "seed"}, "--generation_kwargs seed: not JSON"),
        ({"sync_ref_model": True, "beta": 0.0}, "but --beta 0 measures no distance"),
        ({"num_iterations": 2, "save_strategy": "best"}, "--save_strategy best: rollouts last for"),
        (
            {"num_iterations": 2, "load_best_model_at_end": True, "save_steps": 3}
            | {"eval_strategy": "steps", "eval_steps": 3},
            r"rollouts last for 2 steps .* for --save_steps \(3\)",
        ),
    ],
)
def test_values_that_are_refused(settings: dict[str, Any], message: str) -> None:
    if settings.get("save_strategy") == "best":
        settings = {**settings, "metric_for_best_model": "reward"}
    (told,) = refusals(make(**settings))
    assert re.search(message, told)
    assert "\n" not in told


def test_a_reference_that_moves_is_one_that_checkpoints_hold() -> None:
    args = make(sync_ref_model=True)
    assert not refusals(args)
    assert "with an adapter there is none" in refusals(args, use_peft=True)[0]
    assert "do not hold it" in refusals(args, sharded=True)[0]


def test_defaults_are_not_refused() -> None:
    assert not refusals(make())
    shares = {"eval_strategy": "steps", "eval_steps": 0.5, "save_steps": 0.5}  # of all steps
    assert not refusals(make(load_best_model_at_end=True, **shares))
    assert not refusals(StarSFTConfig("out", use_cpu=True, report_to="none"))


@pytest.mark.parametrize(
    ("method", "flags", "told"),
    [
        ("grpo", "--lora_r 64", "without --use_peft, no effect of --lora_r"),
        ("sft", "--lora_r 64 --lora_dropout 0.1 --use_peft", None),
        ("grpo", "--vllm_mode server", "without --use_vllm, no effect of --vllm_mode"),
        ("grpo", "--ref_model_sync_steps 4", "without --sync_ref_model, no effect of --ref_model"),
        ("grpo", "--entropy_target 1", "without --use_adaptive_entropy, no effect of --entropy_t"),
        ("grpo", "--entropy_coef 0.1", None),
        ("grpo", "--vespo_k_pos 1", "without --loss_type vespo, no effect of --vespo_k_pos"),
        ("grpo", "--sapo_temperature_pos 2 --loss_type sapo", None),
        ("sft", "--eval_data d --eval_steps 2", "no effect of --eval_data, --eval_steps"),
        ("sft", "--eval_data d --eval_strategy steps --eval_steps 2", None),
        ("grpo", "--hub_model_id me/star", "without --push_to_hub, no effect of --hub_model_id"),
        ("grpo", '--gradient_checkpointing_kwargs {"use_reentrant":true}', "--gradient_checkpoint"),
        ("grpo", "--num_completions_to_print 2 --log_completions false", "--log_completions, no"),
        ("grpo", "--max_kl 2 --beta 0", "without --beta, no effect of --max_kl"),
        ("sft", "--greater_is_better true", "without --metric_for_best_model, no effect of --gr"),
        ("sft", "--project star", "without --report_to trackio, no effect of --project"),
        ("sft", "", None),
        ("grpo", "", None),
    ],
)
def test_what_has_no_effect_by_itself_is_told(method: str, flags: str, told: str | None) -> None:
    fixed = ["--data", "d", "--output_dir", "out", "--use_cpu", "--report_to", "none"]
    arguments, *_, args = parse("train", [*fixed, *flags.split()], *TYPES[method])
    lines = idle(arguments, args)
    if told is None:
        assert not lines
    else:
        (line,) = lines
        assert told in line


def test_what_a_setting_is_part_of_is_a_setting() -> None:
    names = [field.name for config in TYPES.values() for of in config for field in fields(of)]
    for switch, (_, beginnings) in IDLE.items():
        assert switch.split()[0].removeprefix("--") in names
        for beginning in beginnings:
            assert any(name.startswith(beginning) for name in names), beginning


@pytest.mark.parametrize(
    ("model", "tied"),
    [("Qwen/Qwen2.5-VL-3B-Instruct", True), ("Qwen/Qwen2.5-VL-7B-Instruct", False)],
)
def test_a_tied_output_layer_is_not_cast(model: str, tied: bool) -> None:
    told = unfit(make(cast_lm_head_to_fp32=True), published_config(model))
    assert (told is not None and "(tied)" in told) == tied
    assert unfit(make(), published_config(model)) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7, "top_k": 5, "top_p": 0.8, "min_p": 0.02},
        {"temperature": 1.4, "top_p": 0.5},
        {"min_p": 0.3},
        {},
    ],
)
def test_what_is_drawn_from_is_what_hf_generate_draws_from(settings: dict[str, Any]) -> None:
    args = make(**settings)
    names = ("temperature", "top_k", "top_p", "min_p")
    config = GenerationConfig(do_sample=True, **{name: getattr(args, name) for name in names})
    model, logits = build_model(seed=0, hidden_size=64, layers=1), torch.randn(8, 40) * 3
    theirs = model._get_logits_processor(config, input_ids_seq_length=1)
    torch.testing.assert_close(warpers(args)(None, logits), theirs(None, logits))
