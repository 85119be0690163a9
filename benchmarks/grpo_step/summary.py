"""What the steps of both arms come to."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from grpo_step.case import ARMS, Case

PEAK_FLOPS = {"NVIDIA H100": 989e12, "NVIDIA H200": 989e12}
"""A second, dense, bfloat16: data sheets of the SXM cards."""

Record = Mapping[str, Any]
"""What an arm answered: its sizes, its ``steps``, and ``error`` where one ended it."""


def summary(case: Case, device: str, records: Mapping[str, Record]) -> dict[str, Any]:
    """A case as the result file has it; ``records`` are those of the arms that have run."""
    arms = {arm: _digest(case, device, arm, record) for arm, record in records.items()}
    sizes: Record = next((r for r in records.values() if "prompt_tokens" in r), {})
    result: dict[str, Any] = {
        "pictures": "two of {}x{}".format(*case.pictures),
        "prompts": case.prompts,
        "group": case.group,
        "prompt_tokens": sizes.get("prompt_tokens"),
        "completion_tokens": f"up to {case.length}" if case.free else case.length,
        "gradient_checkpointing": case.checkpointing,
        "parameters": sizes.get("parameters"),
        "arms": arms,
    }
    if len(arms) == len(ARMS):
        trl, ours = (arms[arm] for arm in ARMS)
        for name, kind in {"times_faster": "seconds", "times_less_cpu": "cpu_seconds"}.items():
            result[name] = {
                part: round(spent["median"] / ours[kind][part]["median"], 2)
                for part, spent in trl.get(kind, {}).items()
                if part in ours.get(kind, {})
            }
        kept = [arm.get("memory_gb", {}).get("activations") for arm in (trl, ours)]
        if all(kept):
            result["times_less_activation_memory"] = round(kept[0] / kept[1], 2)
    return result


def _digest(case: Case, device: str, arm: str, record: Record) -> dict[str, Any]:
    """Of one arm: medians over its steps, the first of each kind left out."""
    result: dict[str, Any] = {"error": record["error"]} if "error" in record else {}
    of = {
        kind: [s for s in record["steps"] if s["kind"] == kind and "step" in s][1:]
        for kind in ("given", "sampled")
    }
    updates, sampled = of["given"] or of["sampled"], of["sampled"]
    if not updates:
        return result
    for name, suffix in {"seconds": "", "cpu_seconds": "_cpu"}.items():
        whole, part = f"step{suffix}", f"sampling{suffix}"
        result[name] = {"update": _spread([s[whole] - s[part] for s in updates])}
        if sampled:
            result[name]["sampling"] = _spread([s[part] for s in sampled])
            result[name]["step"] = _spread([s[whole] for s in sampled])
    seconds = result["seconds"]["update"]["median"]
    length = statistics.fmean(s["length"] for s in updates)
    rows = case.group * sum(tokens + length for tokens in record["prompt_tokens"])
    result["mean_completion_tokens"] = round(length, 1)
    result["update_tokens_a_second"] = round(rows / seconds)
    if sampled:
        drawn = case.group * case.prompts * length
        result["sampled_tokens_a_second"] = round(drawn / result["seconds"]["sampling"]["median"])
        result["steps_a_second"] = round(1 / result["seconds"]["step"]["median"], 4)
    result["memory_gb"] = _memory(case, record["steps"][0]["resident"], updates, sampled)
    peak = next((flops for name, flops in PEAK_FLOPS.items() if device.startswith(name)), None)
    if peak:
        needed = update_flops(case, record, shared=arm == ARMS[1])
        result["share_of_peak_flops"] = round(needed / seconds / peak, 3)
    return result


def _memory(
    case: Case, at_first: int, updates: Sequence[Record], sampled: Sequence[Record]
) -> dict[str, float]:
    if case.on_cpu:
        return {
            "of the process before the first step": _gigabytes(at_first),
            "most of the process": _gigabytes(max(s["update_peak"] for s in updates)),
        }
    found = {
        "weights, optimizer, gradients": _gigabytes(max(s["resident"] for s in updates)),
        "activations": _gigabytes(max(s["update_peak"] - s["resident"] for s in updates)),
    }
    if sampled:
        found["sampling"] = _gigabytes(max(s["sampling_peak"] - s["resident"] for s in sampled))
    return found


def update_flops(case: Case, sizes: Record, shared: bool) -> float:
    """Operations that an arm's update needs, without what checkpointing computes again.

    Two a parameter and token, and four a head's width and pair of tokens that attend: once for
    the reference, once forward, twice backward. The vision tower is frozen (forward, in policy
    and reference; its attention is left out), and the output layer is needed for completions
    alone.
    """
    count, group, length = sizes["parameters"], case.group, case.length
    copies = 1 if shared else group
    total = 0.0
    for prompt, patches in zip(sizes["prompt_tokens"], sizes["prompt_patches"], strict=True):
        tokens = copies * prompt + group * length
        pairs = copies * prompt * (prompt + 1) / 2 + group * length * (prompt + (length + 1) / 2)
        total += 4 * (2 * count["language"] * tokens + 4 * sizes["attention_width"] * pairs)
        total += 4 * 2 * count["output layer"] * group * length
        total += 2 * 2 * count["vision"] * copies * patches
    return total


def _spread(values: Sequence[float]) -> dict[str, float]:
    numbers = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {**{name: round(value, 4) for name, value in numbers.items()}, "steps": len(values)}


def _gigabytes(size: float) -> float:
    return round(size / 2**30, 3)
