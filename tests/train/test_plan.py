"""The dry run: its numbers are those of the run, its refusals are all there is to refuse."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from star_r1.errors import UserError
from star_r1.model.loading import load_model, load_processor
from star_r1.train import grpo, sft
from star_r1.train.adapters import build
from star_r1.train.arguments import parse
from star_r1.train.grpo import GRPOArguments, RewardArguments, StarGRPOConfig, StarGRPOTrainer
from star_r1.train.plan import asked_for, show
from star_r1.train.sft import StarSFTConfig, StarSFTTrainer, answers_of, teach

ROOT = Path(__file__).parents[2]
TYPES = (GRPOArguments, RewardArguments, StarGRPOConfig)
Plan = Callable[..., dict[str, str]]


def read(text: str) -> dict[str, str]:
    """Name -> value of each line of a plan; its headings too, with nothing."""
    found = {}
    for line in text.splitlines():
        name, value = (line[2:24], line[24:]) if line.startswith("  ") else (line, "")
        found[name.strip()] = value
    return found


@pytest.fixture
def fixed(model_folder: Path, data_folder: Path, tmp_path: Path) -> list[str]:
    folders = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / "out"]
    return [*map(str, folders), "--use_cpu", "--report_to", "none"]


@pytest.fixture
def plan(fixed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plan:
    """The plan of a run on the data of the tests; nothing is written."""

    def plan(*flags: str, main: Callable[[list[str]], int] = grpo.main) -> dict[str, str]:
        assert main([*fixed, *flags, "--dry-run"]) == 0
        assert not (tmp_path / "out").exists()
        return read(capsys.readouterr().out)

    return plan


def test_numbers_by_hand(plan: Plan) -> None:
    """12 rows; a generation batch is 8 x 2 completions, so 4 prompts: 3 batches an epoch."""
    flags = "--per_device_train_batch_size 8 --gradient_accumulation_steps 2 --num_generations 4"
    found = plan(*flags.split(), "--num_train_epochs", "2", "--warmup_steps", "0.5")
    assert found["rows"] == "12 of view center"
    assert found["rows of other views"] == "12 left"
    assert found["pictures"] == "40 x 40 pixels"
    assert found["a step"] == found["sampled at once"] == "4 prompts x 4 completions"
    assert found["an epoch"] == "3 steps"
    assert found["steps"] == "6"
    assert found["learning rate"] == "1e-06, linear, 3 of warm-up"
    prompt = int(found["longest prompt"].split()[0])
    assert found["sampled"] == f"{16 * 512}"
    assert found["prompts repeated"] == f"{16 * (512 + prompt)}"
    assert found["prompts shared"].startswith(f"{16 * 512 + 4 * prompt}, ")
    assert found["are they shared"] == "yes"


def test_reward_of_a_real_row(plan: Plan) -> None:
    found = plan("--reward_object", "0", "--reward_format", "2")
    assert "object 0.0" in found["numbers"]
    name, _, truth = found["example"].partition(", ")
    count = len(truth.split(", "))
    assert name.endswith("-center")
    assert found["a perfect answer"] == f"{2 + 5 * count:+.2f}"
    assert found["no changes named"] == f"{2 - count:+.2f}"
    assert float(found["every value of these"]) < float(found["a perfect answer"])
    sparse = plan("--reward", "sparse")
    assert (sparse["a perfect answer"], sparse["no changes named"]) == ("+2.00", "+1.00")
    assert "numbers" not in sparse


GRPO_SETTINGS = [
    "--per_device_train_batch_size 8 --num_generations 4",
    "--per_device_train_batch_size 4 --num_generations 4 --gradient_accumulation_steps 4",
    "--per_device_train_batch_size 4 --num_generations 2 --gradient_accumulation_steps 3",
    "--per_device_train_batch_size 4 --num_generations 4 --steps_per_generation 2 "
    "--gradient_accumulation_steps 4 --num_iterations 3 --num_train_epochs 2.5",
    "--per_device_train_batch_size 8 --num_generations 4 --generation_batch_size 40",
    "--per_device_train_batch_size 8 --num_generations 4 --max_steps 5",
]


@pytest.mark.parametrize("flags", GRPO_SETTINGS)
def test_steps_are_those_of_the_trainer(flags: str, plan: Plan, fixed: list[str]) -> None:
    found = plan(*flags.split())
    arguments, numbers, args = parse("train", [*fixed, *flags.split()], *TYPES)
    trainer = StarGRPOTrainer(
        load_model(arguments.model_name_or_path),
        grpo.reward_function(arguments, numbers),
        args,
        train_dataset=grpo.prompts_of(arguments.data, ["center"]),
        processing_class=load_processor(arguments.model_name_or_path),
    )
    *_, steps = trainer.set_initial_training_values(args, trainer.get_train_dataloader())
    assert found["steps"] == str(steps)
    batch = args.generation_batch_size // args.num_generations
    assert found["sampled at once"] == f"{batch} prompts x {args.num_generations} completions"


@pytest.mark.parametrize(
    "flags",
    [
        "--per_device_train_batch_size 5",
        "--per_device_train_batch_size 5 --gradient_accumulation_steps 2 --num_train_epochs 2",
        "--per_device_train_batch_size 5 --dataloader_drop_last",
    ],
)
def test_steps_are_those_of_the_sft_trainer(flags: str, plan: Plan, fixed: list[str]) -> None:
    found = plan(*flags.split(), main=sft.main)
    arguments, args = parse("train", [*fixed, *flags.split()], sft.StarArguments, StarSFTConfig)
    processor = load_processor(arguments.model_name_or_path)
    trainer = StarSFTTrainer(
        load_model(arguments.model_name_or_path),
        args,
        train_dataset=teach(answers_of(arguments.data, ["center"]), processor),
        processing_class=processor,
    )
    *_, steps = trainer.set_initial_training_values(args, trainer.get_train_dataloader())
    assert found["steps"] == str(steps)


@pytest.mark.parametrize(
    "flags", ["", "--freeze_vision false", "--use_peft", "--use_peft --lora_r 3"]
)
def test_trained_parameters_are_those_of_the_model(
    flags: str, plan: Plan, fixed: list[str]
) -> None:
    from peft import get_peft_model

    arguments, *_ = parse("train", [*fixed, *flags.split()], *TYPES)
    model, _ = arguments.load()
    if adapter := arguments.adapter():
        model = get_peft_model(model, adapter)
    found = plan(*flags.split())
    assert int(found["trained"].split(",")[0]) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    assert int(found["parameters"]) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--per_device_train_batch_size 104", "12 rows of view center, but one generation batch"),
        ("--views right", "no row has view 'right'"),
        ("--max_completion_length 5000", "exceed the context of 4096"),
        ("--reward dense", "--reward dense: choose from star"),
        ("--reward sparse --reward_object 0", "are the star reward's, not sparse's"),
        ("--reward_object -1", "object is -1.0"),
        ("--use_peft --lora_target_modules nothing", "'nothing': matches no module"),
        ("--cast_lm_head_to_fp32", "(tied)"),
        ('--chat_template_kwargs {{"depth":1}}', "kwargs depth: the model's chat template has no"),
        ("--label_smoothing_factor 0.1", "--label_smoothing_factor: GRPO has no labels"),
        ("--eval_data {data} --eval_strategy steps --eval_views top", "no row has view 'top'"),
        ("--eval_strategy steps", "--eval_strategy steps: give --eval_data"),
        ("--eval_data {data} --views top", "no row has view 'top'"),
        ("--model ./missing", "model './missing': no such folder"),
        ("--model some/body", "model 'some/body': its architecture is not known"),
        ("--output_dir {data}/data/train-00000-of-00001.parquet", "a file is in the way"),
        ("--use_vllm --vllm_max_model_length 64", "exceed the context of 64"),
    ],
)
def test_refusals(
    flags: str,
    message: str,
    fixed: list[str],
    data_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = flags.format(data=data_folder).split()
    assert grpo.main([*fixed, *given, "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert message in printed.err
    assert all(line.startswith("error: ") for line in printed.err.splitlines())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--num_generations 3", r"must be divisible by num_gen"),
        ("--no_such_flag", "unknown flag --no_such_flag"),
        ("--launch missing.yaml", "--launch missing.yaml: No such file"),
    ],
)
def test_flags_that_do_not_parse(flags: str, message: str, fixed: list[str]) -> None:
    with pytest.raises(UserError, match=message):
        grpo.main([*fixed, *flags.split(), "--dry-run"])


def test_all_reasons_come_at_once(fixed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--reward dense --eval_strategy steps --views right --use_peft"
    assert grpo.main([*fixed, *flags.split(), "--lora_target_modules", "x", "--dry_run"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_data_to_come(
    fixed: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert grpo.main([*fixed, "--data", "data/no-such/trance9k/train", "--dry-run"]) == 0
    text = capsys.readouterr().out
    first = text.splitlines()[0]
    assert first.startswith(
        "data/no-such/trance9k/train is not there yet; make it: star-r1 generate"
    )
    assert read(text)["rows"] == "9000 of view center, assumed"
    assert grpo.main([*fixed, "--data", "data/other", "--dry-run"]) == 0
    assert read(capsys.readouterr().out)["steps"] == "3 epochs of rows not there yet"
    assert grpo.main([*fixed, "--data", "data/other", "--max_steps", "7", "--dry-run"]) == 0
    assert read(capsys.readouterr().out)["steps"] == "7"


def test_as_one_of_many(
    fixed: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not divisible by itself may be with the others; the launcher is left alone."""
    flags = ["--per_device_train_batch_size", "2", "--num_generations", "8", "--dry-run"]
    launch = ["--launch", str(ROOT / "recipes/accelerate/zero3.yaml")]
    assert grpo.main([*fixed, *flags, *launch]) == 0
    found = read(capsys.readouterr().out)
    assert found["processes"] == "8"
    assert found["a step"] == "2 prompts x 8 completions"
    assert found["are they shared"] == "no: FSDP or DeepSpeed without vLLM"
    assert found["divided"] == "by ZeRO-3"
    assert found["command"].startswith("accelerate launch --config_file")
    assert "--dry" not in found["command"]
    launcher = {"RANK": "0", "WORLD_SIZE": "4", "ACCELERATE_USE_FSDP": "true"}
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    assert grpo.main([*fixed, *flags]) == 0
    found = read(capsys.readouterr().out)
    assert (found["processes"], found["divided"]) == ("4", "by FSDP")
    assert all(os.environ[name] == value for name, value in launcher.items())
    assert not torch.distributed.is_initialized()
    monkeypatch.setenv("RANK", "1")
    assert grpo.main([*fixed, *flags]) == 0
    assert not capsys.readouterr().out


