"""Makes the data of recipes/data/trance9k.yaml, checks it, and says what it took.

    python benchmarks/trance9k.py --workers 2 --out data/trance9k

Writes results/trance9k/trance9k.json. Interrupted, the same command goes on; then time and rate are
those of what the last call made. ``--samples 8 --size 160x120`` tries it out at a small size.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from star_r1.data.build import build
from star_r1.data.manifest import MANIFEST
from star_r1.data.settings import Settings, read_settings
from star_r1.data.verify import verify
from star_r1.files import write_atomic
from star_r1.provenance import provenance

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "data" / "trance9k.yaml"
RESULT = ROOT / "results" / "trance9k" / "trance9k.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--samples", type=int, help="of each split; else as in the recipe")
    parser.add_argument("--size", help="else as in the recipe")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    overrides = {name: getattr(arguments, name) for name in ("samples", "size")}
    flags = {name: value for name, value in overrides.items() if value is not None}
    splits = read_settings(flags, RECIPE)

    images = sum(images_to_make(arguments.out, settings) for settings in splits)
    started, cpu = time.monotonic(), cpu_seconds()
    build(arguments.out, splits, arguments.workers)
    seconds, cpu = time.monotonic() - started, cpu_seconds() - cpu
    checked = verify(arguments.out, print)

    manifest = json.loads((arguments.out / MANIFEST).read_bytes())
    found = {
        "command": "star-r1 generate --config recipes/data/trance9k.yaml "
        + "".join(f"--{name} {value} " for name, value in flags.items())
        + f"--workers {arguments.workers} --out DIR",
        "faults": checked.faults,
        "rows": {split: counts.rows for split, counts in checked.counts.items()},
        "samples": {split: counts.samples for split, counts in checked.counts.items()},
        "bytes": sum(file["bytes"] for file in manifest["files"].values()),
        "images_made": images,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "images_an_hour": round(images / seconds * 3600),
        "images_an_hour_a_worker": round(images / seconds * 3600 / arguments.workers),
        "images_a_cpu_hour": round(images / cpu * 3600),
        "balance": {split: counts.tables() for split, counts in checked.counts.items()},
        **provenance(),
    }
    write_atomic(arguments.result, json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in list(found)[1:11]}, indent=1))
    sys.exit(1 if checked.faults else 0)


def images_to_make(out: Path, settings: Settings) -> int:
    """Of the shards that are not there: the initial picture, and one a view."""
    return sum(
        len(indices) * (1 + len(settings.views))
        for name, indices in settings.shards.items()
        if not (out / "data" / name).exists()
    )


def cpu_seconds() -> float:
    """Of this process and the ended ones that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


if __name__ == "__main__":
    main()
