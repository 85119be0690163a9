"""Kills an evaluation of an endpoint again and again, and compares what it ends with.

    python benchmarks/endpoint_kill_drill.py --kills 10

``star-r1 evaluate`` asks the server of tests/evaluate/misbehaving_server.py, which fails, hangs,
drips, cuts answers off, lies, speaks the dialects of many providers and takes no temperature,
through the official client. It is killed (SIGKILL) and resumed by the same command until it has
ended: after a random number of answers, just when one has gone out or a random moment later. Its
predictions.jsonl must hold the lines of a run that nobody killed, and by the server's own log no
answer that had been written was asked for again. What was in flight at a kill is asked again: at
most ``--concurrency`` answers a kill are paid twice.
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

from tests.evaluate.misbehaving_server import Server, hash_question, no_temperature  # noqa: E402

from star_r1.data.dataset import load  # noqa: E402
from star_r1.evaluate.endpoint import to_openai  # noqa: E402
from star_r1.evaluate.predictions import STATUSES, read_completions  # noqa: E402
from star_r1.evaluate.questions import ask  # noqa: E402
from star_r1.files import write_atomic  # noqa: E402
from star_r1.provenance import provenance  # noqa: E402

OUT = ROOT / "results" / "endpoint_kill_drill" / "endpoint_kill_drill.json"
DATA = "--samples 120 --size 56x42 --samples-per-pixel 2 --objects 2-5 --changes 1-2"
SAMPLES = 2
FLAGS = f"--samples-per-prompt {SAMPLES} --temperature 1 --concurrency 8 --retries 2 --timeout 5"
LATER = 0.1
"""Most seconds from an answer to the kill."""
ENDED = (0, 1)
"""Exit status of a run that came to its end: 1 where questions failed."""
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
        found = drill(
            *(here, data, SAMPLES, lambda out, url: start(out, url, flags)),
            *(arguments.kills, moments),
        )
    except AssertionError:
        print(*(path.read_text() for path in here.glob("*.log")), sep="\n", file=sys.stderr)
        raise
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
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [*command("evaluate"), *flags, "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_BASE_URL": url},
        )


def drill(
    here: Path,
    data: Path,
    samples: int,
    start: Callable[[Path, str], Process],
    kills: int,
    moments: random.Random,
) -> dict[str, Any]:
    """One run that nobody kills, and one that is killed so often, each with a fresh server.

    Args:
        here: takes the runs.
        data: the dataset folder that is evaluated.
        samples: completions a row that the command asks for.
        start: the command, into a folder and for a base URL; the leader of its own process group.
        kills: how many.
        moments: where the randomness of the kills comes from.
    """
    hashes = questions(data, samples)
    with Server() as server:
        server.refuse = no_temperature
        began = time.monotonic()
        assert start(here / "whole", server.url).wait() in ENDED
        whole, seconds = result(here / "whole"), time.monotonic() - began
        alone = server.paid()
    print(f"uninterrupted: {len(whole['lines'])} lines, {seconds:.0f} s", flush=True)
    # The same address: it is part of what answers belong to.
    with Server(port=server.port) as server:
        server.refuse = no_temperature
        records = []
        for number in range(kills):
            # So that there is something left for the last one.
            answers = moments.randint(0, alone.total() // (kills + 1))
            later = moments.uniform(0, LATER) if number % 2 else 0.0
            records.append(kill(here / "killed", server, start, hashes, answers, later))
            print(f"kill {number + 1}: {records[-1]['written']} written", flush=True)
        assert start(here / "killed", server.url).wait() in ENDED
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


def questions(data: Path, samples: int) -> dict[tuple[str, int], str]:
    """(Id, number) -> the hash under which the server knows it."""
    rows = load(data)
    return {
        (question.id, number): hash_question(
            to_openai(question.messages, question.see()), SEED + number
        )
        for question in ask(rows, dict.fromkeys(rows["id"], ""), samples_per_prompt=samples)
        for number in question.numbers
    }


def kill(
    out: Path,
    server: Server,
    start: Callable[[Path, str], Process],
    hashes: Mapping[tuple[str, int], str],
    answers: int,
    later: float,
) -> dict[str, Any]:
    """Start the command and kill it ``later`` seconds after so many answers; what it left."""
    before, paid, began = len(server.asked), server.paid().total(), time.monotonic()
    process = start(out, server.url)
    while process.poll() is None:
        if len(server.asked) > before and server.paid().total() >= paid + answers:
            time.sleep(later)
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
        "answers": answers,
        "seconds_later": round(later, 3),
        "after_seconds": round(at - began, 1),
        "written": len(written),
    }


def whole_lines(path: Path) -> list[bytes]:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()


def left_out(record: Path) -> Any:
    """What a run recorded of parameters that were refused."""
    return json.loads(record.read_bytes()).get("left_out") if record.exists() else None


def result(out: Path) -> dict[str, Any]:
    """What a run ended with: predictions up to their order, metrics, statuses, leftovers."""
    found = read_completions(out / "predictions.jsonl")
    statuses = Counter(one.status for of in found.values() for one in of)
    return {
        "lines": sorted((out / "predictions.jsonl").read_bytes().splitlines()),
        "metrics": json.loads((out / "metrics.json").read_bytes()),
        "left_out": left_out(out / "run.json"),
        "statuses": {status: statuses[status] for status in STATUSES},
        "files": sorted(path.name for path in out.iterdir()),
    }


if __name__ == "__main__":
    main()
