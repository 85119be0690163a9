"""The embedded model before and after STAR-SFT and STAR-R1, beside five baselines: one table.

    python benchmarks/mini_models.py --work runs/mini_models

For each seed: pictures (``recipes/data/mini.yaml``: 640 pairs from the center to learn from, 300
scenes from three views to test on), STAR-SFT and GRPO with the STAR reward from the embedded model
(``recipes/mini-*.yaml``, center pairs only), then greedy answers of the base and both trained
models and the answers of the baselines; and of STAR-SFT on the pairs that it learned from. Then the
lines of all seeds are compared, and the reasonings of base and STAR-R1 analyzed. Every step is the
command that a user would call, so an interrupted run goes on where it stopped.
Writes results/mini_models/; half an hour on two idle cores.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
OUT = ROOT / "results" / "mini_models"
BASELINES = ("silent", "random", "enumerate", "pixels", "oracle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/mini_models"), help="for all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        run_seed(arguments.work / f"seed-{seed}", seed)
    summarize(arguments.work, arguments.seeds, arguments.out)


def run_seed(work: Path, seed: int) -> None:
    """Pictures, training and evaluations of one seed."""
    data = work / "data"
    star("generate", "--config", RECIPES / "data" / "mini.yaml", "--seed", seed, "--out", data)
    for method, folder in (("sft", "sft"), ("grpo", "grpo")):
        config = RECIPES / f"mini-{method}.yaml"
        flags = ("--data", data / "train", "--output_dir", work / folder, "--seed", seed)
        star("train", method, "--config", config, *flags)
    models = {"base": "mini", "star-sft": work / "sft", "star-r1": work / "grpo"}
    models |= {name: f"baseline:{name}" for name in BASELINES}
    for name, model in models.items():
        evaluate(model, data / "test", work / "answers" / name, seed)
    evaluate(work / "sft", data / "train", work / "answers" / "star-sft-on-its-training", seed)


def evaluate(model: object, data: Path, out: Path, seed: int) -> None:
    if not (out / "metrics.json").exists():
        star("evaluate", "--model", model, "--data", data, "--out", out, "--seed", seed)


def summarize(work: Path, seeds: tuple[int, ...], out: Path) -> None:
    """The comparison of all lines in four formats, and the analysis of the reasonings."""

    def line(name: str) -> str:
        runs = (work / f"seed-{seed}" / "answers" / name for seed in seeds)
        return f"{name}={','.join(map(str, runs))}"

    lines = [line(name) for name in ("base", "star-sft", "star-r1", *BASELINES)]
    for ending in ("md", "csv", "tex", "json"):
        star("compare", *lines, "--against", "base", "--out", out / f"compare.{ending}")
    memory = out / "star-sft-on-its-training.json"
    star("compare", line("star-sft-on-its-training"), "--groups", "id", "--out", memory)
    trained = [f"seed {seed}={work / f'seed-{seed}' / 'grpo'}" for seed in seeds]
    star("analyze", line("base"), line("star-r1"), *trained, "--out", out / "analysis")


def star(*words: object) -> None:
    """The real command, with threads that sleep while they wait."""
    print("star-r1", *words, file=sys.stderr, flush=True)
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(
        [sys.executable, "-m", "star_r1.cli", *map(str, words)], check=True, env=environment
    )


if __name__ == "__main__":
    main()
