"""Draws samples and sets their balance beside TRANCE's; nothing is rendered.

    python benchmarks/sampler.py

draws 10,000 samples of each setting, visibility measured in real masks, by two processes (a few
minutes), and writes results/sampler/balance.json and balance.md. In the table, every number that is
a count of samples or changes is a share, so that the columns compare.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from star_r1.files import write_atomic
from star_r1.provenance import provenance
from star_r1.render.visibility import count_pixels
from star_r1.tvr.change import replay
from star_r1.tvr.rules import SceneRules, move_type
from star_r1.tvr.sample import Sample
from star_r1.tvr.sampler import SCENES_A_PLAN, draw_counted
from star_r1.tvr.simulate import order_sensitive
from star_r1.tvr.vocabulary import N_OBJECTS, RADIUS_CELLS, STANDARD, TRANCE, Vocabulary

OUT = Path(__file__).parents[1] / "results" / "sampler"
SETTINGS = {"full": TRANCE, "position-free": STANDARD}
CHUNK = 250
"""Samples that a process draws at a time; a divisor of a block."""

PUBLISHED: dict[str, str] = {
    "samples": "100 published",
    "steps 1-4, % of samples": "25 25 25 25",
    "visible at first 1-10, % of samples": "9-11 each",
    "values, each, % of steps": "balanced (33 values: 3.0 each)",
    "attributes, % of steps": "position 48.8, color 25, material 9, shape 8.4, size 8.4",
    "objects 0-9, each, % of steps": "balanced (10 each)",
    "pairs of successive values, how often each": "balanced",
    "moves inner / out / in, %": "35 35 30 (43 : 43 : 36)",
    "options of a move out": "5-10 (43 moves)",
    "an (object, attribute) changes twice, % of samples": "8",
    "nothing moves, % of samples": "28 (expected 25)",
    "of these with 1-4 steps, %": "54 25 7 14 (expected 52 27 14 7)",
    "order-sensitive, % of samples": "6.2 (of 20,000)",
    "smallest gap at first, cells": "0.60",
}
"""TRANCE's own figures where they are known; shares as measured on 100 of its samples."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000, help="of each setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    found = {
        name: measure(vocabulary, arguments.seed, arguments.samples, arguments.workers)
        for name, vocabulary in SETTINGS.items()
    }
    report = {
        "command": "python benchmarks/sampler.py "
        f"--samples {arguments.samples} --seed {arguments.seed} --workers {arguments.workers}",
        "settings": found,
        "published": PUBLISHED,
        **provenance(),
    }
    write_atomic(arguments.out / "balance.json", json.dumps(report, indent=1) + "\n")
    table = write_table(found, report["commit"], report["machine"]["processor"])
    write_atomic(arguments.out / "balance.md", table)
    print(table)


def measure(vocabulary: Vocabulary, seed: int, samples: int, workers: int) -> dict[str, Any]:
    """Draw, count, and time one setting."""
    chunks = [
        (vocabulary, seed, start, min(start + CHUNK, samples)) for start in range(0, samples, CHUNK)
    ]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        drawn = pool.starmap(draw, chunks)
    scenes = [n for chunk in drawn for n in chunk["scenes"]]
    return {
        **count([sample for chunk in drawn for sample in chunk["samples"]]),
        "drawing": {
            "cpu_ms_a_sample": 1000 * sum(chunk["seconds"] for chunk in drawn) / samples,
            "pixel_counts_a_sample": sum(chunk["pixel_counts"] for chunk in drawn) / samples,
            "scenes_a_sample": statistics.fmean(scenes),
            "scenes_99_percentile": sorted(scenes)[int(0.99 * len(scenes))],
            "scenes_at_most": max(scenes),
            "plans_replaced": sum(n > SCENES_A_PLAN for n in scenes),
        },
    }


def draw(vocabulary: Vocabulary, seed: int, start: int, stop: int) -> dict[str, Any]:
    """Some samples, and what they cost: planning their block included."""
    calls = 0

    def counted(*arguments: Any) -> dict[int, int]:
        nonlocal calls
        calls += 1
        return count_pixels(*arguments)

    rules = SceneRules(vocabulary=vocabulary)
    begun = time.process_time()
    drawn = [draw_counted(seed, index, counted, rules) for index in range(start, stop)]
    seconds = time.process_time() - begun
    samples, scenes = zip(*drawn, strict=True)
    return {"samples": samples, "scenes": scenes, "seconds": seconds, "pixel_counts": calls}


def count(samples: list[Sample]) -> dict[str, Any]:
    """All counts of one setting; those of steps by value, type and object over all samples."""
    steps = [change for sample in samples for change in sample.changes]
    still = [s for s in samples if all(c.attribute != "position" for c in s.changes)]
    values = Counter(
        {
            f"{attribute}.{value}": 0
            for attribute, values in samples[0].vocabulary.grammar.items()
            for value in values
        }
    )
    values.update(f"{change.attribute}.{change.value}" for change in steps)
    pairs = Counter(
        (one.attribute, one.value, two.attribute, two.value)
        for sample in samples
        for one, two in itertools.pairwise(sample.changes)
    )
    times = [*pairs.values(), *[0] * (len(values) ** 2 - len(pairs))]
    return {
        "samples": len(samples),
        "changes": len(steps),
        "steps": tally(len(sample.changes) for sample in samples),
        "visible": tally(len(sample.initial.visible) for sample in samples),
        "visible_in_the_end": tally(len(sample.final.visible) for sample in samples),
        "attributes": tally(change.attribute for change in steps),
        "values": dict(values),
        "objects": tally(change.index for change in steps),
        "pairs": {
            "possible": len(times),
            "missing": len(times) - len(pairs),
            "mean": statistics.fmean(times),
            "standard_deviation": statistics.pstdev(times),
            "least": min(times),
            "most": max(times),
        },
        "moves": tally(kind for sample in samples for kind in move_types(sample)),
        "options": tally(len(change.options) for change in steps if change.options),
        "attribute_changes_twice": sum(
            len({(c.index, c.attribute) for c in sample.changes}) < len(sample.changes)
            for sample in samples
        ),
        "nothing_moves": tally(len(sample.changes) for sample in still),
        "order_sensitive": sum(map(order_sensitive, samples)),
        "smallest_gap": min(map(smallest_gap, samples)),
    }


