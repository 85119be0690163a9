"""``training.json``: what a run trains on what, by which command, commit and machine."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from star_r1.data.manifest import MANIFEST, read_manifest, sha256
from star_r1.errors import UserError
from star_r1.files import read_regular, write_atomic
from star_r1.provenance import provenance

TRAINING: Final = "training.json"
"""In the folder of a run; it names places on this machine and stays on it."""

_SHOWN: Final = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "weight_decay"),
    *("max_grad_norm", "per_device_train_batch_size", "gradient_accumulation_steps", "seed"),
    *("bf16", "fp16", "num_generations", "max_completion_length", "temperature", "top_p", "top_k"),
    *("num_iterations", "steps_per_generation", "beta", "epsilon", "loss_type", "scale_rewards"),
    *("use_vllm", "max_length", "completion_only_loss", "chat_template_kwargs"),
    *("dtype", "freeze_vision", "share_prompts", "min_pixels", "max_pixels"),
    *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
)
"""Of the identity, the settings that say what was learned and how."""
_SECRET: Final = re.compile(r"--[\w-]*(token|key)$")


def describe_training(
    argv: Sequence[str],
    arguments: Any,
    args: Any,
    rows: int,
    start: Any,
    reward: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run is, as far as one knows before it.

    Args:
        argv: the words after ``star-r1 train METHOD``.
        arguments: ``StarArguments``.
        args: TRL's config.
        rows: of the data that are trained on.
        start: what it begins with, a ``start.Start``.
        reward: its name (``name``) and its numbers.
    """
    import torch

    on_gpu = args.device.type == "cuda"
    device = torch.cuda.get_device_name(args.device) if on_gpu else args.device.type.upper()
    identity = start.identity
    leg = {
        "from": start.step,
        "to": None,
        "command": ["star-r1", "train", identity["method"], *hide(argv, _SECRET)],
        "device": device,
        "processes": args.world_size,
        **provenance(),
    }
    return {
        "method": identity["method"],
        "base_model": arguments.source.base,
        "started_from": arguments.source.adapter and arguments.model_name_or_path,
        "adapter": arguments.use_peft,
        "data": {
            "path": str(Path(arguments.data).resolve()),
            "rows": rows,
            "views": list(arguments.views),
            **describe_data(Path(arguments.data)),
        },
        "reward": dict(reward) if reward else None,
        "settings": {name: identity[name] for name in _SHOWN if identity.get(name) is not None},
        "end": end_of(args),
        "identity": dict(identity),
        "legs": [*start.legs, *([leg] if start.done is None else [])],
    }


def end_of(args: Any) -> str:
    """How far a run goes: ``4 steps`` or ``3 epochs``."""
    if args.max_steps > 0:
        return f"{args.max_steps} steps"
    return f"{args.num_train_epochs:g} epochs"


def cut_legs(legs: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
    """The legs of a run up to a step, the last one ending there.

    >>> cut_legs([{"from": 0, "to": 4}, {"from": 3, "to": None}, {"from": 5, "to": None}], 5)
    [{'from': 0, 'to': 3}, {'from': 3, 'to': 5}]
    """
    kept = [dict(leg) for leg in legs if leg["from"] < step]
    for leg, following in pairwise([*kept, {"from": step}]):
        leg["to"] = following["from"]
    return kept


def hide(words: Sequence[str], flags: re.Pattern[str]) -> list[str]:
    """A command with ``...`` for the values of those flags.

    >>> hide(["--hub-token", "hf_abc", "--beta=0", "--hub_token=hf_abc"], _SECRET)
    ['--hub-token', '...', '--beta=0', '--hub_token=...']
    """
    shown, hidden = [], False
    for word in words:
        flag, equals, _ = word.partition("=")
        private = flags.match(flag) is not None
        shown.append("..." if hidden else f"{flag}=..." if private and equals else word)
        hidden = private and not equals
    return shown


def describe_data(data: Path) -> dict[str, Any]:
    """Name, seed and SHA-256 of the manifest of a dataset folder, or of a split's folder in one."""
    data = data.resolve()
    for folder, split, name in (
        (data, None, data.name),
        (data.parent, data.name, f"{data.parent.name}/{data.name}"),
    ):
        try:
            splits = read_manifest(folder).settings.get("splits")
            digest = sha256(folder / MANIFEST)
        except (OSError, UserError):
            continue
        of = splits.items() if isinstance(splits, dict) else ()
        chosen = [own for key, own in of if split in (None, key) and isinstance(own, dict)]
        seeds = {own["seed"] for own in chosen if type(own.get("seed")) is int}
        return {
            "name": name,
            "seed": seeds.pop() if len(seeds) == 1 else None,
            "manifest_sha256": digest,
        }
    return {"name": data.name, "seed": None, "manifest_sha256": None}


def record_training(folder: Path, about: Mapping[str, Any], **done: Any) -> None:
    """Write ``training.json``; an evaluation in it stays as long as it is of these weights.

    Args:
        folder: of the run.
        about: from ``describe_training``.
        done: ``steps`` and ``seconds``, at the end.
    """
    record = {**about, **done}
    if "steps" in done and "legs" in about:
        record["legs"] = cut_legs(about["legs"], done["steps"])
    before = read_record(folder)
    record.pop("evaluation", None)
    evaluation = before.get("evaluation")
    if evaluation and done.get("steps", evaluation["steps"]) == evaluation["steps"]:
        record["evaluation"] = evaluation
    write_atomic(folder / TRAINING, json.dumps(record, indent=1, default=str) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """What ``training.json`` in a folder holds; nothing where there is none."""
    try:
        record = json.loads(read_regular(folder / TRAINING, 1 << 24))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
