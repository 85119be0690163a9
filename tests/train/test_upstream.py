"""What TRL and the libraries below it refuse: one line, the same in the plan and in the run."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from star_r1.errors import UserError
from star_r1.train import grpo, sft
from star_r1.train.upstream import plainly

BOTH = [
    # flags; what the line says; the package that must not be here
    ("--report_to wandb", "wandb to be installed", "wandb"),
    ("--report_to trackio", "trackio to be installed", "trackio"),
    ("--report_to comet_ml", "comet", "comet_ml"),
    ("--report_to none wandb", "wandb", "wandb"),
    ("--report_to wandbb", "wandbb is not supported", None),
    ("--optim adamw_8bit", "bitsandbytes", "bitsandbytes"),
    ("--optim galore_adamw --optim_target_modules q_proj", "galore", "galore_torch"),
    ("--optim adamw_torch_4bit", "torchao", "torchao"),
    ("--optim grokadamw", "grokadamw", "grokadamw"),
    ("--optim adamw_9bit", "adamw_9bit", None),
    ("--adam_beta1 2", "beta", None),
    ("--use_liger_kernel", "liger", "liger_kernel"),
    ("--deepspeed missing.json", "no such file", None),
    ("--lr_scheduler_type cosine_with_min_lr", "min_lr", None),
    ("--lr_scheduler_type nonsense", "nonsense", None),
    ('--lr_scheduler_kwargs {"nonsense":1}', "nonsense", None),
    ("--bf16 true --fp16 true", "give one of them", None),
    ("--dataloader_prefetch_factor 2", "prefetch_factor", None),
    ("--dataloader_persistent_workers", "persistent_workers", None),
    ("--save_strategy best", "metric_for_best_model", None),
    ("--warmup_steps -1", "warmup_steps", None),
    ("--torch_dtype float32", "torch_dtype", None),
    ("--neftune_noise_alpha x", "neftune_noise_alpha", None),
    ("--attn_implementation flash_attention_2", "[Ff]lash", "flash_attn"),
    ("--attn_implementation nonsense", "nonsense", None),
]
GRPO = [
    ("--report_to wandb", "wandb to be installed", "wandb"),
    ("--optim adamw_8bit", "bitsandbytes", "bitsandbytes"),
    ("--lr_scheduler_type cosine_with_min_lr", "min_lr", None),
    ("--num_generations 3", "num_generations", None),
    ("--num_generations 1", "2 or more", None),
    ("--generation_batch_size 8 --steps_per_generation 2", "generation_batch_size", None),
    ("--loss_type nonsense", "nonsense", None),
    ("--scale_rewards nonsense", "nonsense", None),
    ("--importance_sampling_level nonsense", "nonsense", None),
    ("--use_peft --sync_ref_model", "sync_ref_model", None),
    ("--beta 0 --sync_ref_model", "sync_ref_model", None),
    ("--reward_weights 1 2", "reward", None),
]
OFTEN = (
    "wandb",
    "adamw_8bit",
    "liger",
    "missing.json",
    "min_lr",
    "flash",
    "torch_dtype",
    "persistent",
)
CASES = [
    pytest.param(
        main,
        *case,
        marks=[]
        if any(word in case[0] for word in OFTEN) or main is grpo.main
        else [pytest.mark.slow],
    )
    for main, cases in ((sft.main, BOTH), (grpo.main, GRPO))
    for case in cases
]


@pytest.mark.parametrize(("main", "flags", "message", "package"), CASES)
def test_one_line_in_plan_and_run(
    main: Callable[[list[str]], int],
    flags: str,
    message: str,
    package: str | None,
    model_folder: Path,
    data_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if package is not None and importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is here")
    out = tmp_path / "out"
    words = f"--model {model_folder} --data {data_folder} --output_dir {out} --use_cpu"
    size = "--report_to none --max_steps 1 --per_device_train_batch_size 8"
    given = [*words.split(), *size.split(), *flags.split()]

    def said(*more: str) -> str:
        capsys.readouterr()
        try:
            code = main([*given, *more])
        except UserError as error:
            return str(error)
        assert code == 2, capsys.readouterr()
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("error: ")

    plan = said("--dry-run")
    assert not out.exists()
    assert "\n" not in plan
    assert re.search(message, plan)
    assert said() == plan
    assert not list(out.glob("checkpoint-*"))
    late = main is grpo.main and "nonsense" in flags  # found by the first step itself
    assert (out / "training.json").exists() == late


def test_errors_of_ours_and_late_ones_stay_bugs() -> None:
    def ours(shape: Any) -> None:
        raise ValueError("mine")

    with pytest.raises(UserError, match="Invalid beta parameter"), plainly():
        torch.optim.AdamW([torch.zeros(1)], betas=(2.0, 2.0))
    for broken in (
        lambda: torch.zeros(2, 3).matmul("x"),
        lambda: ours(1),
        lambda: torch.nn.Linear(1, 1).no_such_name,
        lambda: Path("/no/such/file").read_text(),
    ):
        with pytest.raises((TypeError, ValueError, AttributeError, OSError)) as found, plainly():
            broken()
        assert not isinstance(found.value, UserError)
    with pytest.raises(ValueError, match="Invalid beta"), plainly(holds=lambda: False):
        torch.optim.AdamW([torch.zeros(1)], betas=(2.0, 2.0))


@pytest.mark.parametrize(
    "flags",
    [
        "--mask_truncated_completions true --loss_type dr_grpo --scale_rewards none",
        "--loss_type dapo --num_iterations 2 --gradient_accumulation_steps 2 --epsilon_high 0.3",
        "--sync_ref_model --ref_model_sync_steps 1 --gradient_checkpointing --max_grad_norm 0.1",
        "--share_prompts false --top_k 5 --min_p 0.1 --repetition_penalty 1.1",
        "--importance_sampling_level sequence --loss_type bnpo --beta 0 --dtype bfloat16",
        "--use_peft --gradient_checkpointing --optim adafactor --dataloader_num_workers 2",
        '--bf16 true --lr_scheduler_type cosine_with_min_lr --lr_scheduler_kwargs {"min_lr":0.1}',
    ],
)
def test_a_rehearsal_refuses_nothing_that_works(
    flags: str, model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    words = f"--model {model_folder} --data {data_folder} --output_dir {tmp_path / 'out'}"
    size = "--report_to none --max_steps 1 --per_device_train_batch_size 8 --num_generations 4"
    assert grpo.main([*words.split(), *size.split(), *flags.split(), "--dry-run"]) == 0
    assert not (tmp_path / "out").exists()
