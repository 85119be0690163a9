"""The drill at a small size: three kills."""

import json
import multiprocessing
import os
import random
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from endpoint_kill_drill import drill, result  # noqa: E402

CONCURRENCY = 8


def run(data: Path, out: Path, url: str) -> None:
    """In a process of its own: the leader of its group, as under a terminal."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    os.environ["OPENAI_BASE_URL"] = url
    from star_r1.evaluate.run import evaluate

    patience = {"concurrency": CONCURRENCY, "retries": 2, "timeout": 3.0}
    evaluate("endpoint:m", data, out, temperature=1.0, **patience)


class Child:
    """An evaluation forked from a server that has loaded everything: it starts in no time."""

    def __init__(self, data: Path, out: Path, url: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["star_r1.evaluate.endpoint", "datasets"])
        self.process = context.Process(target=run, args=(data, out, url))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode


def test_a_killed_evaluation_ends_with_the_same_answers(data_folder: Path, tmp_path: Path) -> None:
    kills = 3
    found = drill(
        tmp_path,
        data_folder,
        1,
        lambda out, url: Child(data_folder, out, url),
        kills,
        random.Random(3),
    )
    assert found["equal"]
    assert found["kills"] == len(found["runs"]) == kills
    assert found["completions"] == sum(found["statuses"].values()) == 24
    assert found["written_and_asked_again"] == 0
    assert found["paid_twice"] <= kills * CONCURRENCY
    assert found["paid_and_lost_at_a_kill_at_most"] <= CONCURRENCY
    assert found["runs"][-1]["written"] > 0


@pytest.mark.parametrize("name", ["predictions.jsonl", "metrics.json", "left.tmp"])
def test_a_difference_is_noticed(tmp_path: Path, name: str) -> None:
    rows = [{"id": "a", "completion": "1"}, {"id": "b", "completion": "2"}]
    for folder, order in (("first", rows), ("second", rows[::-1])):
        (tmp_path / folder).mkdir()
        lines = "".join(json.dumps(row) + "\n" for row in order)
        (tmp_path / folder / "predictions.jsonl").write_text(lines)
        (tmp_path / folder / "metrics.json").write_text("{}")
    assert result(tmp_path / "first") == result(tmp_path / "second")
    content = '{"id": "c", "completion": "3"}\n' if name == "predictions.jsonl" else '{"n": 1}'
    (tmp_path / "second" / name).write_text(content)
    assert result(tmp_path / "first") != result(tmp_path / "second")
