"""Kills an evaluation of an endpoint again and again, and compares what it ends with.

    python benchmarks/endpoint_kill_drill.py --kills 10

``star-r1 evaluate`` asks the server of tests/evaluate/misbehaving_server.py, which fails, hangs,
drips, cuts answers off and lies, through the official client. It is killed (SIGKILL) and resumed by
the same command until it has ended: every other time at a random moment after its first question,
otherwise just when an answer has gone out. Its predictions.jsonl must hold the lines of a run that
nobody killed, and by the server's own log no answer that had been written was asked for again. What
was in flight at a kill is asked again: at most ``--concurrency`` answers a kill are paid twice.
Writes results/endpoint_kill_drill/endpoint_kill_drill.json.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.evaluate.misbehaving_server import Server, hash_question  # noqa: E402

from star_r1.data.dataset import load  # noqa: E402
from star_r1.evaluate.endpoint import to_openai  # noqa: E402
from star_r1.evaluate.predictions import STATUSES, read_completions  # noqa: E402
from star_r1.evaluate.questions import ask  # noqa: E402
from star_r1.files import write_atomic  # noqa: E402
from star_r1.provenance import provenance  # noqa: E402

OUT = ROOT / "results" / "endpoint_kill_drill" / "endpoint_kill_drill.json"
DATA = "--samples 120 --views center,left,right --size 56x42 --samples-per-pixel 2 --objects 2-5 --changes 1-2"
FLAGS = "--samples-per-prompt 2 --temperature 1 --concurrency 8 --retries 2 --timeout 5"
SEED = 0
"""Of the evaluation: that of completion n is SEED + n."""


class Process(Protocol):
    """What a started evaluation must tell; ``subprocess.Popen`` does."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    here = Path(tempfile.mkdtemp(prefix="endpoint-kill-drill-"))
    data = here / "data"
    flags = ["--model", "endpoint:m", "--data", str(data), *FLAGS.split()]
    try:
        generate = [*command("generate"), *DATA.split(), "--out", str(data)]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
        moments = random.Random(arguments.seed)
        found = drill(here, data, lambda out, url: start(out, url, flags), arguments.kills, moments)
    finally:
        shutil.rmtree(here)
    found = {
        "command": f"star-r1 evaluate --model endpoint:m --data DATA {FLAGS} --out RUN",
        "data": f"star-r1 generate {DATA} --out DATA",
        "seed": arguments.seed,
        **found,
        **provenance(),
    }
    write_atomic(arguments.out, json.dumps(found, indent=1) + "\n")
    shown = ("equal", "kills", "completions", "paid", "paid_twice", "written_and_asked_again")
    print(json.dumps({name: found[name] for name in shown}, indent=1))
    sys.exit(0 if found["equal"] and not found["written_and_asked_again"] else 1)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "star_r1.cli", *words]


def start(out: Path, url: str, flags: Sequence[str]) -> Process:
    return subprocess.Popen(
        [*command("evaluate"), *flags, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_BASE_URL": url},
    )


def drill(
    here: Path,
    data: Path,
    start: Callable[[Path, str], Process],
    kills: int,
    moments: random.Random,
) -> dict[str, Any]:
    """One run that nobody kills, and one that is killed so often, each with a fresh server.

    Args:
        here: takes the runs.
        data: the dataset folder that is evaluated.
        start: the command, into a folder and for a base URL; the leader of its own process group.
        kills: how many.
        moments: where the randomness of the kills comes from.
    """
    hashes = questions(data)
    with Server() as server:
        began = time.monotonic()
        assert start(here / "whole", server.url).wait() == 0
        whole, took = result(here / "whole"), server.asked[-1].at - server.asked[0].at
        seconds = time.monotonic() - began
        alone = server.paid()
    print(f"uninterrupted: {len(whole['lines'])} lines, {seconds:.0f} s", flush=True)
    # The same address: it is part of what answers belong to.
    with Server(port=server.port) as server:
        records = []
        for number in range(kills):
            # Half as long on average, so that there is something left for the last one.
            after = moments.uniform(0, took / kills)
            records.append(kill(here / "killed", server, start, hashes, after, number % 2 == 1))
            print(f"kill {number + 1}: {records[-1]['written']} written", flush=True)
        assert start(here / "killed", server.url).wait() == 0
        killed, paid, asked = result(here / "killed"), server.paid(), list(server.asked)
    for record in records:
        known, start_at, end_at = (record.pop(name) for name in ("hashes", "began", "at"))
        record["paid_and_lost"] = sum(
            one.paid and start_at < one.at < end_at and one.question not in known for one in asked
        )
        record["written_and_asked_again"] = sum(
            one.at > end_at and one.question in known for one in asked
        )
    return {
        "equal": killed == whole,
        "kills": kills,
        "completions": len(hashes),
        "statuses": whole["statuses"],
        "uninterrupted_seconds": round(seconds),
        "faults": dict(sorted(Counter(one.did for one in asked if not one.paid).items())),
        "requests": len(asked),
        "paid_uninterrupted": alone.total(),
        "paid": paid.total(),
        "paid_twice": sum(n - 1 for n in paid.values()),
        "paid_and_lost_at_a_kill_at_most": max(record["paid_and_lost"] for record in records),
        "written_and_asked_again": sum(record["written_and_asked_again"] for record in records),
        "runs": records,
    }


def questions(data: Path) -> dict[tuple[str, int], str]:
    """(Id, number) -> the hash under which the server knows it."""
    rows = load(data)
    return {
        (question.id, number): hash_question(
            to_openai(question.messages, question.see()), SEED + number
        )
        for question in ask(rows, dict.fromkeys(rows["id"], ""), samples_per_prompt=2)
        for number in question.numbers
    }


def kill(
    out: Path,
    server: Server,
    start: Callable[[Path, str], Process],
    hashes: Mapping[tuple[str, int], str],
    after: float,
    at_an_answer: bool,
) -> dict[str, Any]:
    """Start the command and kill it ``after`` seconds of asking; what it left behind."""
    before, began = len(server.asked), time.monotonic()
    process = start(out, server.url)
    deadline, paid = float("inf"), None
    while process.poll() is None:
        now = time.monotonic()
        if deadline == float("inf") and len(server.asked) > before:
            deadline = now + after
        if now > deadline:
            if paid is None:
                paid = server.paid().total()
            if not at_an_answer or server.paid().total() > paid:
                break
        time.sleep(0.0005)
    assert process.poll() is None, "it ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    at = time.monotonic()
    written = [
        (row["id"], row["number"])
        for row in map(json.loads, whole_lines(out / "predictions.jsonl"))
        if row["status"] != "failed"
    ]
    return {
        "began": began,
        "at": at,
        "hashes": {hashes[one] for one in written},
        "kind": "an answer" if at_an_answer else "any moment",
        "after_seconds": round(at - began, 1),
        "written": len(written),
    }


def whole_lines(path: Path) -> list[bytes]:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()


def result(out: Path) -> dict[str, Any]:
    """What a run ended with: predictions up to their order, metrics, statuses, leftovers."""
    found = read_completions(out / "predictions.jsonl")
    statuses = Counter(one.status for of in found.values() for one in of)
    return {
        "lines": sorted((out / "predictions.jsonl").read_bytes().splitlines()),
        "metrics": json.loads((out / "metrics.json").read_bytes()),
        "statuses": {status: statuses[status] for status in STATUSES},
        "files": sorted(path.name for path in out.iterdir()),
    }


if __name__ == "__main__":
    main()
