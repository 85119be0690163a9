"""Commands that train, and the demo of the whole loop."""

from pathlib import Path
from typing import Annotated

import typer

from star_r1.cli.options import PASS_ON, Seed

app = typer.Typer()
train_app = typer.Typer(help="Train a model by GRPO or by supervised fine-tuning.")
app.add_typer(train_app, name="train")


@train_app.command("grpo", **PASS_ON)
def train_grpo(context: typer.Context) -> None:
    """Train by GRPO: --config recipes/X.yaml and any flag of TRL's GRPOConfig; --dry-run."""
    from star_r1.train.grpo import main as run
    from star_r1.train.run import leave

    leave(run(context.args))


@train_app.command("sft", **PASS_ON)
def train_sft(context: typer.Context) -> None:
    """Train on the answers: --config recipes/X.yaml, any flag of TRL's SFTConfig; --dry-run."""
    from star_r1.train.run import leave
    from star_r1.train.sft import main as run

    leave(run(context.args))


@app.command(**PASS_ON)
def pretrain(context: typer.Context) -> None:
    """Make the embedded model from scratch; its own flags, see --help."""
    from star_r1.model.pretrain import main as run

    run(context.args)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, runs and the page.")] = Path("demo"),
    seed: Seed = 0,
) -> None:
    """The whole loop in minutes: pictures, base model, GRPO, evaluation, page."""
    from star_r1.demo import run

    run(out, seed)
