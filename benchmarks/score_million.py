"""Scores a predictions file of a million rows by the real command: wall time, memory, the numbers.

    python benchmarks/score_million.py

makes a dataset of a million rows (random scenes of three views each, without pictures to speak of)
and a file of completions in random order (right, partly right, wrong, malformed, empty), runs
``star-r1 score`` on them in a process of its own, compares its numbers with those of
``metrics.score`` on a part of the rows, and writes results/score_million/score_million.json. Five
minutes, 1 GB of disk, which is freed at the end.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from star_r1.data.dataset import FEATURES, SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.evaluate.scoring import score_file
from star_r1.files import write_atomic
from star_r1.metrics import score
from star_r1.provenance import provenance
from star_r1.tvr.answer import parse_answer
from star_r1.tvr.change import Change
from star_r1.tvr.vocabulary import ATTRIBUTES, STANDARD, VALUES, VIEWS

OUT = Path(__file__).parents[1] / "results" / "score_million"
SHARD_ROWS = 64 * len(VIEWS)
"""As ``star-r1 generate`` writes them."""
CHECKED_ROWS = 5_000

# The smallest PNG there is: one grey pixel.
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)

Truth = list[tuple[int, str, str]]
"""Index, attribute, value of each change."""
Things = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard-rows", type=int, default=SHARD_ROWS)
    parser.add_argument("--runs", type=int, default=3, help="of the command, one after another")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="keep data and predictions here")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        report = measure(work, arguments.rows, arguments.shard_rows, arguments.runs, arguments.seed)
    write_atomic(arguments.out / "score_million.json", json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def measure(work: Path, rows: int, shard_rows: int, runs: int, seed: int) -> dict[str, Any]:
    """Make the files, unless they are there; score them; check the scores of a part."""
    data, predictions = work / "data", work / "predictions.jsonl"
    if not predictions.exists():
        write_files(data, predictions, rows, shard_rows, seed)
    timed = [run(data, predictions) for _ in range(runs)]
    scores = timed[0].pop("scores")
    if any(other.pop("scores") != scores for other in timed[1:]):
        raise SystemExit("the same file had other scores the second time")
    return {
        "command": f"python benchmarks/score_million.py --rows {rows} --shard-rows {shard_rows} "
        f"--runs {runs} --seed {seed}",
        "rows": rows,
        "shards": len(list((data / "data").iterdir())),
        "predictions_bytes": predictions.stat().st_size,
        "runs": timed,
        "wall_seconds_median": (wall := statistics.median(one["wall_seconds"] for one in timed)),
        "rows_a_second": rows / wall,
        # The peaks of all processes together: at least what they held at once.
        "peak_bytes": max(sum(one["processes_peak_bytes"]) for one in timed),
        "tacc": scores["overall"]["tacc"],
        "answers": scores["answers"],
        "checked_rows": check(work, data, predictions, min(rows, CHECKED_ROWS)),
        **provenance(),
    }


def run(data: Path, predictions: Path) -> dict[str, Any]:
    """The command once."""
    words = ["-m", "star_r1.cli", "score", "--json", "--data", data, "--predictions", predictions]
    with tempfile.TemporaryFile() as printed:
        begun = time.monotonic()
        child = subprocess.Popen([sys.executable, *words], stdout=printed)
        peaks: dict[int, int] = {}
        watcher = threading.Thread(target=watch, args=(child.pid, peaks))
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        watcher.join()
        if child.returncode:
            raise SystemExit(f"star-r1 score ended with {child.returncode}")
        printed.seek(0)
        scores = json.load(printed)
    return {
        "wall_seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "processes_peak_bytes": sorted(peaks.values()),
        "load_average": os.getloadavg()[0],
        "scores": scores,
    }


def watch(pid: int, peaks: dict[int, int]) -> None:
    """Note the most memory that a process and each of its children held, until it has ended."""
    while held := {own: peak for own in tree(pid) if (peak := peak_of(own))}:
        peaks.update(held)
        time.sleep(0.05)


def tree(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from tree(int(child))


def peak_of(pid: int) -> int:
    """The most bytes that a process held in memory so far, 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def check(work: Path, data: Path, predictions: Path, n: int) -> int:
    """Whether the command gives the first rows, alone, the very numbers of ``metrics.score``."""
    part = work / "part"
    (part / "data").mkdir(parents=True, exist_ok=True)
    pictured = []
    for path in sorted((data / "data").iterdir()):
        pictured.append(pq.read_table(path))
        if sum(map(len, pictured)) >= n:
            break
    pq.write_table(
        pa.concat_tables(pictured).slice(0, n), part / "data" / "test-00000-of-00001.parquet"
    )
    samples = [row_to_sample(row) for row in read_columns(part, SAMPLE_COLUMNS)]
    wanted = {sample.id for sample in samples}
    said: dict[str, str] = {}
    with predictions.open() as whole, (part / "predictions.jsonl").open("w") as copy:
        for line in whole:
            row = json.loads(line)
            if row["id"] in wanted:
                said[row["id"]] = row["completion"]
                copy.write(line)
    file = part / "predictions.jsonl"
    # A file of this size is scored by one process, the large one by several.
    found = [run(part, file)["scores"], score_file(part, file, processes=2)]
    plain = score([(parse_answer(said[s.id], s.vocabulary), s) for s in samples])
    if any({group: scores[group] for group in plain} != plain for scores in found):
        raise SystemExit("the command's numbers are not those of metrics.score")
    return len(samples)


