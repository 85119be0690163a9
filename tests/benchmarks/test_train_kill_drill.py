"""The drill at a small size: three kills, in a checkpoint, after one, and in the export."""

import multiprocessing
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from train_kill_drill import differences, drill, result  # noqa: E402

FLAGS = (
    "--use_cpu --report_to none --learning_rate 1e-2 --num_generations 4 --max_steps 6 "
    "--per_device_train_batch_size 8 --max_completion_length 8 --save_steps 1"
)


def train(words: Sequence[str]) -> None:
    """In a process of its own: the leader of its group, as under a terminal."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    from star_r1.train import grpo

    sys.exit(grpo.main(words))


class Child:
    """A training forked from a server that has loaded everything: it starts in no time."""

    def __init__(self, words: Sequence[str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["star_r1.train.grpo"])
        self.process = context.Process(target=train, args=(words,))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode


def test_killed_runs_end_with_the_same_weights(
    model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    flags = ["--model", str(model_folder), "--data", str(data_folder), *FLAGS.split()]
    plan = ("checkpoint", "rotation", "export")
    found = drill(
        tmp_path,
        lambda out: Child([*flags, "--output_dir", str(out)]),
        len(plan),
        plan,
        random.Random(0),
    )
    assert found["kills"] == len(plan)
    assert [run["differs"] for run in found["runs"]] == [[]]


def test_a_difference_is_noticed(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name / "completions").mkdir(parents=True)
        (tmp_path / name / "log.jsonl").write_text('{"step": 1, "loss": 0.5, "step_time": 3}\n')
        save_file({"w": torch.zeros(3)}, tmp_path / name / "model.safetensors")
    first, second = (result(tmp_path / name) for name in ("first", "second"))
    assert differences(first, second) == []
    weights = load_file(tmp_path / "second" / "model.safetensors")
    weights["w"][1] = torch.finfo(torch.float32).tiny
    save_file(weights, tmp_path / "second" / "model.safetensors")
    (tmp_path / "second" / "log.jsonl").write_text('{"step": 1, "loss": 0.25}\n')
    (tmp_path / "second" / "checkpoint-1").mkdir()
    assert differences(first, result(tmp_path / "second")) == ["log", "half checkpoints", "weights"]
