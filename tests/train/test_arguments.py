"""Flags and recipes: the file gives defaults, flags win, a mistake is one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from star_r1.errors import UserError
from star_r1.reward.star import StarConfig
from star_r1.train import grpo, sft
from star_r1.train.arguments import parse
from star_r1.train.grpo import GRPOArguments, RewardArguments, StarGRPOConfig, reward_function

RECIPES = Path(__file__).parents[2] / "recipes"
Read = Callable[..., tuple[Any, Any, Any]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(*flags: str) -> tuple[Any, Any, Any]:
        fixed = ["--data", "d", "--output_dir", str(tmp_path / "out"), "--report_to", "none"]
        types = GRPOArguments, RewardArguments, StarGRPOConfig
        return parse("star-r1 train grpo", [*fixed, *flags], *types)

    return read


def test_defaults_are_the_papers_grpo(read: Read) -> None:
    arguments, numbers, args = read()
    assert (arguments.model_name_or_path, arguments.views) == ("mini", ["center"])
    assert (args.loss_type, args.scale_rewards, args.beta) == ("grpo", "group", 0.04)
    assert (args.epsilon, args.use_bias_correction_kl, args.bf16) == (0.2, False, False)
    assert reward_function(arguments, numbers).__name__ == "star_reward"


def test_flags_win_over_the_recipe(read: Read, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("beta: 0.5\nlearning_rate: 3e-4\nviews: [center, left]\nreward_object: 0\n")
    arguments, numbers, args = read(f"--config={recipe}", "--beta", "0.1")
    assert (args.beta, args.learning_rate, numbers.reward_object) == (0.1, 3e-4, 0)
    assert arguments.views == ["center", "left"]


@pytest.mark.parametrize(
    ("flag", "field", "value"),
    [
        ("--reward_object", "object", 0.0),
        ("--reward_wrong", "wrong", 0.0),
        ("--reward_matching", "matching", "independent"),
    ],
)
def test_an_ablation_is_one_flag(read: Read, flag: str, field: str, value: Any) -> None:
    arguments, numbers, _ = read(flag, str(value))
    truth = "2.color.cyan"
    said = "<think></think><answer>2.shape.cube, 2.size.large, 5.size.large</answer>"
    changed = reward_function(arguments, numbers)(completions=[said], answer=[truth])
    from star_r1.reward.star import star
    from star_r1.tvr import parse_changes
    from star_r1.tvr.answer import parse_answer

    config = StarConfig(**{field: value})
    assert changed == [star(parse_answer(said), parse_changes(truth), config).total]
    assert changed != [star(parse_answer(said), parse_changes(truth)).total]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no_such_flag", "1"], "unknown flag --no_such_flag"),
        (["--learning_rat", "1"], "unknown flag --learning_rat"),
        (["--beta", "much"], "--beta: invalid float value: 'much'"),
        (["--views", "bottom"], "--views: view 'bottom' is unknown; choose from"),
        (["--data", ""], "no --data"),
        (["--config"], "--config: give the path"),
        (["--config", "none.yaml"], "--config none.yaml: No such file"),
        (["--num_generations", "3"], r"generation_batch_size \(8\) must be divisible by num_gen"),
        (["--num_generations", "1"], "--num_generations 1: give a number of 2 or more"),
        (["--reward_object", "-1"], "object is -1.0; give a number of 0 or more"),
        (["--reward", "dense"], "--reward dense: choose from star, sparse"),
        (["--reward", "sparse", "--reward_object", "0"], "are the star reward's, not sparse's"),
        (["--dtype", "int4"], "--dtype: invalid choice: 'int4'"),
    ],
)
def test_a_mistake_is_one_line(flags: list[str], message: str, read: Read) -> None:
    def choose_reward() -> None:
        arguments, numbers, _ = read(*flags)
        reward_function(arguments, numbers)

    with pytest.raises(UserError, match=message) as caught:
        choose_reward()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bta: 0.1", "unknown flag --bta"),
        ("- beta", "give a mapping of settings"),
        ("beta: {", "not YAML"),
        ("beta: much", "--beta: invalid float value"),
    ],
)
def test_a_mistake_in_a_recipe(text: str, message: str, read: Read, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read("--config", str(tmp_path / "r.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "missing"], "missing: no such folder"),
        (["--model", "./missing"], "model './missing': no such folder"),
        (["--views", "right"], "no row has view 'right'"),
        (["--per_device_train_batch_size", "104"], "12 rows of view center, but one generation"),
        (["--output_dir", ""], "no --output_dir"),
        (["--use_vllm"], "--use_vllm: vLLM is not installed"),
        (["--cast_lm_head_to_fp32"], r"--cast_lm_head_to_fp32: .* \(tied\)"),
        (["--chat_template_kwargs", '{{"depth": 1}}'], "kwargs depth: .* has no such variable"),
        (["--label_smoothing_factor", "0.1"], "--label_smoothing_factor: GRPO has no labels"),
        (["--output_dir", "{data}/data/train-00000-of-00001.parquet"], "a file is in the way"),
    ],
)
def test_a_mistake_in_what_is_there(
    flags: list[str], message: str, data_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    fixed = ["--model", str(model_folder), "--data", str(data_folder), "--use_cpu"]
    given = [flag.format(data=data_folder) for flag in flags]
    with pytest.raises(UserError, match=message) as caught:
        grpo.main([*fixed, "--output_dir", str(tmp_path / "out"), "--report_to", "none", *given])
    assert "\n" not in str(caught.value)


def test_evaluation_needs_data(data_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    fixed = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / "out"]
    for main in (grpo.main, sft.main):
        with pytest.raises(UserError, match="--eval_strategy steps: give --eval_data"):
            main([*map(str, fixed), "--report_to", "none", "--eval_strategy", "steps"])


@pytest.mark.parametrize("path", sorted(RECIPES.glob("mini-*.yaml")), ids=lambda p: p.name)
def test_recipes_parse(path: Path) -> None:
    types = {
        "grpo": (GRPOArguments, RewardArguments, StarGRPOConfig),
        "sft": (sft.StarArguments, sft.StarSFTConfig),
    }[path.stem.removeprefix("mini-")]
    arguments = parse("train", ["--config", str(path), "--data", "d", "--output_dir", "o"], *types)[
        0
    ]
    assert arguments.model_name_or_path == "mini"
