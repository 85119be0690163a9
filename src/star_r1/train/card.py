"""The model card of a training run, made from its ``training.json``."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from star_r1.files import write_atomic
from star_r1.metrics import COUNTS
from star_r1.train.record import TRAINING, describe_data, hide, read_record

_METHODS: Final = {"grpo": "GRPO and the {} reward", "sft": "the answers alone (STAR-SFT)"}
_FORMS: Final = {
    "grpo": "<think>reasoning</think><answer>2.color.cyan, 3.shape.cube</answer>",
    "sft": "<think></think><answer>2.color.cyan, 3.shape.cube</answer>",
}
_PRIVATE: Final = re.compile(r"--[\w-]*(token|key|host|url|port)$")
"""Flags whose values are nobody else's business."""

_CITATION: Final = """\
```bibtex
@article{li2025star,
  title={STAR-R1: Spatial TrAnsformation Reasoning by Reinforcing Multimodal LLMs},
  author={Li, Zongzhao and Ma, Zongyang and Li, Mingze and Li, Songyou and Rong, Yu and Xu, Tingyang
          and Zhang, Ziqi and Zhao, Deli and Huang, Wenbing},
  journal={arXiv preprint arXiv:2505.15804},
  year={2025}
}
@inproceedings{hong2021transformation,
  title={Transformation Driven Visual Reasoning},
  author={Hong, Xin and Lan, Yanyan and Pang, Liang and Guo, Jiafeng and Cheng, Xueqi},
  booktitle={CVPR},
  year={2021}
}
```"""


def update_card(folder: Path, evaluation: Path | None = None) -> None:
    """Write the card of a run anew, with an evaluation of its model if one is given.

    Args:
        folder: of the run. Nothing is done without a ``training.json`` of an ended run in it (the
            model is not ours, or still in training), or where one may not write.
        evaluation: what ``star-r1 evaluate`` wrote about the model; later cards of the same
            weights keep it.

    Raises:
        UserError: it cannot be written.
    """
    record = read_record(folder)
    if "steps" not in record or not os.access(folder, os.W_OK):
        return
    if evaluation is not None:
        about = json.loads((evaluation / "run.json").read_bytes())
        scores = json.loads((evaluation / "metrics.json").read_bytes())
        record["evaluation"] = {
            "steps": record["steps"],
            "data": describe_data(Path(about["data"])),
            "commit": about["commit"],
            "scores": {group: of for group, of in scores.items() if "tacc" in of},
        }
        write_atomic(folder / TRAINING, json.dumps(record, indent=1) + "\n")
    write_atomic(folder / "README.md", write_card(record))


def write_card(record: Mapping[str, Any]) -> str:
    """The card: Markdown under the Hub's YAML header.

    Args:
        record: what ``training.json`` holds, ``steps`` and ``seconds`` included.
    """
    base, evaluation = record["base_model"], record.get("evaluation")
    reward = record["reward"] or {}
    title = (
        f"{public_name(base)}, trained by {_METHODS[record['method']].format(reward.get('name'))}"
    )
    header: dict[str, Any] = {
        "library_name": "peft" if record["adapter"] else "transformers",
        "pipeline_tag": "image-text-to-text",
        **({"base_model": base} if on_hub(base) else {}),
        **({"license": "apache-2.0"} if base == "mini" else {}),
        "tags": ["star-r1", record["method"], "trl", "transformation-driven-visual-reasoning"],
    }
    if evaluation:
        header["model-index"] = [{"name": title, "results": [_results(evaluation)]}]
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---",
        f"# {title}",
        "Transformation-driven visual reasoning: it sees a table before and after, the second "
        "picture perhaps from another camera, with a list of the initial objects, and names every "
        f"change: `{_FORMS[record['method']]}`.",
        _loading(record),
        "## Training",
        _table(("", ""), _facts(record)),
        _commands(_legs(record)),
        *(["## Evaluation", _evaluation(evaluation)] if evaluation else []),
        "## Limits",
        "It has learned from pictures of TRANCE's studio (ten kinds of small objects on a table, "
        f"final pictures from {', '.join(record['data']['views'])}), and nothing says how it does "
        "elsewhere. Its answers may be wrong, and its reasoning need not be why it answers so."
        + ("" if evaluation else " It has not been evaluated yet."),
        "## Licence and citation",
        _licence(base),
        _CITATION,
        f"Written by star-r1 {_legs(record)[-1]['versions'].get('star-r1', '')}".rstrip() + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _loading(record: Mapping[str, Any]) -> str:
    needs = ", which needs `peft`: this is a LoRA adapter" if record["adapter"] else ""
    return (
        "`star-r1 evaluate --model FOLDER --data DIR --out OUT` asks it, and so does "
        f"`AutoModelForImageTextToText.from_pretrained(FOLDER)` of transformers{needs}."
    )


