"""Two processes train as one does that accumulates gradients: the same completions and losses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

STEPS = 4
SCRIPT = """
import sys
from star_r1.train import grpo
from star_r1.train.run import leave

def letters(completions, **columns):
    return [float(len(set(completion[0]["content"]))) for completion in completions]

grpo.REWARDS["letters"] = letters
leave(grpo.main(sys.argv[1:]))
"""
CLOCK = ("runtime", "per_second", "step_time", "total_flos")


def train(processes: int, out: Path, flags: str, model: Path, data: Path) -> None:
    """Train in ``processes`` processes under gloo."""
    script = out.parent / "script.py"
    script.write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    folders = ["--model", model, "--data", data, "--output_dir", out]
    fixed = (
        f"--use_cpu --reward letters --num_generations 8 --max_completion_length 8 --max_steps "
        f"{STEPS} --learning_rate 3e-3 --report_to none --save_strategy no"
    )
    subprocess.run(
        [sys.executable, *launch, str(script), *map(str, folders), *fixed.split(), *flags.split()],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def curves(folder: Path) -> list[dict[str, Any]]:
    """The log, but for times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").open()]
    return [
        {k: v for k, v in line.items() if not any(word in k for word in CLOCK)} for line in lines
    ]


def completions(folder: Path) -> list[set[tuple[str, str]]]:
    """Which completion each prompt got, a set a step."""
    tables = map(pq.read_table, sorted((folder / "completions").glob("*.parquet")))
    rows = (table.select(["id", "completion"]).to_pylist() for table in tables)
    return [{(row["id"], json.dumps(row["completion"])) for row in step} for step in rows]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        pytest.param(
            "--per_device_train_batch_size 8 --gradient_accumulation_steps 2",
            "--per_device_train_batch_size 8",
            id="a group a process",
        ),
        pytest.param(
            "--per_device_train_batch_size 8",
            "--per_device_train_batch_size 4",
            id="a group across both",
        ),
    ],
)
def test_two_processes_equal_one(
    one: str, two: str, model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    folders = {processes: tmp_path / str(processes) for processes in (1, 2)}
    for processes, flags in ((1, one), (2, two)):
        train(processes, folders[processes], flags, model_folder, data_folder)
    single, double = (completions(folders[n]) for n in (1, 2))
    assert len(single) == STEPS
    assert single == double
    first, second = (curves(folders[n])[:STEPS] for n in (1, 2))
    for ours, theirs in zip(first, second, strict=True):
        for name in ("loss", "grad_norm", "kl", "entropy", "reward", "reward_std"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name
    assert first[-1]["kl"] > 1e-6  # so the weights did move
    weights = [load_file(folders[n] / "model.safetensors") for n in (1, 2)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-4, rtol=0)
