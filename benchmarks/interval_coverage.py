"""How often the intervals hold the truth: over few and many drawn scenes, at rates to the edges.

    python benchmarks/interval_coverage.py

draws evaluations of 5, 30 and 300 scenes whose rows are right at a known rate, alike within a scene
to a known degree, computes the intervals of ``star_r1.intervals`` and counts how often they hold
the rate; the same for paired differences of two runs, and for NDiff, which has no upper end. Writes
results/interval_coverage/interval_coverage.json, and .md, its least numbers. Five minutes.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from star_r1.files import write_atomic
from star_r1.intervals import (
    COUNT,
    SHARE,
    Bounds,
    Floats,
    Integers,
    Mean,
    interval,
    mean_by_scene,
)
from star_r1.provenance import provenance

OUT = Path(__file__).parents[1] / "results" / "interval_coverage"
SCENES = (5, 30, 300)
RATES = (0.0, 0.02, 0.4, 0.98, 1.0)
ALIKE = (0.0, 0.3, 0.7, 1.0)
"""Correlation of the rows of a scene; 1: they stand or fall together."""
VIEWS = {"3": (3,), "1 to 3": (1, 2, 3)}
"""Rows a scene: always three, or as often one, two and three."""
COMPLETIONS = (1, 8)
"""Of each row, whose mean is its value."""
DIFFERENCE: Bounds = (-1.0, 1.0)

Draw = Callable[[np.random.Generator], tuple[Mean, float, Bounds]]
"""An estimate, what it estimates, and the bounds of its values."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000, help="evaluations of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    found = [
        {**about, **cover(draw, arguments.draws, [arguments.seed, place])}
        for place, (about, draw) in enumerate(cases())
    ]
    report = {
        "command": f"python benchmarks/interval_coverage.py --draws {arguments.draws} "
        f"--seed {arguments.seed}",
        "draws": arguments.draws,
        "least_coverage": min(one["coverage"] for one in found),
        "cases": found,
        **provenance(),
    }
    write_atomic(arguments.out / "interval_coverage.json", json.dumps(report, indent=1) + "\n")
    write_atomic(arguments.out / "interval_coverage.md", to_markdown(report))
    print(to_markdown(report))


def cases() -> Iterator[tuple[dict[str, Any], Draw]]:
    """What is estimated under which circumstances, and how one evaluation of it is drawn."""
    for scenes, (views, sizes), alike in itertools.product(SCENES, VIEWS.items(), ALIKE):
        about = {"scenes": scenes, "views": views, "alike": alike}
        for rate, completions in itertools.product(RATES, COMPLETIONS):
            yield (
                {"of": "share", **about, "rate": rate, "completions": completions},
                lambda rng, c=(scenes, sizes, alike, rate, completions): draw_share(rng, *c),
            )
        for rate in RATES[1:]:
            yield (
                {"of": "NDiff", **about, "rate": rate},
                lambda rng, c=(scenes, sizes, alike, rate): draw_count(rng, *c),
            )
        for pair in ((0.0, 0.0), (0.02, 0.02), (0.4, 0.4), (0.4, 0.5), (0.02, 0.4), (0.98, 1.0)):
            yield (
                {"of": "difference", **about, "rate": list(pair)},
                lambda rng, c=(scenes, sizes, alike, *pair): draw_difference(rng, *c),
            )


def cover(draw: Draw, draws: int, seed: list[int]) -> dict[str, Any]:
    """How often the interval holds the truth, its mean width, and how often there is none."""
    rng = np.random.default_rng(seed)
    held, widths = 0, []
    for _ in range(draws):
        mean, truth, bounds = draw(rng)
        if (ends := interval(mean, bounds)) is not None:
            held += ends[0] - 1e-12 <= truth <= ends[1] + 1e-12
            widths.append(ends[1] - ends[0])
    given = len(widths)
    return {
        "coverage": held / given,
        "width": float(np.mean(widths)),
        "none": draws - given,
    }


