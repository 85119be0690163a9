"""Every recipe: its plan, the commands at its head, and the same file at the mini size."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from tests.tiny import make_tiny
from transformers import AutoModelForImageTextToText

from star_r1.model.published import published_config
from star_r1.train import grpo, sft
from star_r1.train.arguments import parse
from star_r1.train.grpo import GRPOArguments, RewardArguments, StarGRPOConfig, reward_function
from star_r1.train.sft import StarArguments, StarSFTConfig

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
LARGE = [path for path in RECIPES if not path.name.startswith("mini-")]
ACCELERATE = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))

MINI_SIZE = {
    # No cards, so no vLLM and no bfloat16.
    "use_cpu": "true",
    "use_vllm": "false",
    "dtype": "float32",
    # A step is one prompt and its two completions of random tokens, or two rows.
    "per_device_train_batch_size": "2",
    "gradient_accumulation_steps": "1",
    "num_generations": "2",
    "max_completion_length": "12",
    "report_to": "none",
    "save_steps": "2",
    "threads": "1",
}
"""All that is changed in a recipe to run it on a CPU, but for model, data, folder and steps."""
GRPO_ONLY = ("use_vllm", "num_generations", "max_completion_length")


def is_grpo(path: Path) -> bool:
    return "-grpo" in path.stem


def main_of(path: Path) -> Callable[[list[str]], int]:
    return grpo.main if is_grpo(path) else sft.main


def types_of(path: Path) -> tuple[type, ...]:
    if is_grpo(path):
        return GRPOArguments, RewardArguments, StarGRPOConfig
    return StarArguments, StarSFTConfig


def fixed(path: Path) -> list[str]:
    """What every call has."""
    return ["--config", str(path), "--report_to", "none"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny checkpoint of the architecture of a published model, made once."""
    folder = tmp_path_factory.mktemp("tiny")

    def tiny(name: str) -> Path:
        family = folder / published_config(name).model_type
        return family if family.exists() else make_tiny(family, name)

    return tiny


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_plan(
    path: Path,
    data_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    recipe = yaml.safe_load(path.read_text())
    assert main_of(path)([*fixed(path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith(f"{recipe['data']} is not there yet")
    assert f"{9000 if path in LARGE else 640} of view center, assumed" in text
    assert ("a card of" in text) is (path in LARGE)
    few = ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1"]
    there = ["--data", str(data_folder), *few, "--launch", str(ACCELERATE[0])]
    if is_grpo(path):  # 12 rows are enough for 8 processes with one prompt each
        there += ["--num_generations", "8", "--max_completion_length", "96"]
    assert main_of(path)([*fixed(path), *there, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "12 of view center" in text
    assert "not there yet" not in text


@pytest.mark.parametrize(
    "path",
    [
        # a 7B's recipe differs from a 3B's by numbers only
        pytest.param(path, marks=[pytest.mark.slow] if "_7b-" in path.name else [])
        for path in LARGE
    ],
    ids=lambda p: p.stem,
)
def test_mini_size(
    path: Path,
    data_folder: Path,
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two steps, a checkpoint; the same command with four steps goes on from it."""
    monkeypatch.chdir(ROOT)
    model = tiny(yaml.safe_load(path.read_text())["model_name_or_path"])
    flags = ["--config", str(path), "--model", str(model), "--data", str(data_folder)]
    flags += ["--output_dir", str(tmp_path)]
    for name, value in MINI_SIZE.items():
        flags += [f"--{name}", value] if is_grpo(path) or name not in GRPO_ONLY else []
    assert main_of(path)([*flags, "--max_steps", "2"]) == 0
    assert (tmp_path / "checkpoint-2" / "complete").exists()
    capsys.readouterr()
    assert main_of(path)([*flags, "--max_steps", "4"]) == 0
    assert f"resuming from {tmp_path / 'checkpoint-2'}" in capsys.readouterr().err
    steps = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in steps if "loss" in entry]
    assert len(losses) == 4
    assert all(loss is not None for loss in losses)
    assert list(tmp_path.glob("*.safetensors"))


def head_of(path: Path) -> list[str]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("#")]
    return "\n".join(line[1:] for line in lines).replace("\\\n", " ").splitlines()


def training_commands(path: Path) -> list[list[str]]:
    """The flags of each training command at the head."""
    found = [re.search(r"train (?:grpo|sft) (.*)", line) for line in head_of(path)]
    return [shlex.split(match[1]) for match in found if match]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_commands_at_the_head(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They name this file, and no flag or file that is not there."""
    monkeypatch.chdir(ROOT)
    commands = training_commands(path)
    assert commands
    for flags in commands:
        assert flags[flags.index("--config") + 1] == str(path.relative_to(ROOT))
        without = ["--use_vllm", "false"] if is_grpo(path) else []
        parse("train", [*flags, *without, "--report_to", "none"], *types_of(path))
    for line in head_of(path):
        for name in re.findall(r"recipes/\S+\.yaml", line):
            assert (ROOT / name).is_file(), name
        if "accelerate launch" in line:
            assert re.search(r" -m star_r1\.cli train (grpo|sft) --config ", line), line


ABLATION = re.compile(r"^ +(--reward\w* \S+)  +\S")


@pytest.mark.parametrize("path", [p for p in LARGE if is_grpo(p)], ids=lambda p: p.stem)
def test_ablations_are_one_flag(path: Path) -> None:
    """Each flag of the head scores some answer in another way; no two do alike."""
    flags = [match[1] for line in head_of(path) if (match := ABLATION.match(line))]
    assert len(flags) == 8
    truth = "2.color.cyan, 0.shape.cube"
    answers = [
        "2.color.red",
        "2.color.cyan, 2.color.red, 2.color.blue",
        "2.size.small, 0.size.large",
        truth,
    ]
    said = [f"<think></think><answer>{answer}</answer>" for answer in answers]

    def scores(flag: str) -> tuple[float, ...]:
        given = [*fixed(path), *flag.split(), "--use_vllm", "false"]
        arguments, numbers, _ = parse("train", given, *types_of(path))
        reward = reward_function(arguments, numbers)
        return tuple(reward(completions=said, answer=[truth] * len(said)))

    assert len({scores(flag) for flag in ["", *flags]}) == 9


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda p: p.stem)
def test_accelerate_reads_its_configs(path: Path) -> None:
    config: Any = load_config_from_file(str(path))
    assert (config.num_processes, config.mixed_precision) == (8, "bf16")
    assert config.distributed_type.value == {"zero3": "DEEPSPEED", "fsdp2": "FSDP"}[path.stem]


@pytest.mark.parametrize("path", LARGE, ids=lambda p: p.stem)
def test_fsdp_finds_the_layers_by_itself(path: Path) -> None:
    """fsdp2.yaml names none: accelerate then takes ``_no_split_modules`` of the model."""
    name = yaml.safe_load(path.read_text())["model_name_or_path"]
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(published_config(name))
    there = {type(module).__name__ for module in model.modules()}
    layers = model.model.language_model.layers
    assert {type(layers[0]).__name__, type(model.model.visual.blocks[0]).__name__} <= set(
        model._no_split_modules
    )
    assert set(model._no_split_modules) <= there