def _legs(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The legs of a run; older records tell of the last one only."""
    return record.get("legs") or [{**record, "from": 0, "to": record["steps"]}]


def _commands(legs: Sequence[Mapping[str, Any]]) -> str:
    """Each command; of a run in several legs, with its steps, commit and machine."""
    if len(legs) == 1:
        return f"```\n{public_command(legs[0]['command'])}\n```"
    rows = [
        (f"{leg['from'] + 1}-{leg['to']}", _hardware(leg), f"{leg['commit']}, {leg['date']}")
        for leg in legs
    ]
    lines = [
        f"# steps {row[0]}\n{public_command(leg['command'])}"
        for row, leg in zip(rows, legs, strict=True)
    ]
    table = _table(("steps", "hardware", "commit"), rows)
    return "\n\n".join(
        [
            f"It was trained in {len(legs)} legs, each from the last checkpoint of the one before:",
            table,
            "```\n" + "\n".join(lines) + "\n```",
        ]
    )


def _hardware(leg: Mapping[str, Any]) -> str:
    machine = leg["machine"]
    return (
        f"{leg['processes']} x {leg['device']}; {machine['processor']} ({machine['cores']} cores)"
    )


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was trained on what, where, when; then the numbers of reward and training."""
    data, reward = record["data"], record["reward"]
    seconds, last = record["seconds"], _legs(record)[-1]
    rows = [
        ("base model", public_name(record["base_model"])),
        *([("started from", _started_from(record))] if record.get("started_from") else []),
        ("data", _describe(data) + f"; {data['rows']} rows, views {', '.join(data['views'])}"),
        ("steps", str(record["steps"])),
        ("time", f"{seconds // 3600} h {seconds % 3600 // 60:02} min {seconds % 60:02} s"),
        ("hardware", _hardware(last)),
        ("commit", f"{last['commit']}, {last['date']}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in last["versions"].items())),
    ]
    if reward:
        numbers = ", ".join(
            f"{name} {v:g}" if isinstance(v, float) else f"{name} {v}"
            for name, v in reward.items()
            if name != "name"
        )
        rows.insert(-5, ("reward", f"{reward['name']}" + (f": {numbers}" if numbers else "")))
    return [*rows, *((f"`{name}`", _public(str(v))) for name, v in record["settings"].items())]


def _started_from(record: Mapping[str, Any]) -> str:
    how = "trained on" if record["adapter"] else "merged into the base model first"
    return f"the LoRA adapter {public_name(record['started_from'])} of it, {how}"


def _describe(data: Mapping[str, Any]) -> str:
    seed = f", seed {data['seed']}" if data["seed"] is not None else ""
    sha256 = data["manifest_sha256"]
    manifest = f", manifest {sha256[:16]} (SHA-256)" if sha256 else ""
    return f"{data['name']}{seed}{manifest}"


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    """The metrics as a table: a column a group, shares in percent, intervals in brackets."""
    scores = evaluation["scores"]
    groups = [group for group in scores if scores[group]["tacc"]["n"]]
    rows = [
        (f"`{metric}`", *(_cell(metric, scores[group][metric]) for group in groups))
        for metric in scores["overall"]
    ]
    heads = ("metric", *(f"{group} (n = {scores[group]['tacc']['n']})" for group in groups))
    return (
        f"Greedy answers to {_describe(evaluation['data'])}; commit {evaluation['commit']}. Shares "
        "in percent with 95% intervals by scenes; `diff` and `ndiff`, for which lower is better, "
        "count wrong attributes. id: the final picture is from the center; ood: from elsewhere.\n\n"
        + _table(heads, rows)
    )


def _cell(metric: str, measured: Mapping[str, Any]) -> str:
    if measured["value"] is None:
        return "-"
    value, *ends = (
        f"{_shown(metric, number):g}" for number in (measured["value"], *(measured["ci95"] or ()))
    )
    return f"{value} [{', '.join(ends)}]" if ends else value


def _shown(metric: str, value: float) -> float:
    return round(value, 2) if metric in COUNTS else round(100 * value, 1)


def _results(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the Hub's model-index: the metrics over all views, TAcc by view."""
    scores, name = evaluation["scores"], evaluation["data"]["name"]
    metrics = [
        {"type": metric, "name": metric, "value": _shown(metric, measured["value"])}
        for metric, measured in scores["overall"].items()
        if measured["value"] is not None
    ]
    metrics += [
        {"type": "tacc", "name": f"tacc ({group})", "value": _shown("tacc", of["tacc"]["value"])}
        for group, of in scores.items()
        if group != "overall" and of["tacc"]["value"] is not None
    ]
    return {
        "task": {"type": "image-text-to-text", "name": "Transformation-driven visual reasoning"},
        "dataset": {"type": name, "name": name},
        "metrics": metrics,
    }


def _licence(base: str) -> str:
    if base == "mini":
        return (
            "The weights are under the Apache License 2.0, as the embedded model of star-r1 is. "
            "Method and task are those of these papers:"
        )
    return (
        f"The weights are under the licence of {public_name(base)}; the code that trained them is "
        "under the Apache License 2.0. Method and task are those of these papers:"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [heads, ["---"] * len(heads), *([c.replace("|", "\\|") for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def on_hub(model: str) -> bool:
    """Whether ``model`` is a name on the Hub and no folder of this machine.

    >>> on_hub("Qwen/Qwen2.5-VL-7B-Instruct"), on_hub("/models"), on_hub("mini")
    (True, False, False)
    """
    return model.count("/") == 1 and model[0] not in "/.~" and not Path(model).exists()


def public_name(model: str) -> str:
    """A model's name without the folders of this machine.

    >>> public_name("Qwen/Qwen2.5-VL-7B-Instruct"), public_name("/home/me/runs/sft")
    ('Qwen/Qwen2.5-VL-7B-Instruct', 'sft')
    """
    return model if on_hub(model) else Path(model).expanduser().resolve().name


def public_command(words: Sequence[str]) -> str:
    """A command without what is only true on this machine, and without secrets.

    >>> public_command(["train", "--data", "/home/me/pairs", "--hub_token=hf_abc", "--beta", "0"])
    'train --data pairs --hub_token=... --beta 0'
    """
    return " ".join(map(_public, hide(words, _PRIVATE)))


def _public(value: str) -> str:
    """Each path from a root, a home or a parent folder on is cut down to its last part."""
    return re.sub(r"(?<![\w.:/])(?:/|~|\.\./)[^\s\"',:;]*", lambda m: Path(m[0]).name, value)
