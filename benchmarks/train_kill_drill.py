"""Kills trainings again and again, and compares what they end with: the same weights, bit for bit.

    python benchmarks/train_kill_drill.py --kills 20

GRPO of the embedded model, with a checkpoint at every step, is killed (SIGKILL of all its
processes) and resumed by the same command. Most kills come in the middle of a write: of a
checkpoint, of the moment in which an older one is deleted, of the final export; the others at a
random moment of the start or of a step. After every ``PLAN`` kills the run goes to its end, and a
new one begins. Weights, log and sampled completions must be those of a run that nobody killed.
Writes results/train_kill_drill/train_kill_drill.json.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from star_r1.files import write_atomic
from star_r1.provenance import provenance
from star_r1.train.checkpoints import COMPLETE, checkpoints

OUT = Path(__file__).parents[1] / "results" / "train_kill_drill" / "train_kill_drill.json"
PLAN = ("checkpoint", "step", "checkpoint", "rotation", "export")
"""Where the kills of one run fall, in this order."""
DELAYS = {"checkpoint": 0.01, "step": 1.0, "rotation": 0.002, "export": 0.006}
"""Longest time in seconds from the start of each to the kill."""
CLOCK = ("runtime", "per_second", "step_time", "total_flos")
DATA = "--samples 16 --size 56x42 --samples-per-pixel 2 --objects 2-5 --changes 1-2 --views center"
FLAGS = (
    "--model mini --use_cpu --report_to none --learning_rate 1e-3 --num_generations 4 "
    "--per_device_train_batch_size 16 --max_completion_length 32 --save_steps 1 --max_steps 10"
)


class Process(Protocol):
    """What a started training must tell; ``subprocess.Popen`` does."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    here = Path(tempfile.mkdtemp(prefix="train-kill-drill-"))
    flags = ["--data", str(here / "data"), *FLAGS.split()]
    try:
        generate = [*command("generate"), *DATA.split(), "--out", str(here / "data")]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
        moments = random.Random(arguments.seed)
        found = drill(here, lambda out: start(out, flags), arguments.kills, PLAN, moments)
    finally:
        shutil.rmtree(here)
    found = {
        "command": f"star-r1 train grpo --data DATA {FLAGS} --output_dir RUN",
        "data": f"star-r1 generate {DATA} --out DATA",
        "seed": arguments.seed,
        **found,
        **provenance(),
    }
    write_atomic(arguments.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in ("equal", "kills", "in_a_write")}, indent=1))
    sys.exit(0 if found["equal"] else 1)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "star_r1.cli", *words]


def start(out: Path, flags: Sequence[str]) -> Process:
    return subprocess.Popen(
        [*command("train", "grpo"), *flags, "--output_dir", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def drill(
    here: Path,
    start: Callable[[Path], Process],
    kills: int,
    plan: Sequence[str],
    moments: random.Random,
) -> dict[str, Any]:
    """Runs killed after ``plan``, until there were ``kills``; each compared with one that is whole.

    Args:
        here: takes the runs.
        start: the command, into a folder; the leader of its own process group.
        kills: how many.
        plan: of which kinds, in turn.
        moments: where the randomness of the kills comes from.
    """
    began = time.monotonic()
    assert start(here / "whole").wait() == 0
    expected = result(here / "whole")
    runs: list[dict[str, Any]] = []
    while (done := sum(len(run["kills"]) for run in runs)) < kills:
        out = here / f"killed-{len(runs)}"
        records = [kill(out, start, kind, moments) for kind in plan[: kills - done]]
        resumed = start(out).wait() == 0
        runs.append(
            {
                "kills": records,
                "resumed": resumed,
                "differs": differences(expected, result(out)) if resumed else ["it did not resume"],
            }
        )
        print(f"{done + len(records)} kills, differs: {runs[-1]['differs']}", flush=True)
        shutil.rmtree(out)
    return {
        "equal": not any(run["differs"] for run in runs),
        "kills": sum(len(run["kills"]) for run in runs),
        "in_a_write": sum(
            bool(record["half_written_or_deleted"]) for run in runs for record in run["kills"]
        ),
        "runs": runs,
        "seconds": round(time.monotonic() - began),
    }


def kill(
    out: Path, start: Callable[[Path], Process], kind: str, moments: random.Random
) -> dict[str, Any]:
    """Start the command and kill it at a moment of this kind; what it left behind."""
    began, since = time.monotonic(), time.time_ns()
    process = start(out)
    logged, some = steps(out), moments.randint(1, 2)
    seen: set[str] = set()
    while process.poll() is None:
        if kind == "checkpoint":  # its so-manieth is being written
            seen |= {path.name for path in half(out) if newer(path, since)}
            reached = len(seen) >= some
        elif kind == "rotation":  # so many were marked, and the oldest goes
            seen |= {path.name for path in whole(out) if newer(path / COMPLETE, since)}
            reached = len(seen) >= some
        elif kind == "export":
            reached = newer(out / "export.tmp", since)
        else:
            reached = steps(out) >= logged + some
        if reached:
            break
        time.sleep(0.0005)
    time.sleep(moments.uniform(0.0, DELAYS[kind]))
    assert process.poll() is None, f"it ended before it was killed ({kind})"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    writes = [path.name for path in half(out)]
    writes += [name for name in ("export.tmp",) if newer(out / name, since)]
    return {
        "at": kind,
        "after_seconds": round(time.monotonic() - began, 1),
        "logged_steps": steps(out),
        "whole": [path.name for path in whole(out)],
        "half_written_or_deleted": writes,
    }


def half(out: Path) -> list[Path]:
    return [path for path in checkpoints(out) if not (path / COMPLETE).is_file()]


def whole(out: Path) -> list[Path]:
    return [path for path in checkpoints(out) if (path / COMPLETE).is_file()]


def newer(path: Path, since: int) -> bool:
    """Whether a file, or a folder's newest entry, was written since then."""
    try:
        return path.stat().st_mtime_ns >= since
    except FileNotFoundError:
        return False


def steps(out: Path) -> int:
    try:
        return (out / "log.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def result(out: Path) -> dict[str, Any]:
    """What a run ended with: weights, curves but for clocks, sampled completions, leftovers."""
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {
        "weights": load_file(out / "model.safetensors"),
        "log": [
            {key: value for key, value in entry.items() if not any(c in key for c in CLOCK)}
            for entry in log
            if "train_runtime" not in entry
        ],
        "completions": {
            path.name: pq.read_table(path).to_pylist()
            for path in (out / "completions").glob("*.parquet")
        },
        "leftovers": [str(path.relative_to(out)) for path in out.rglob("*.tmp")],
        "checkpoints": [path.name for path in whole(out)],
        "half checkpoints": [path.name for path in half(out)],
    }


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    differs = [name for name in expected if name != "weights" and expected[name] != found[name]]
    first, second = expected["weights"], found["weights"]
    if first.keys() != second.keys() or not all(
        torch.equal(first[name], second[name]) for name in first
    ):
        differs.append("weights")
    return differs


if __name__ == "__main__":
    main()
