"""A resumed run equals the uninterrupted one: the same weights bit for bit, the same log."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from star_r1.model.loading import load_model
from star_r1.train import grpo, sft

CLOCK = ("runtime", "per_second", "step_time", "total_flos")

GRPO = (
    "--reward letters --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 8"
)
ON = "--model {adapter}"
RUNS = [
    # center only: 12 rows, 2 prompts a step, so an epoch has 6 steps
    pytest.param(grpo.main, GRPO, (4, 2), id="grpo"),
    pytest.param(grpo.main, GRPO, (8, 7), id="grpo, in the second epoch"),
    pytest.param(grpo.main, f"{GRPO} --num_iterations 2", (4, 2), id="grpo, old rollouts"),
    pytest.param(grpo.main, f"{GRPO} --share_prompts false", (4, 2), id="grpo, TRL's own rollouts"),
    pytest.param(grpo.main, f"{GRPO} --use_peft", (4, 2), id="grpo, LoRA"),
    # an epoch has 6 batches: its steps take 4 and 2, and completions last for 3
    pytest.param(
        grpo.main,
        "--reward letters --num_generations 2 --max_completion_length 8 --beta 0 "
        "--per_device_train_batch_size 4 --gradient_accumulation_steps 4 --steps_per_generation 3",
        (4, 2),
        id="grpo, after a short last step",
    ),
    pytest.param(
        grpo.main,
        f"{GRPO} --sync_ref_model --ref_model_sync_steps 1 --use_adaptive_entropy "
        "--entropy_coef 0.1 --entropy_target 9",
        (3, 2),
        id="grpo, a moving reference and entropy",
    ),
    pytest.param(
        sft.main,
        "--per_device_train_batch_size 4 --eval_data {data} --eval_strategy steps --eval_steps 1 "
        "--lr_scheduler_type reduce_lr_on_plateau",
        (3, 2),
        id="sft, evaluated",
    ),
    pytest.param(grpo.main, f"{GRPO} {ON} --use_peft", (4, 2), id="grpo, an adapter goes on"),
    pytest.param(
        grpo.main,
        f"{GRPO} {ON} --use_peft --share_prompts false",
        (3, 2),
        id="grpo, an adapter goes on, TRL's own rollouts",
    ),
    pytest.param(grpo.main, f"{GRPO} {ON}", (3, 2), id="grpo, a merged adapter"),
    pytest.param(sft.main, f"{ON} --use_peft", (3, 2), id="sft, an adapter goes on"),
    pytest.param(sft.main, "--per_device_train_batch_size 4", (5, 4), id="sft, second epoch"),
    pytest.param(sft.main, "--per_device_train_batch_size 4 --use_peft", (4, 2), id="sft, LoRA"),
]


@pytest.fixture(scope="module")
def adapter(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(load_model(str(model_folder)), config).save_pretrained(folder)
    return folder


@pytest.fixture
def command(model_folder: Path, data_folder: Path, adapter: Path) -> Callable[..., list[str]]:
    def build(out: Path, flags: str) -> list[str]:
        fixed = f"--model {model_folder} --data {data_folder} --output_dir {out} --use_cpu"
        rate = "--learning_rate 1e-2 --report_to none --save_steps 1 --save_total_limit 99"
        return [
            *fixed.split(),
            *rate.split(),
            *flags.format(data=data_folder, adapter=adapter).split(),
        ]

    return build


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that varies on random text, unlike those that read answers."""

    def letters(completions: list[Any], **columns: Any) -> list[float]:
        return [float(len(set(completion[0]["content"]))) for completion in completions]

    monkeypatch.setitem(grpo.REWARDS, "letters", letters)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = folder.glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def log(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train_runtime" not in line and "eval_loss" not in line]
    return [{k: v for k, v in s.items() if not any(c in k for c in CLOCK)} for s in steps]


@pytest.mark.parametrize(("main", "flags", "steps"), RUNS)
def test_resumed_run_equals_uninterrupted_run(
    main: Callable[[list[str]], int],
    flags: str,
    steps: tuple[int, int],
    command: Callable[..., list[str]],
    tmp_path: Path,
    model_folder: Path,
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    last, cut = steps
    flags = f"{flags} --max_steps {last}"
    assert main(command(whole, flags)) == 0
    resumed.mkdir()
    shutil.copytree(whole / f"checkpoint-{cut}", resumed / f"checkpoint-{cut}")
    assert main(command(resumed, flags)) == 0

    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    before = weights(whole / f"checkpoint-{cut}")
    assert any(not torch.equal(before[name], expected[name]) for name in expected)  # it did train
    assert log(whole) == log(resumed)
    assert [entry["step"] for entry in log(resumed)] == list(range(1, last + 1))
