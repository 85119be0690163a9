"""A resumed run equals the uninterrupted one: the same weights bit for bit, the same log."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from star_r1.train import grpo, sft

CLOCK = ("runtime", "per_second", "step_time", "total_flos")

GRPO = (
    "--reward letters --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 8"
)
RUNS = [
    # center only: 12 rows, 2 prompts a step, so an epoch has 6 steps
    pytest.param(grpo.main, GRPO, (4, 2), id="grpo"),
    pytest.param(grpo.main, GRPO, (8, 7), id="grpo, in the second epoch"),
    pytest.param(grpo.main, f"{GRPO} --num_iterations 2", (4, 2), id="grpo, old rollouts"),
    pytest.param(grpo.main, f"{GRPO} --share_prompts false", (4, 2), id="grpo, TRL's own rollouts"),
    pytest.param(grpo.main, f"{GRPO} --use_peft", (4, 2), id="grpo, LoRA"),
    pytest.param(sft.main, "--per_device_train_batch_size 4", (5, 4), id="sft, second epoch"),
    pytest.param(sft.main, "--per_device_train_batch_size 4 --use_peft", (4, 2), id="sft, LoRA"),
]


@pytest.fixture
def command(model_folder: Path, data_folder: Path) -> Callable[..., list[str]]:
    def build(out: Path, flags: str) -> list[str]:
        fixed = f"--model {model_folder} --data {data_folder} --output_dir {out} --use_cpu"
        rate = "--learning_rate 1e-2 --report_to none --save_steps 1 --save_total_limit 99"
        return [*fixed.split(), *rate.split(), *flags.split()]

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
    steps = [line for line in lines if "train_runtime" not in line]
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


@pytest.mark.parametrize(
    ("trainer", "fault"),
    [(grpo.StarGRPOTrainer, False), (grpo.GRPOTrainer, True)],
    ids=["ours", "TRL's"],
)
def test_loading_a_checkpoint(
    trainer: Any,
    fault: bool,
    model_folder: Path,
    data_folder: Path,
    tmp_path: Path,
) -> None:
    """Ours loads the weights; TRL's keeps the initial ones (transformers#43701). When the second
    case fails, upstream has mended it: ExactResume._load_from_checkpoint can go."""
    from star_r1.model.loading import load_model, load_processor

    trained = load_model(str(model_folder))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1.0)
    trained.save_pretrained(tmp_path / "checkpoint-1")
    args = grpo.StarGRPOConfig(
        str(tmp_path / "run"),
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to="none",
        beta=0.0,
    )
    resumed = trainer(
        load_model(str(model_folder)),
        grpo.REWARDS["star"],
        args,
        train_dataset=grpo.prompts_of(str(data_folder), ["center"], decode=True),
        processing_class=load_processor(str(model_folder)),
    )
    resumed._load_from_checkpoint(str(tmp_path / "checkpoint-1"))
    same = [
        torch.equal(a, b)
        for a, b in zip(resumed.model.parameters(), trained.parameters(), strict=True)
    ]
    assert all(same) is not fault
    assert any(same) is not fault