def tally(things: Iterable[Any]) -> dict[str, int]:
    return {str(thing): n for thing, n in sorted(Counter(things).items())}


def move_types(sample: Sample) -> Iterable[str]:
    scene = sample.initial
    for change in sample.changes:
        before, scene = scene.objects[change.index].position, replay(scene, [change])
        if change.attribute == "position":
            yield str(move_type(before, scene.objects[change.index].position))


def smallest_gap(sample: Sample) -> float:
    """Between two outlines in the initial scene, in cells."""
    return min(
        ((one.position[0] - two.position[0]) ** 2 + (one.position[1] - two.position[1]) ** 2) ** 0.5
        - RADIUS_CELLS[one.size]
        - RADIUS_CELLS[two.size]
        for one, two in itertools.combinations(sample.initial.objects, 2)
    )


def write_table(found: dict[str, dict[str, Any]], commit: str | None, processor: str) -> str:
    columns = {name: rows(counts) for name, counts in found.items()}
    lines = [
        "# The balance of drawn samples beside TRANCE's",
        "",
        "Written by `benchmarks/sampler.py` (all counts: balance.json), "
        f"commit {commit}, {processor}.",
        "TRANCE's figures are from reference material: measured on 100 published samples, but for",
        "the one of 20,000. Where it says balanced, its sampler aims at equal counts.",
        "",
        f"| | TRANCE | {' | '.join(columns)} |",
        f"|---|---|{'---|' * len(columns)}",
    ]
    for row in next(iter(columns.values())):
        cells = [PUBLISHED.get(row, ""), *(column[row] for column in columns.values())]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rows(counts: dict[str, Any]) -> dict[str, str]:
    """One column: what stands in each row of the table."""
    samples, changes = counts["samples"], counts["changes"]
    still, moves = counts["nothing_moves"], sum(counts["moves"].values())
    pairs, drawing = counts["pairs"], counts["drawing"]
    numbers = [str(n) for n in range(1, 5)]

    def percent(name: str) -> str:
        return f"{100 * counts[name] / samples:.1f}"

    def shares(part: dict[str, int], keys: Iterable[str], total: int) -> str:
        return " ".join(f"{100 * part.get(key, 0) / total:.1f}" for key in keys)

    def span(part: dict[str, int], total: int) -> str:
        least, most = (100 * pick(part.values()) / total for pick in (min, max))
        return f"{least:.2f}-{most:.2f}"

    return {
        "samples": f"{samples:,}",
        "steps 1-4, % of samples": shares(counts["steps"], numbers, samples),
        "visible at first 1-10, % of samples": span(
            {str(n): counts["visible"].get(str(n), 0) for n in range(1, N_OBJECTS + 1)}, samples
        ),
        "values, each, % of steps": f"{span(counts['values'], changes)} "
        f"({len(counts['values'])} values)",
        "attributes, % of steps": ", ".join(
            f"{name} {100 * n / changes:.1f}"
            for name, n in sorted(counts["attributes"].items(), key=lambda item: -item[1])
        ),
        "objects 0-9, each, % of steps": span(counts["objects"], changes),
        "pairs of successive values, how often each": f"{pairs['mean']:.1f} "
        f"± {pairs['standard_deviation']:.1f} ({pairs['least']}-{pairs['most']})",
        "moves inner / out / in, %": shares(counts["moves"], ("inner", "out", "in"), moves)
        if moves
        else "-",
        "options of a move out": "-".join(
            str(pick(map(int, counts["options"]))) for pick in (min, max)
        )
        if moves
        else "-",
        "an (object, attribute) changes twice, % of samples": percent("attribute_changes_twice"),
        "nothing moves, % of samples": f"{100 * sum(still.values()) / samples:.1f}",
        "of these with 1-4 steps, %": shares(still, numbers, sum(still.values())),
        "order-sensitive, % of samples": percent("order_sensitive"),
        "smallest gap at first, cells": f"{counts['smallest_gap']:.2f}",
        "CPU-ms a sample": f"{drawing['cpu_ms_a_sample']:.1f}",
        "scenes drawn a sample": f"{drawing['scenes_a_sample']:.1f} "
        f"(99 %: {drawing['scenes_99_percentile']}, most: {drawing['scenes_at_most']})",
        "pixel counts (views) a sample": f"{drawing['pixel_counts_a_sample']:.1f}",
        "plans replaced": str(drawing["plans_replaced"]),
    }


if __name__ == "__main__":
    # The processes share the cores as they are; numpy needs no threads of its own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