def test_sft_has_no_reward(plan: Plan) -> None:
    found = plan(main=sft.main)
    assert "Reward" not in found
    assert "reference model" not in found
    assert found["a step"] == "8 rows"


def test_checkpoints_on_disk(plan: Plan, fixed: list[str]) -> None:
    """Float32 weights and two moments of what is trained; three, while one is replaced."""
    found = plan("--save_steps", "0.5", "--max_steps", "9")
    whole, trained = int(found["parameters"]), int(found["trained"].split(",")[0])
    one = 4 * whole + 8 * trained
    assert float(found["a checkpoint"].split()[0]) == pytest.approx(one / 1e9, abs=6e-5)
    most = float(found["at most"].split()[0])
    assert most == pytest.approx((3 * one + 4 * whole) / 1e9, abs=6e-5)
    assert found["saved every"] == "5 steps"
    assert plan("--save_strategy", "no")["checkpoints"] == "none"
    assert plan("--save_strategy", "epoch")["saved every"] == "epoch"


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        ("--dtype bfloat16", "round updates of 1e-06 away; use --dtype float32"),
        ("--max_pixels 1000", "pictures of 40x40 are reduced to 1000 pixels"),
        ("--use_vllm", "the run needs vLLM and GPUs"),
        ("--eval_data data/none", "data/none is not there yet; make it: star-r1 generate"),
    ],
)
def test_notes(flags: str, note: str, plan: Plan) -> None:
    if note.startswith("the run") and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert any(note in line for line in plan(*flags.split()))
    assert not any(note in line for line in plan())


