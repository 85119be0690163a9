"""What a run's numbers follow from: content by its bytes, every setting but a list of harmless."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from star_r1.errors import UserError
from star_r1.train.arguments import StarArguments, parse
from star_r1.train.grpo import GRPOArguments, RewardArguments, StarGRPOConfig
from star_r1.train.identity import (
    HARMLESS,
    default_settings,
    describe_model,
    differences,
    follows_end,
    identify,
)
from star_r1.train.sft import StarSFTConfig

GRPO = (GRPOArguments, RewardArguments, StarGRPOConfig)
SFT = (StarArguments, StarSFTConfig)
SIZE = ["--use_cpu", "--report_to", "none", "--output_dir", "out"]


@pytest.fixture
def folders(model_folder: Path, data_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model and data, to be changed."""
    return (
        Path(shutil.copytree(model_folder, tmp_path / "model")),
        Path(shutil.copytree(data_folder, tmp_path / "data")),
    )


def identity(folders: tuple[Path, Path], *flags: str, types: Any = SFT) -> dict[str, Any]:
    model, data = folders
    given = ["--model", str(model), "--data", str(data), *SIZE, *flags]
    arguments, *numbers, args = parse("train", given, *types)
    return identify(arguments, args, *numbers)


@pytest.mark.parametrize("types", [GRPO, SFT], ids=["grpo", "sft"])
def test_every_setting_counts_but_those_listed(types: Any, folders: tuple[Path, Path]) -> None:
    found = identity(folders, "--use_peft", types=types)
    fields = {field.name for config in types for field in dataclasses.fields(config)}
    elsewhere = {"model_name_or_path", "data", "eval_data"}
    assert fields - HARMLESS - elsewhere <= set(found)
    assert not HARMLESS & set(found)


def test_a_setting_that_a_new_trl_brings_counts(folders: tuple[Path, Path]) -> None:
    @dataclasses.dataclass
    class Newer(StarSFTConfig):
        novelty: float = 0.0

    before = identity(folders)
    defaults = default_settings(Newer("out", bf16=False, report_to="none"))
    same, other = (
        identity(folders, *flags, types=(StarArguments, Newer))
        for flags in ((), ("--novelty", "1"))
    )
    assert differences(before, same, defaults) == []
    assert differences(before, other, defaults) == ["--novelty 0.0 -> 1.0"]


def test_what_is_listed_is_a_setting() -> None:
    fields = {f.name for config in (*GRPO, *SFT) for f in dataclasses.fields(config)}
    assert fields >= HARMLESS


def edit_answer(model: Path, data: Path) -> None:
    (path,) = (data / "data").glob("*.parquet")
    table, stat = pq.read_table(path), path.stat()
    answers = [*table["answer"].to_pylist()[:-1], "0.color.red"]
    place = table.schema.get_field_index("answer")
    pq.write_table(table.set_column(place, "answer", pa.array(answers)), path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def edit_weight(model: Path, data: Path) -> None:
    weights = load_file(model / "model.safetensors")
    last = sorted(weights)[-1]
    weights[last].view(-1)[-1] += 1
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def edit_template(model: Path, data: Path) -> None:
    with (model / "chat_template.jinja").open("a") as file:
        file.write("Think twice.")


def write_beside(model: Path, data: Path) -> None:
    (model / "README.md").write_text("a card")
    (model / "training.json").write_text("{}")
    (data / "README.md").write_text("a card")


@pytest.mark.parametrize(
    ("edit", "differ"),
    [
        (edit_answer, {"data"}),
        (edit_weight, {"weights"}),
        (edit_template, {"processor"}),
        (write_beside, set()),
    ],
)
def test_content_counts(
    edit: Callable[[Path, Path], None], differ: set[str], folders: tuple[Path, Path]
) -> None:
    before = identity(folders)
    edit(*folders)
    after = identity(folders)
    assert {name for name in before if before[name] != after[name]} == differ


def test_names_of_folders_do_not_count(folders: tuple[Path, Path], tmp_path: Path) -> None:
    before = identity(folders)
    moved = (folders[0].rename(tmp_path / "m"), folders[1].rename(tmp_path / "d"))
    assert identity(moved) == before


def test_evaluation_counts_where_it_decides(folders: tuple[Path, Path]) -> None:
    often = ("--eval_strategy", "steps", "--eval_steps", "1", "--eval_data", str(folders[1]))
    assert identity(folders, *often) == identity(folders)
    best = ("--load_best_model_at_end", "true", *often)
    seen = identity(folders, *best)
    assert seen["eval_steps"] == 1
    assert seen["eval_data"] == seen["data"]


def test_an_adapter_is_also_its_base(model_folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(model_folder, tmp_path / "base"))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"a": torch.zeros(2)}, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    before = describe_model(str(adapter))
    assert before["processor"] == describe_model(str(base))["processor"]
    edit_weight(base, base)
    after = describe_model(str(adapter))
    assert before["weights"] != after["weights"]
    shutil.rmtree(base)
    with pytest.raises(UserError, match="its base model is missing"):
        describe_model(str(adapter))


def test_a_name_on_the_hub_is_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert describe_model("nobody/nothing") == {}
    cached = str(tmp_path / "snapshots" / "abc" / "config.json")
    monkeypatch.setattr("star_r1.train.identity.try_to_load_from_cache", lambda *_: cached)
    assert describe_model("nobody/nothing") == {"weights": "nobody/nothing@abc"}


@pytest.mark.parametrize(
    ("kind", "warmup", "follows"),
    [
        ("linear", 0, True),
        ("cosine", 5, True),
        ("constant", 0.1, False),
        ("constant_with_warmup", 5, False),
        ("constant_with_warmup", 0.1, True),
        ("inverse_sqrt", 0, False),
        ("warmup_stable_decay", 0, True),
    ],
)
def test_schedules_that_follow_from_the_end(kind: str, warmup: float, follows: bool) -> None:
    assert follows_end(SimpleNamespace(lr_scheduler_type=kind, warmup_steps=warmup)) is follows
