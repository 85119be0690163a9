"""How a run is started: on how many processes, and how they divide the model between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from star_r1.errors import UserError
from star_r1.yaml_file import read_yaml

Division: TypeAlias = Literal["none", "zero1", "zero2", "zero3", "fsdp"]
"""What each process holds a part of only: nothing (DDP); DeepSpeed's optimizer, gradients as well,
weights as well; FSDP, which is all three."""

_TYPES: Final = ("NO", "MULTI_GPU", "MULTI_CPU", "DEEPSPEED", "FSDP")
"""``distributed_type`` of the accelerate configs that a run can be started with."""


@dataclass(frozen=True)
class Launch:
    """Processes, each with one card, over all machines, and their division of the model."""

    processes: int = 1
    machines: int = 1
    division: Division = "none"


def read_launch(config: str | None, environment: Mapping[str, str]) -> Launch:
    """How this process was started, or would be.

    Started by accelerate or torchrun, it is what they left in the environment. Else it is what the
    accelerate config says; ``WORLD_SIZE`` in the environment replaces its number of processes.

    Args:
        config: path of the accelerate config; None or empty for one process.
        environment: variables and their values.

    Raises:
        UserError: the config cannot be read, or says what a run cannot be started with.

    >>> read_launch(None, {"RANK": "0", "WORLD_SIZE": "4", "ACCELERATE_USE_FSDP": "true"})
    Launch(processes=4, machines=1, division='fsdp')
    """
    launch = Launch() if not config or "RANK" in environment else _read_config(Path(config))
    processes = int(environment.get("WORLD_SIZE", launch.processes))
    if "RANK" not in environment:
        return Launch(processes, launch.machines, launch.division)
    here = max(int(environment.get("LOCAL_WORLD_SIZE", processes)), 1)
    division: Division = "none"
    if environment.get("ACCELERATE_USE_DEEPSPEED") == "true":
        division = _zero(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"), "environment")
    elif environment.get("ACCELERATE_USE_FSDP") == "true":
        division = "fsdp"
    return Launch(processes, -(-processes // here), division)


def started_otherwise(config: str | None, environment: Mapping[str, str]) -> str | None:
    """What to tell a run that is not started as ``config`` says, or None.

    >>> started_otherwise(None, {"RANK": "0", "WORLD_SIZE": "2"}) is None
    True
    """
    if not config:
        return None
    planned, started = _read_config(Path(config)), read_launch(None, environment)
    if (planned.processes, planned.division) == (started.processes, started.division):
        return None
    said = [f"processes {how.processes}, division {how.division}" for how in (planned, started)]
    return f"the recipe is for {said[0]} ({config}); this run has {said[1]}"


def _read_config(path: Path) -> Launch:
    raw = read_yaml(path, f"--launch {path}")
    kind = raw.get("distributed_type", "NO")
    if kind not in _TYPES:
        raise UserError(
            f"--launch {path}: not an accelerate config with a distributed_type of "
            f"{', '.join(_TYPES)}; recipes/accelerate has some"
        )
    division: Division = "none"
    if kind == "DEEPSPEED":
        stage = (raw.get("deepspeed_config") or {}).get("zero_stage", 2)
        division = _zero(stage, f"--launch {path}")
    elif kind == "FSDP":
        division = "fsdp"
    counts = (raw.get("num_processes", 1), raw.get("num_machines", 1))
    if not all(type(count) is int and count >= 1 for count in counts):
        raise UserError(f"--launch {path}: num_processes and num_machines: give 1 or more")
    return Launch(*counts, division)


def _zero(stage: object, place: str) -> Division:
    if str(stage) == "0":
        return "none"
    for division in get_args(Division):
        if division == f"zero{stage}":
            return division  # type: ignore[no-any-return]
    raise UserError(f"{place}: zero_stage is {stage!r}; give 0, 1, 2 or 3")