def write_files(data: Path, predictions: Path, rows: int, shard_rows: int, seed: int) -> None:
    """A dataset and a completion for each of its rows, all of random content."""
    rng = random.Random(seed)
    lines: list[str] = []
    shards = -(-rows // shard_rows)
    (data / "data").mkdir(parents=True, exist_ok=True)
    drawn = draw_rows(rng)
    for shard in range(shards):
        part = list(islice(drawn, min(shard_rows, rows - shard * shard_rows)))
        name = f"test-{shard:05}-of-{shards:05}.parquet"
        write_shard(data / "data" / name, [row for row, _ in part])
        lines += [line for _, line in part]
    rng.shuffle(lines)
    with predictions.open("w") as file:
        file.writelines(lines)


def draw_rows(rng: random.Random) -> Iterator[tuple[dict[str, str], str]]:
    """Without end: the columns that differ from row to row, and the row's line of predictions."""
    for scene in count():
        things, truth = draw_scene(rng)
        rig = {
            "cameras": {view: draw_point(rng) for view in VIEWS},
            "lamps": {lamp: draw_point(rng) for lamp in ("key", "fill", "back")},
        }
        shared = {
            "initial": dump(things),
            "changes": dump([Change(*change).to_dict() for change in truth]),
            "rig": dump(rig),
        }
        for view in VIEWS:
            id = f"{scene:06d}-{view}"
            line = json.dumps({"id": id, "completion": draw_completion(rng, things, truth)})
            yield {"id": id, "view": view, **shared}, line + "\n"


def draw_scene(rng: random.Random) -> tuple[Things, Truth]:
    """Ten objects, 1 to 10 of them in sight, and 1 to 4 changes of those in sight."""
    visible = rng.randint(1, 10)
    things = [
        {
            "index": index,
            **{attribute: rng.choice(VALUES[attribute]) for attribute in ATTRIBUTES},
            "position": [rng.randint(-20, 20) if index < visible else 30, rng.randint(-20, 20)],
            "rotation": rng.random() * 6.28,
        }
        for index in range(10)
    ]
    cells = [(index, attribute) for index in range(visible) for attribute in ATTRIBUTES]
    truth: Truth = []
    for index, attribute in rng.sample(cells, rng.randint(1, 4)):
        others = [value for value in VALUES[attribute] if value != things[index][attribute]]
        truth.append((index, attribute, rng.choice(others)))
    return things, truth


def draw_completion(rng: random.Random, things: Things, truth: Truth) -> str:
    """As the embedded model writes: a line of reasoning an object, then the answer."""
    kind = rng.random()
    if kind < 0.02:
        return ""
    shown = things[: rng.randint(2, 6)]
    lines = (
        "{index}: {size} {color} {material} {shape} now "
        "{size} {color} {material} {shape} same".format(**thing)
        for thing in shown
    )
    reasoning = "\n".join(lines)
    if kind < 0.05:
        return f"<think>{reasoning}"  # cut off
    said = list(truth)
    if kind < 0.45:
        rng.shuffle(said)
    elif kind < 0.75:
        said = [*said[: rng.randint(0, len(said))], draw_change(rng)]
    else:
        said = [draw_change(rng) for _ in range(rng.randint(1, 4))]
    answer = ", ".join(f"{index}.{attribute}.{value}" for index, attribute, value in said)
    if kind > 0.97:
        return f"The objects changed: {answer}."  # no tags
    if kind > 0.94:
        answer += ", 2.color.pink"
    return f"<think>{reasoning}\n</think><answer>{answer}</answer>"


def draw_change(rng: random.Random) -> tuple[int, str, str]:
    attribute = rng.choice(ATTRIBUTES)
    return rng.randrange(10), attribute, rng.choice(VALUES[attribute])


def draw_point(rng: random.Random) -> list[float]:
    return [rng.uniform(-9, 9) for _ in range(3)]


def dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def write_shard(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """One parquet file; what scoring does not read is the same in all rows."""
    images = [{"bytes": PICTURE, "path": None}] * 2
    prompt = [{"role": "user", "content": [{"type": "text", "text": "What changed?"}]}]
    same = {
        "images": images,
        "prompt": prompt,
        "answer": "",
        "final": "",
        "pixels": "{}",
        "vocabulary": STANDARD.to_json(),
    }
    table = pa.Table.from_pylist([{**same, **row} for row in rows], FEATURES.arrow_schema)
    pq.write_table(table, path, compression="zstd", write_statistics=False)


if __name__ == "__main__":
    main()