def test_seven_billion_without_a_download(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = f"--model Qwen/Qwen2.5-VL-7B-Instruct --data none --output_dir {tmp_path / 'out'}"
    flags += (
        " --dtype bfloat16 --use_vllm --vllm_gpu_memory_utilization 0.3 --gradient_checkpointing"
    )
    launch = ["--launch", str(ROOT / "recipes/accelerate/fsdp2.yaml")]
    given = [*flags.split(), *launch, "--report_to", "none", "--dry-run"]
    assert show("star-r1 train grpo", given, TYPES, StarGRPOTrainer, grpo.reward_function) == 0
    found = read(capsys.readouterr().out)
    assert found["parameters"] == "8292166656"
    assert found["trained"] == "7615616512, all but the vision tower"
    assert found["weights"] == "3.98 GB"  # (4 x 7.616 + 2 x 0.677) / 8
    assert found["vLLM"] == "30% of the card, its weights 16.6 GB"
    assert found["enough"].startswith("a card of 80 GB")


def test_only_the_flag_asks_for_it() -> None:
    assert asked_for(["--config", "a", "--dry_run"])
    assert not asked_for(["--config", "dry-run"])


def test_a_family_that_cannot_be_trained(fixed: list[str]) -> None:
    from transformers import AutoConfig

    arguments, *_ = parse("train", fixed, *TYPES)
    other: Any = AutoConfig.for_model("qwen3_vl_moe")
    with pytest.raises(UserError, match="cannot be trained here"):
        build(arguments, other)


@pytest.mark.parametrize("flag", ["--gradient_checkpointing", "--activation_checkpointing"])
def test_checkpointing_by_either_name(flag: str, plan: Plan) -> None:
    with_it, without = plan(flag, "true"), plan()
    kept, all_of_it = (float(found["activations"].split()[0]) for found in (with_it, without))
    assert kept < all_of_it


def test_a_recipe_cannot_ask_for_it(fixed: list[str], tmp_path: Path) -> None:
    """The launch must be known before the recipe is read as one process would."""
    (tmp_path / "r.yaml").write_text("dry_run: true\n")
    with pytest.raises(UserError, match="give --dry-run on the command line"):
        grpo.main([*fixed, "--config", str(tmp_path / "r.yaml")])


def test_a_run_says_that_it_is_not_started_as_planned(
    fixed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    launch = ["--launch", str(ROOT / "recipes/accelerate/zero3.yaml")]
    with pytest.raises(UserError, match="--reward dense"):
        grpo.main([*fixed, *launch, "--reward", "dense"])
    assert "the recipe is for processes 8, division zero3" in capsys.readouterr().err
