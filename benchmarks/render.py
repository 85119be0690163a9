"""What a picture costs: the default renderer beside Blender's Cycles, in one run.

    python benchmarks/render.py

draws the same pictures (320x240) with Mitsuba as ``star-r1 generate`` does and with Cycles at
TRANCE's 512 light paths a pixel, and at 16 with its denoiser, best and fast; in turns, so that
whatever else the machine does falls on all. Counted are CPU-seconds (user and system), of Cycles
those of its process. Then whole samples are drawn, rendered and encoded by two processes at once,
for the images an hour and where the time goes. Writes results/render/cpu.json, in some ten minutes.
Cycles needs the extra ``cycles`` here or in the environment that STAR_R1_BLENDER_PYTHON names.
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from star_r1.data.shards import encode_png
from star_r1.files import write_atomic
from star_r1.provenance import provenance
from star_r1.render.cycles import CyclesRenderer
from star_r1.render.mitsuba import MitsubaRenderer
from star_r1.render.visibility import count_pixels
from star_r1.tvr.rules import SceneRules
from star_r1.tvr.sample import Sample
from star_r1.tvr.sampler import draw_sample
from star_r1.tvr.vocabulary import REFERENCE_SIZE, VIEWS

OUT = Path(__file__).parents[1] / "results" / "render" / "cpu.json"
OURS = "mitsuba, 16 light paths, denoised"
TRANCES = "cycles, 512 light paths"
FEW = ("cycles, 16 light paths, denoised (best)", "cycles, 16 light paths, denoised (fast)")
SEED = 31

Renderer = MitsubaRenderer | CyclesRenderer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=12, help="of each cheap renderer")
    parser.add_argument("--trance-pictures", type=int, default=3, help="with 512 light paths")
    parser.add_argument("--samples", type=int, default=60, help="of each of the two processes")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()

    costs = compare(arguments.pictures, arguments.trance_pictures)
    means = {name: statistics.fmean(seconds) for name, seconds in costs.items()}
    found: dict[str, Any] = {
        "command": "python benchmarks/render.py",
        "size": "{}x{}".format(*REFERENCE_SIZE),
        "cpu_seconds_an_image": {
            name: {
                "mean": round(means[name], 3),
                "interval95": interval(seconds),
                "pictures": len(seconds),
                "times_ours": round(means[name] / means[OURS], 1),
            }
            for name, seconds in costs.items()
        },
        "two_processes": throughput(arguments.samples),
        **provenance(),
    }
    write_atomic(arguments.out, json.dumps(found, indent=1) + "\n")
    for part in ("cpu_seconds_an_image", "two_processes"):
        print(json.dumps(found[part], indent=1))
    print(arguments.out)


def compare(pictures: int, trance_pictures: int) -> dict[str, list[float]]:
    """CPU-seconds of each picture, by renderer; the first picture of each is not counted."""
    ours = MitsubaRenderer()
    cycles = {
        TRANCES: CyclesRenderer(samples_per_pixel=512, denoise="no"),
        FEW[0]: CyclesRenderer(samples_per_pixel=16, denoise="best"),
        FEW[1]: CyclesRenderer(samples_per_pixel=16, denoise="fast"),
    }
    costs: dict[str, list[float]] = defaultdict(list)
    warm_up = draw_sample(SEED + 1, 0, count_pixels)
    ours.render(warm_up.initial, warm_up.rig, "center")
    for name in FEW:
        cycles[name].render(warm_up.initial, warm_up.rig, "center")
    dear = {pictures * (2 * i + 1) // (2 * trance_pictures) for i in range(trance_pictures)}
    for index in range(pictures):
        # As many visible objects as the number of the picture says, so that all are there.
        rules = SceneRules(visible=(index % 10 + 1,) * 2, changes=(1, 1))
        sample = draw_sample(SEED, index, count_pixels, rules)
        view = VIEWS[index % 3]
        costs[OURS].append(cost(os.getpid(), ours, sample, view))
        for name, renderer in cycles.items():
            if name != TRANCES or index in dear:
                costs[name].append(cost(pid_of(renderer), renderer, sample, view))
        print(f"picture {index + 1}/{pictures}", flush=True)
    for renderer in cycles.values():
        renderer.close()
    return dict(costs)


def cost(pid: int, renderer: Renderer, sample: Sample, view: str) -> float:
    """CPU-seconds that a process uses to draw the final picture of a sample."""
    before = cpu_of(pid)
    renderer.render(sample.final, sample.rig, view)
    return cpu_of(pid) - before


def pid_of(renderer: CyclesRenderer) -> int:
    return renderer._child._process.pid


def cpu_of(pid: int) -> float:
    if pid == os.getpid():
        return time.process_time()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def interval(values: list[float]) -> list[float]:
    """Of the mean: percentile bootstrap over the pictures."""
    draw = random.Random(0)
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(1000))
    return [round(means[25], 3), round(means[974], 3)]


def throughput(samples: int) -> dict[str, Any]:
    """Whole samples (initial picture, three final ones) by two processes side by side."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, start) as pool:
        pool.starmap(make, [(0, 1)] * 2, chunksize=1)
        begun = time.monotonic()
        parts = pool.starmap(make, [(1, samples), (1 + samples, samples)], chunksize=1)
        seconds = time.monotonic() - begun
    images = 2 * samples * (1 + len(VIEWS))
    split = {name: sum(part[name] for part in parts) for name in parts[0]}
    total = sum(split.values())
    return {
        "images": images,
        "seconds": round(seconds, 1),
        "images_an_hour": round(images / seconds * 3600),
        "images_a_cpu_hour": round(images / total * 3600),
        "cpu_ms_an_image": {name: round(1000 * s / images, 1) for name, s in split.items()},
    }


_renderer: MitsubaRenderer
_spent: dict[str, float]


def start() -> None:
    """In each process: the renderer, its parts timed."""
    global _renderer, _spent
    _renderer, _spent = MitsubaRenderer(), defaultdict(float)
    for name in ("_trace", "_denoise"):
        setattr(_renderer, name, timed(name.strip("_"), getattr(_renderer, name)))


def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        begun = time.process_time()
        result = work(*arguments)
        _spent[name] += time.process_time() - begun
        return result

    return run


def make(first: int, samples: int) -> dict[str, float]:
    """CPU-seconds by kind of work of some samples."""
    _spent.clear()
    draw, encode = timed("draw the sample", draw_sample), timed("encode", encode_png)
    render = timed("render", _renderer.render)
    for index in range(first, first + samples):
        sample: Sample = draw(SEED, index, count_pixels)
        encode(render(sample.initial, sample.rig, "center"))
        for view in VIEWS:
            encode(render(sample.final, sample.rig, view))
    trace, denoise = _spent["trace"], _spent["denoise"]
    return {
        "draw the sample": _spent["draw the sample"],
        "place objects, tone": _spent["render"] - trace - denoise,
        "follow light paths": trace,
        "denoise": denoise,
        "encode": _spent["encode"],
    }


if __name__ == "__main__":
    main()
