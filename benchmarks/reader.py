"""How well the reader of reasonings finds what was labelled by hand.

    python benchmarks/reader.py

``dev`` is the half that the reader was built on; ``test`` was looked at after two measurements,
which docs/analysis.md tells; on ``fresh`` nothing was built. Writes results/reader/, in a second.
"""

import argparse
import json
from pathlib import Path

from star_r1.analyze.labelled import validate
from star_r1.files import write_atomic
from star_r1.provenance import provenance

ROOT = Path(__file__).parents[1]
LABELS = ROOT / "tests" / "data" / "labelled_reasonings.jsonl"
FRESH = ROOT / "tests" / "data" / "labelled_reasonings_fresh.jsonl"
OUT = ROOT / "results" / "reader" / "reader.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="the result")
    arguments = parser.parse_args()
    result = {
        "all": validate(LABELS),
        "dev": validate(LABELS, "dev-"),
        "test": validate(LABELS, "test-"),
        "fresh": validate(FRESH),
        **provenance(),
    }
    write_atomic(arguments.out, json.dumps(result, indent=1) + "\n")
    print(arguments.out.read_text())


if __name__ == "__main__":
    main()
