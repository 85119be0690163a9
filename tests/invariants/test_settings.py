"""Each setting that has a number in it does the same with shared prompts as in plain TRL.

Two optimizer steps of both trainers on the same completions: every logged number and every weight.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from tests.tiny import make_tiny
from trl.trainer import grpo_trainer

from star_r1.model.loading import load_model, load_processor
from star_r1.model.mini import build_model, build_processor
from star_r1.train.grpo import (
    SharedPromptGRPOTrainer,
    StarGRPOConfig,
    StarGRPOTrainer,
    prompts_of,
)

G, LENGTH = 2, 6
UNTIED = "Qwen/Qwen2.5-VL-7B-Instruct"
Build = Callable[..., Any]

DRIFT = {"num_iterations": 2}
"""The second step is on the completions of the first: ratios are no longer one."""


def letters(completions: list[Any], **columns: Any) -> list[float]:
    return [float(len(set(completion[0]["content"]))) for completion in completions]


def vowels(completions: list[Any], **columns: Any) -> list[float | None]:
    """Like many rewards, it has no opinion of some completions."""
    counts = [sum(map(text[0]["content"].count, "aeiou")) for text in completions]
    return [None if place % 4 == 3 else float(count) for place, count in enumerate(counts)]


def scripted(self: Any, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
    """Completions that follow from step, prompt and number alone; some end, some are cut off."""
    end, rows = self.eos_token_ids[0], []
    for place, ids in enumerate(prompt_ids):
        rng = np.random.default_rng([self.state.global_step, sum(ids), place])
        length = int(rng.integers(2, LENGTH + 1))
        row = rng.integers(60, 250, length).tolist()
        rows.append([*row[:-1], end] if length < LENGTH else row)
    return rows, None


@pytest.fixture
def build(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    # TRL also shuffles completions over the parts of a generation batch; groups stay together here
    monkeypatch.setattr(grpo_trainer, "shuffle_sequence_dict", lambda batch: batch)

    def build(cls: type, settings: dict[str, Any]) -> Any:
        settings = dict(settings)
        rewards = settings.pop("rewards", letters)
        peft = settings.pop("peft", None)
        if name := settings.pop("name", None):
            folder = tmp_path / "tiny"
            if not folder.exists():
                make_tiny(folder, name)
            model, processor = load_model(str(folder)), load_processor(str(folder), 28 * 28)
        else:
            sizes = {"hidden_size": 64, "layers": 1, "vision_hidden_size": 32, "vision_depth": 1}
            model, processor = build_model(seed=0, **sizes), build_processor()
        model.model.visual.requires_grad_(False)
        if settings.pop("thinks", False):
            processor.chat_template += "{{ opening }}"
        with torch.no_grad():  # at its initial size the layers hardly matter
            for weight in model.model.language_model.layers.parameters():
                weight.mul_(4)
        fixed = {
            **{"per_device_train_batch_size": 2 * G, "num_generations": G, "beta": 0.0},
            **{"max_completion_length": LENGTH},
            **{"learning_rate": 1e-2, "max_steps": 2, "save_strategy": "no", "use_cpu": True},
            **{"report_to": "none", "log_completions": False, "optim": "sgd"},
        }
        monkeypatch.setattr(cls, "_generate_single_turn", scripted)
        data = prompts_of(str(data_folder), ["center"])
        return cls(
            model,
            rewards,
            StarGRPOConfig(str(tmp_path), **{**fixed, **settings}),
            train_dataset=data,
            eval_dataset=data.select(range(2)),
            processing_class=processor,
            peft_config=peft,
        )

    return build


SETTINGS: dict[str, dict[str, Any]] = {
    "the paper's": {"beta": 0.04},
    "clipping": {
        **{**DRIFT, "beta": 0.5, "epsilon": 0.01, "epsilon_high": 0.02, "delta": 1.05},
        "off_policy_mask_threshold": 1e-4,
    },
    "bnpo": {
        **{**DRIFT, "loss_type": "bnpo", "beta": 0.5, "use_bias_correction_kl": True},
        "scale_rewards": "batch",
    },
    "dr_grpo": {
        **{"loss_type": "dr_grpo", "scale_rewards": "none"},
        **{"temperature": 0.6, "pad_to_multiple_of": 8},
    },
    "dapo": {
        **{"loss_type": "dapo", "gradient_accumulation_steps": 2},
        **{"mask_truncated_completions": True, "top_entropy_quantile": 0.5},
    },
    "cispo": {**DRIFT, "loss_type": "cispo", "epsilon_high": 0.01, "entropy_coef": 0.1},
    "sapo": {
        **{**DRIFT, "loss_type": "sapo"},
        **{"sapo_temperature_pos": 0.7, "sapo_temperature_neg": 1.4},
    },
    "luspo": {**DRIFT, "loss_type": "luspo", "importance_sampling_level": "sequence"},
    "vespo": {
        **{**DRIFT, "loss_type": "vespo", "vespo_k_pos": 1.0, "vespo_lambda_pos": 2.0},
        **{"vespo_k_neg": 2.0, "vespo_lambda_neg": 1.0},
    },
    "GSPO": {**DRIFT, "importance_sampling_level": "sequence", "epsilon": 3e-4},
    "weighed rewards": {"rewards": [letters, vowels], "reward_weights": [0.5, 2.0]},
    "normalised rewards": {
        "rewards": [letters, vowels],
        "multi_objective_aggregation": "normalize_then_sum",
    },
    "adaptive entropy": {
        **{"use_adaptive_entropy": True, "entropy_coef": 0.1, "entropy_coef_delta": 0.05},
        **{"entropy_coef_min": 0.02, "entropy_coef_max": 0.12, "entropy_target": 100.0},
        "gradient_accumulation_steps": 2,
    },
    "a group in two passes": {
        **{"per_device_train_batch_size": 2, "num_generations": 4},
        **{"gradient_accumulation_steps": 4, "steps_per_generation": 2},
    },
    "several steps a generation": {"generation_batch_size": 8 * G, "shuffle_dataset": False},
    "a moving reference": {
        **{"sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 0.5},
        **{"max_steps": 3, "beta": 0.5},
    },
    "LoRA": {
        **{"peft": LoraConfig(target_modules="all-linear", lora_dropout=0.5, r=4), "beta": 0.04},
        **{"disable_dropout": True, "gradient_checkpointing": True},
    },
    "untied, checkpointed": {
        **{"name": UNTIED, "cast_lm_head_to_fp32": True, "gradient_checkpointing": True},
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
    "evaluation": {
        **{"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 4},
        **{"eval_on_start": True, "per_device_eval_batch_size": 4},
        **{"thinks": True, "chat_template_kwargs": {"opening": "<think>"}},
    },
    "optimizer and schedule": {
        **{"learning_rate": 1e-3, "optim": "adamw_torch", "weight_decay": 0.1, "seed": 3},
        **{"lr_scheduler_type": "cosine", "warmup_steps": 1, "adam_beta1": 0.5},
        "max_grad_norm": 0.01,
    },
}


def numbers(trainer: Any) -> list[dict[str, float]]:
    clock = ("runtime", "per_second", "step_time", "total_flos")
    return [
        {k: v for k, v in entry.items() if not any(word in k for word in clock)}
        for entry in trainer.state.log_history
    ]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_run_with_shared_prompts_equals_one_of_plain_trl(
    settings: dict[str, Any], build: Build
) -> None:
    shared, plain = (build(cls, settings) for cls in (SharedPromptGRPOTrainer, StarGRPOTrainer))
    before = [weight.detach().clone() for weight in plain.model.parameters()]
    for trainer in (shared, plain):
        trainer.train()
    assert len(numbers(shared)) == len(numbers(plain)) > 2
    for ours, theirs in zip(numbers(shared), numbers(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=3e-5, nan_ok=True)
    moved = 0.0
    for first, ours, theirs in zip(
        before, shared.model.parameters(), plain.model.parameters(), strict=True
    ):
        step = (theirs - first).abs().max().item()
        moved = max(moved, step)
        assert (ours - theirs).abs().max() <= 3e-3 * step + 1e-7
    assert moved > 1e-5


class Tables:
    """What trackio and wandb get."""

    def __init__(self) -> None:
        self.logged: list[Any] = []

    def Image(self, picture: Any) -> bytes:
        return bytes(picture.tobytes())

    def Table(self, dataframe: Any) -> Any:
        return dataframe

    def log(self, entry: dict[str, Any]) -> None:
        self.logged.append(entry["completions"])


@pytest.mark.parametrize("unique", [False, True])
def test_completions_are_logged_as_by_trl(
    unique: bool, build: Build, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, printed = [], []
    for cls in (SharedPromptGRPOTrainer, StarGRPOTrainer):
        backend = Tables()
        monkeypatch.setattr(grpo_trainer, "trackio", backend, raising=False)
        settings = {"log_completions": True, "num_completions_to_print": 1, "max_steps": 1}
        trainer = build(cls, {**settings, "log_unique_prompts": unique})
        trainer.args.report_to = ["trackio"]
        trainer.train()
        printed.append(capsys.readouterr().out.splitlines())
        tables.append(backend.logged[0])
    ours, theirs = tables
    assert list(ours.columns) == list(theirs.columns)
    assert len(ours) == len(theirs) == (2 if unique else 2 * G)
    for column in set(ours.columns) - {"advantage"}:
        assert list(ours[column]) == list(theirs[column]), column
    assert len(ours["image"].iloc[0]) == 2
    assert len(printed[0]) == len(printed[1]) > 3
