"""How a run is started: from accelerate's config, or from what a launcher left behind."""

from pathlib import Path

import pytest

from star_r1.errors import UserError
from star_r1.train.launch import Launch, read_launch, started_otherwise

RECIPES = Path(__file__).parents[2] / "recipes" / "accelerate"


@pytest.mark.parametrize(
    ("config", "environment", "launch"),
    [
        (None, {}, Launch()),
        ("", {}, Launch()),
        ("zero3", {}, Launch(8, 1, "zero3")),
        ("fsdp2", {}, Launch(8, 1, "fsdp")),
        ("zero3", {"WORLD_SIZE": "16"}, Launch(16, 1, "zero3")),
        # a launcher has the last word
        ("zero3", {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, Launch(4, 2, "none")),
        (
            None,
            {
                "RANK": "0",
                "WORLD_SIZE": "8",
                "ACCELERATE_USE_DEEPSPEED": "true",
                "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2",
            },
            Launch(8, 1, "zero2"),
        ),
    ],
)
def test_launch(config: str | None, environment: dict[str, str], launch: Launch) -> None:
    path = str(RECIPES / f"{config}.yaml") if config else config
    assert read_launch(path, environment) == launch


@pytest.mark.parametrize(
    ("text", "launch"),
    [
        ("distributed_type: MULTI_GPU\nnum_processes: 4\nnum_machines: 2", Launch(4, 2, "none")),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 0}", Launch(1, 1, "none")),
        ("distributed_type: 'NO'", Launch()),
    ],
)
def test_config(text: str, launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert read_launch(str(tmp_path / "a.yaml"), {}) == launch


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("a: [", "not YAML"),
        ("- a", "give a mapping of settings"),
        ("distributed_type: TPU", "not an accelerate config"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 4}", "zero_stage is 4"),
        ("distributed_type: FSDP\nnum_processes: 0", "num_processes and num_machines"),
    ],
)
def test_a_mistake_is_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_launch(str(tmp_path / "a.yaml"), {})
    assert "a.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_started_otherwise_is_told() -> None:
    zero = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
    path = str(RECIPES / "zero3.yaml")
    assert started_otherwise(path, {"RANK": "0", "WORLD_SIZE": "8", **zero}) is None
    told = started_otherwise(path, {})
    assert told is not None
    assert started_otherwise("", {}) is None
    assert "processes 8, division zero3" in told
    assert "processes 1, division none" in told