def draw_share(
    rng: np.random.Generator,
    scenes: int,
    sizes: tuple[int, ...],
    alike: float,
    rate: float,
    completions: int,
) -> tuple[Mean, float, Bounds]:
    scene = draw_scenes(rng, scenes, sizes)
    chance = draw_chances(rng, scenes, rate, alike)[scene]
    if completions > 1:  # to every other row all completions are the same
        sure = rng.random(len(scene)) < chance
        chance = np.where(rng.random(len(scene)) < 0.5, chance, sure)
    values = rng.binomial(completions, chance) / completions
    return known(mean_by_scene(values, scene, scenes)), rate, SHARE


def draw_count(
    rng: np.random.Generator, scenes: int, sizes: tuple[int, ...], alike: float, rate: float
) -> tuple[Mean, float, Bounds]:
    """NDiff: 0 where the row is right, else 1 to 6 wrong cells over the scene's 1 to 4 changes."""
    scene = draw_scenes(rng, scenes, sizes)
    wrong = rng.random(len(scene)) < draw_chances(rng, scenes, rate, alike)[scene]
    changes = rng.integers(1, 5, scenes)[scene]
    values = np.where(wrong, rng.integers(1, 7, len(scene)) / changes, 0.0)
    truth = rate * 3.5 * np.mean([1, 1 / 2, 1 / 3, 1 / 4])
    return known(mean_by_scene(values, scene, scenes)), float(truth), COUNT


def draw_difference(
    rng: np.random.Generator,
    scenes: int,
    sizes: tuple[int, ...],
    alike: float,
    before: float,
    after: float,
) -> tuple[Mean, float, Bounds]:
    """Of two runs that find the same scenes hard: half of their rows share their luck."""
    scene = draw_scenes(rng, scenes, sizes)
    luck = rng.random(scenes)  # the scene's, for both runs
    means = []
    for rate in (before, after):
        own = np.where(rng.random(scenes) < 0.5, luck, rng.random(scenes))[scene]
        rows = np.where(rng.random(len(scene)) < alike, own, rng.random(len(scene)))
        means.append(known(mean_by_scene((rows < rate).astype(float), scene, scenes)))
    return means[1] - means[0], after - before, DIFFERENCE


def draw_scenes(rng: np.random.Generator, scenes: int, sizes: tuple[int, ...]) -> Integers:
    """The scene of each row."""
    return np.repeat(np.arange(scenes), rng.choice(sizes, scenes))


def draw_chances(rng: np.random.Generator, n: int, rate: float, alike: float) -> Floats:
    """n chances of mean ``rate``, such that two draws with one chance have the correlation."""
    if alike == 0 or rate in (0.0, 1.0):
        return np.full(n, rate)
    if alike == 1:
        return (rng.random(n) < rate).astype(float)
    spread = (1 - alike) / alike
    return rng.beta(rate * spread, (1 - rate) * spread, n)


def known(mean: Mean | None) -> Mean:
    assert mean is not None
    return mean


def to_markdown(report: dict[str, Any]) -> str:
    """The least coverage over what is not in the table, in percent."""
    lines = [
        "# How often 95% intervals hold the truth",
        "",
        f"By `{report['command']}`, commit {report['commit']}: {report['draws']} drawn evaluations "
        "of each kind. In each cell the least coverage in percent over correlations of the rows of "
        "a scene from 0 to 1, over three or one to three rows a scene and over one or eight "
        "completions a row, and the mean width there.",
        "",
    ]
    for of in ("share", "difference", "NDiff"):
        here = [one for one in report["cases"] if one["of"] == of]
        rates = list(dict.fromkeys(json.dumps(one["rate"]) for one in here))
        lines += [f"| {of}: true rate | " + " | ".join(f"{n} scenes" for n in SCENES) + " |"]
        lines += ["|---|" + "---:|" * len(SCENES)]
        for rate in rates:
            cells = []
            for n in SCENES:
                some = [
                    one for one in here if (json.dumps(one["rate"]), one["scenes"]) == (rate, n)
                ]
                least = min(some, key=lambda one: one["coverage"])
                cells.append(f"{100 * least['coverage']:.1f} ({least['width']:.3f})")
            lines.append(f"| {rate} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
