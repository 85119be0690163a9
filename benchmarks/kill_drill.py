"""Kills builds again and again, and compares what they end with: it must be the same bytes.

    python benchmarks/kill_drill.py --kills 30

A build by two processes is killed (SIGKILL of all its processes) at random moments, every other
time just as it writes a file, and resumed by the same command; once it ends, the next one begins,
until there were so many kills. The same dataset is made by one process, by two, in three parts at
once one of which is killed, and on a Ray cluster of two nodes one of which is killed. (The last
needs the extra ``ray`` and is left out without it.) Writes results/kill_drill/kill_drill.json.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from star_r1.files import write_atomic
from star_r1.provenance import provenance

OUT = Path(__file__).parents[1] / "results" / "kill_drill" / "kill_drill.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--samples", type=int, default=256, help="64 make a shard")
    parser.add_argument("--size", default="56x42")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    flags = [
        *("--samples", str(arguments.samples), "--size", arguments.size),
        *("--views", "left", "--samples-per-pixel", "2"),
    ]
    here = Path(tempfile.mkdtemp(prefix="kill-drill-"))
    try:
        found = drill(here, flags, arguments.kills, random.Random(arguments.seed))
    finally:
        shutil.rmtree(here)
    found = {
        "command": " ".join(["star-r1", "generate", *flags, "--out", "DIR"]),
        "seed": arguments.seed,
        **found,
        **provenance(),
    }
    write_atomic(arguments.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in ("same_bytes", "killed_builds")}, indent=1))
    sys.exit(0 if found["same_bytes"] else 1)


def drill(here: Path, flags: list[str], kills: int, moments: random.Random) -> dict[str, Any]:
    """All cases: what each ended with, and how the builds were killed."""
    started = time.monotonic()
    run([*flags, "--out", here / "one"])
    digests = {"one process": digest(here / "one")}
    started, before = time.monotonic(), started
    run([*flags, "--workers", "2", "--out", here / "two"])
    digests["two processes"] = digest(here / "two")
    seconds = time.monotonic() - started
    print(f"one process {started - before:.0f} s, two {seconds:.0f} s", flush=True)

    digests["three parts at once, one killed and run again"] = parts(here / "parts", flags)
    digests["two Ray nodes, one killed"] = on_two_nodes(here / "ray", flags)

    builds: list[dict[str, Any]] = []
    pace = Pace(seconds)
    while (done := sum(len(build["kills"]) for build in builds)) < kills:
        out = here / f"killed-{len(builds)}"
        record = killed(out, flags, kills - done, pace, moments)
        digests[f"killed build {len(builds)}"] = digest(out)
        builds.append(record)
        print(f"{done + len(record['kills'])} kills", flush=True)
    whole = {name: value for name, value in digests.items() if value is not None}
    return {
        "same_bytes": len(set(whole.values())) == 1,
        "kills": sum(len(build["kills"]) for build in builds),
        "killed_builds": len(builds),
        "sha256": digests,
        "builds": builds,
    }


def command(flags: list[Any]) -> list[str]:
    return [sys.executable, "-m", "star_r1.cli", "generate", *map(str, flags)]


def run(flags: list[Any]) -> None:
    subprocess.run(command(flags), check=True, stdout=subprocess.DEVNULL)


def start(flags: list[Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(flags),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """All its processes at once, as a machine that goes down does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def digest(folder: Path) -> str:
    """Of names and contents of all files in it, leftovers too."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


class Pace:
    """How long the fastest run took: kills that come later hit nothing."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def killed(
    out: Path, flags: list[str], most: int, pace: Pace, moments: random.Random
) -> dict[str, Any]:
    """Build to the end, killed up to ``most`` times on the way."""
    kills: list[dict[str, Any]] = []
    while True:
        process = start([*flags, "--workers", "2", "--out", out])
        if len(kills) == most:
            assert process.wait() == 0
            break
        at_a_write = len(kills) % 2 == 1
        began = time.monotonic()
        deadline = began + moments.uniform(0.2, pace.seconds)
        known = temporary(out)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.0005 if at_a_write else 0.05)
            if at_a_write and temporary(out) - known:
                break
        if process.poll() is not None:
            assert process.returncode == 0
            pace.seconds = min(pace.seconds, time.monotonic() - began)
            break
        kill(process)
        kills.append(
            {
                "shards": len(list(out.glob("data/*.parquet"))),
                "half_written_files": len(temporary(out)),
                "after_seconds": round(time.monotonic() - began, 1),
            }
        )
    return {"kills": kills}


def temporary(out: Path) -> set[Path]:
    return {*out.glob(".*.tmp"), *out.glob("data/.*.tmp")}


def parts(out: Path, flags: list[str]) -> str:
    """The second part is killed when it has begun and has no shard yet, the others go on."""
    part = {number: [*flags, "--shard", f"{number}/3", "--out", out] for number in (1, 2, 3)}
    second = start(part[2])
    while not (out / "generate.json").exists():  # the first file that a build writes
        assert second.poll() is None
        time.sleep(0.001)
    others = [start(part[1]), start(part[3])]
    kill(second)
    assert [process.wait() for process in others] == [0, 0]
    assert not (out / "manifest.json").exists()
    run(part[2])
    assert (out / "manifest.json").exists()
    return digest(out)


def on_two_nodes(out: Path, flags: list[str]) -> str | None:
    with two_nodes() as cluster:
        if cluster is None:
            return None
        process = start([*flags, "--ray", cluster.address, "--out", out])
        while not list(out.glob("data/*.parquet")):
            assert process.poll() is None
            time.sleep(0.05)
        cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
        assert process.wait() == 0
    return digest(out)


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine, each with one processor; None without Ray."""
    try:
        from ray.cluster_utils import Cluster
    except ModuleNotFoundError:
        yield None
        return
    node = {"num_cpus": 1, "object_store_memory": 200 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
