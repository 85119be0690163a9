"""The memory that an evaluation takes, by the real command on datasets of more and more rows.

    python benchmarks/evaluate_memory.py

makes datasets (random scenes of three views with their prompts, a pixel for each picture) and runs
``star-r1 evaluate --model baseline:silent`` on each in a process of its own, twice: the second time
all is answered already. Ends with an error where that takes 500 MB or more. Writes
results/evaluate_memory/evaluate_memory.json. Ten minutes, 1 GB of disk, which is freed.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from score_million import PICTURE, SHARD_ROWS, draw_rows

from star_r1.data.dataset import FEATURES, row_to_sample
from star_r1.files import write_atomic
from star_r1.provenance import provenance
from star_r1.tvr.prompt import build_prompt
from star_r1.tvr.vocabulary import STANDARD

OUT = Path(__file__).parents[1] / "results" / "evaluate_memory" / "evaluate_memory.json"
ROWS = (10_000, 50_000, 200_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--most", type=int, default=500, help="MB; more is a failure")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    found = {
        "command": "star-r1 evaluate --model baseline:silent --data DATA --out RUN",
        "runs": [measure(rows) for rows in arguments.rows],
        **provenance(),
    }
    write_atomic(arguments.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["runs"], indent=1))
    peak = max(run[when]["peak_mb"] for run in found["runs"] for when in ("first", "again"))
    sys.exit(0 if peak < arguments.most else f"{peak} MB, more than {arguments.most}")


def measure(rows: int) -> dict[str, Any]:
    """Evaluate so many rows, then find them all answered."""
    with tempfile.TemporaryDirectory(prefix="evaluate-memory-") as folder:
        data, out = Path(folder) / "data", Path(folder) / "run"
        write_rows(data / "data", rows)
        return {"rows": rows, "first": run(data, out), "again": run(data, out)}


def write_rows(folder: Path, rows: int) -> None:
    """Shards as ``star-r1 generate`` writes them, as far as an evaluation reads them."""
    folder.mkdir(parents=True)
    drawn = draw_rows(random.Random(0))
    shards = -(-rows // SHARD_ROWS)
    same = {"images": [{"bytes": PICTURE, "path": None}] * 2, "vocabulary": STANDARD.to_json()}
    same |= dict.fromkeys(("answer", "final", "pixels"), "")
    for shard in range(shards):
        some = islice(drawn, min(SHARD_ROWS, rows - shard * SHARD_ROWS))
        whole = [{**same, **row} for row, _ in some]
        whole = [{**row, "prompt": build_prompt(row_to_sample(row))} for row in whole]
        table = pa.Table.from_pylist(whole, FEATURES.arrow_schema)
        pq.write_table(table, folder / f"test-{shard:05}-of-{shards:05}.parquet")


def run(data: Path, out: Path) -> dict[str, Any]:
    """The command once: peak of its memory in MB, seconds."""
    words = ["evaluate", "--model", "baseline:silent", "--data", str(data), "--out", str(out)]
    begun = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "star_r1.cli", *words], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"star-r1 evaluate ended with {child.returncode}")
    seconds = round(time.monotonic() - begun, 1)
    return {"peak_mb": round(usage.ru_maxrss * 1024 / 1e6), "seconds": seconds}


if __name__ == "__main__":
    main()
