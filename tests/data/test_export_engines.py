"""What other engines train on: read as each of them reads it, with the script that starts it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image

from star_r1.data import export_engines
from star_r1.data.dataset import load
from star_r1.data.export_engines import ENGINES, export_engine
from star_r1.data.pictures import read_pair
from star_r1.errors import UserError
from star_r1.reward.adapters.truth import read_packed


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def read(path: Path) -> Any:
    """A file as verl, EasyR1 and ms-swift open it."""
    kind = {".parquet": "parquet", ".jsonl": "json"}[path.suffix]
    return load_dataset(kind, data_files=str(path), split="train")


def same_picture(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def truth(packed: str) -> list[str]:
    return [str(change) for change in read_packed("", packed)[1]]


def test_verl(data_folder: Path, tmp_path: Path) -> None:
    done = export_engine("verl", data_folder, tmp_path / "out", ["left"], data_folder)
    assert (done.samples, done.rows) == (12, 12)
    assert set(files(tmp_path / "out")) == {
        *("README.md", "export.json", "run.sh", "train.parquet", "val.parquet")
    }
    rows = read(tmp_path / "out" / "train.parquet")
    for index, (row, source) in enumerate(zip(rows, load(data_folder, ["left"]), strict=True)):
        assert row["data_source"] == "tvr-left"
        system, user = row["prompt"]
        assert (system["role"], user["role"]) == ("system", "user")
        assert "<image>" not in system["content"]
        assert user["content"].startswith("<image><image>Initial objects:\n")
        assert all(map(same_picture, row["images"], read_pair(source)))
        assert len(row["images"]) == 2
        assert row["reward_model"]["style"] == "rule"
        assert truth(row["reward_model"]["ground_truth"]) == source["answer"].split(", ")
        assert row["extra_info"] == {
            **{"split": "train", "index": index, "id": source["id"]},
            **{"view": "left", "answer": source["answer"]},
        }
    val = read(tmp_path / "out" / "val.parquet")
    assert [row["view"] for row in val["extra_info"]] == ["center", "left"] * 12
    assert {row["split"] for row in val["extra_info"]} == {"val"}


def test_easyr1(moves_folder: Path, tmp_path: Path) -> None:
    assert export_engine("easyr1", moves_folder, tmp_path / "out").rows == 8
    rows = read(tmp_path / "out" / "train.parquet")
    assert not (tmp_path / "out" / "val.parquet").exists()
    for row, source in zip(rows, load(moves_folder), strict=True):
        assert row["problem"].count("<image>") == len(row["images"]) == 2
        assert row["problem"].startswith("You see two pictures")
        assert row["problem"].endswith(source["prompt"][1]["content"][2]["text"])
        assert truth(row["answer"]) == source["answer"].split(", ")
    # A move out of sight keeps the moves that cannot be told from it.
    (out,) = read_packed("", rows[4]["answer"])[1]
    assert out.options == ("left.2", "front-left.2", "behind-left.2")


def test_ms_swift(data_folder: Path, tmp_path: Path) -> None:
    # The same ids in both: their pictures must not mix.
    other = Path(shutil.copytree(data_folder, tmp_path / "other"))
    export_engine("ms-swift", data_folder, tmp_path / "out", ["center"], other)
    lines = (tmp_path / "out" / "train.jsonl").read_text().splitlines()
    for line, source in zip(map(json.loads, lines), load(data_folder, ["center"]), strict=True):
        assert list(line) == ["id", "messages", "images", "ground_truth"]
        assert line["messages"][1]["content"].count("<image>") == 2
        for path, picture in zip(line["images"], read_pair(source), strict=True):
            assert path.startswith("image/train/")
            with Image.open(tmp_path / "out" / path) as opened:
                assert same_picture(opened, picture)
        assert truth(line["ground_truth"]) == source["answer"].split(", ")
    val = read(tmp_path / "out" / "val.jsonl")
    assert len(val) == 24
    assert all((tmp_path / "out" / path).is_file() for row in val for path in row["images"])


def test_row_groups(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_engines, "ROW_GROUP", 10)
    export_engine("verl", data_folder, tmp_path / "out")
    file = pq.ParquetFile(tmp_path / "out" / "train.parquet")
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [10, 10, 4]
    ids = [row["id"] for row in read(tmp_path / "out" / "train.parquet")["extra_info"]]
    assert ids == list(load(data_folder)["id"])


@pytest.mark.parametrize("engine", ENGINES)
def test_goes_on_after_an_interruption(
    engine: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_engine(engine, data_folder, tmp_path / "whole", None, data_folder)
    packed = 0

    def interrupt(row: Any) -> str:
        nonlocal packed
        packed += 1
        if packed == 30:  # in val, when train is complete
            raise KeyboardInterrupt
        return really(row)

    really = export_engines.pack
    monkeypatch.setattr(export_engines, "pack", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_engine(engine, data_folder, tmp_path / "out", None, data_folder)
    assert list((tmp_path / "out").glob("train.*"))
    assert not list((tmp_path / "out").glob("val.*"))
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.setattr(export_engines, "pack", really)
    export_engine(engine, data_folder, tmp_path / "out", None, data_folder)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_folders_of_something_else_are_left_alone(
    data_folder: Path, moves_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="exists and is no export of star-r1"):
        export_engine("verl", data_folder, data_folder)
    export_engine("verl", data_folder, tmp_path / "out")
    for engine, data, val, message in (
        ("easyr1", data_folder, None, 'with format "verl", not "easyr1"'),
        ("verl", moves_folder, None, "holds an export with sha256"),
        ("verl", data_folder, moves_folder, "holds an export with val_sha256 null"),
    ):
        with pytest.raises(UserError, match=message):
            export_engine(engine, data, tmp_path / "out", None, val)
    with pytest.raises(UserError, match="engine 'trl': choose from verl, easyr1, ms-swift"):
        export_engine("trl", data_folder, tmp_path / "trl")
    with pytest.raises(UserError, match="no row has one of the views top"):
        export_engine("verl", data_folder, tmp_path / "top", ["top"])
    assert not (tmp_path / "top" / "train.parquet").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk(
    engine: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    export_engine(engine, data_folder, tmp_path / "out")
    train = next((tmp_path / "out").glob("train.*"))
    train.unlink()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device; make room"):
        export_engine(engine, data_folder, tmp_path / "out")
    assert not train.exists()
    assert not list(tmp_path.rglob("*.tmp"))


def arguments(out: Path, *more: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    """What ``run.sh`` starts, as the program and its settings."""
    program = out.parent / "bin"
    program.mkdir(exist_ok=True)
    for name in ("python3", "swift"):
        (program / name).write_text('#!/bin/sh\nprintf \'%s\\n\' "$NNODES" "$RAY_ADDRESS" "$@"\n')
        (program / name).chmod(0o755)
    path = f"{program}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(out / "run.sh"), *more],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path, "RAY_ADDRESS": "", **environment},
    )
    said = done.stdout.splitlines()
    flags = iter(said[2:])
    settings = {}
    for flag in flags:
        if flag.startswith("--"):
            settings[flag] = next(flags)
        elif "=" in flag:
            name, _, value = flag.partition("=")
            settings[name] = value
    return said, settings


@pytest.mark.parametrize(
    ("engine", "numbers", "validation"),
    [
        (
            "verl",
            {
                "actor_rollout_ref.rollout.n": "8",
                "actor_rollout_ref.rollout.temperature": "0.9",
                "actor_rollout_ref.actor.optim.lr": "1e-6",
                "actor_rollout_ref.actor.kl_loss_coef": "0.04",
                "data.max_response_length": "512",
                "reward.custom_reward_function.path": "pkg://star_r1.reward.adapters.verl",
            },
            "trainer.test_freq",
        ),
        (
            "easyr1",
            {
                "worker.rollout.n": "8",
                "worker.rollout.temperature": "0.9",
                "worker.actor.optim.lr": "1e-6",
                "algorithm.kl_coef": "0.04",
                "data.max_response_length": "512",
            },
            "trainer.val_freq",
        ),
        (
            "ms-swift",
            {
                "--num_generations": "8",
                "--temperature": "0.9",
                "--learning_rate": "1e-6",
                "--beta": "0.04",
                "--max_completion_length": "512",
                "--reward_funcs": "star",
            },
            "--eval_steps",
        ),
    ],
)
def test_the_script_starts_the_engine_with_the_stand_in_numbers(
    engine: str, numbers: dict[str, str], validation: str, data_folder: Path, tmp_path: Path
) -> None:
    export_engine(engine, data_folder, tmp_path / "out", None, data_folder)
    _, settings = arguments(tmp_path / "out")
    assert {name: settings[name] for name in numbers} == numbers
    assert settings[validation] == "100"
    named = re.findall(r"[^=\s]*(?:train|val)\.(?:parquet|jsonl)", "\n".join(settings.values()))
    assert len(named) == 2
    assert all((tmp_path / "out" / name).is_file() for name in named)

    export_engine(engine, data_folder, tmp_path / "alone")
    _, settings = arguments(tmp_path / "alone")
    assert settings.get(validation, "-1") == "-1"


def test_many_nodes_and_settings_of_the_engines_own(data_folder: Path, tmp_path: Path) -> None:
    export_engine("verl", data_folder, tmp_path / "verl")
    said, settings = arguments(
        tmp_path / "verl", "trainer.total_epochs=3", NODES="4", GPUS="2", MODEL="my model"
    )
    assert said[1] == "auto"
    assert settings["trainer.nnodes"] == "4"
    assert settings["trainer.n_gpus_per_node"] == "2"
    assert settings["actor_rollout_ref.model.path"] == "my model"
    assert settings["trainer.total_epochs"] == "3"  # the last one counts
    assert arguments(tmp_path / "verl")[0][1] == ""  # one node: verl starts its own Ray
    export_engine("ms-swift", data_folder, tmp_path / "swift")
    assert arguments(tmp_path / "swift", NODES="4")[0][0] == "4"
