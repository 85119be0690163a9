"""A judge through the real client: its prompt, its replies, and that nothing is paid twice."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.said import endpoint

from star_r1.analyze.judge import build_judge_prompt, compare_with_judge, parse_judgement
from star_r1.analyze.labelled import FIELDS
from star_r1.analyze.run import analyze
from star_r1.analyze.summary import Read, read_completion
from star_r1.analyze.tables import print_analysis
from star_r1.cli import main
from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.errors import UserError
from star_r1.evaluate.endpoint import Endpoint
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.run import evaluate
from star_r1.tvr import Object, Sample, Scene, parse_changes
from star_r1.tvr.prompt import build_solution

OBJECTS = [Object(i, "gray", "cube", "small", "rubber", (40, 8 * i - 36)) for i in range(10)]
OBJECTS[3] = Object(3, "gray", "cube", "small", "rubber", (0, 0))
OBJECTS[7] = Object(7, "red", "sphere", "large", "glass", (8, 8))
SAMPLE = Sample("000000-left", Scene(tuple(OBJECTS)), parse_changes("3.material.metal"), "left")
GOOD = {"mentioned": [7, 3], "compared": [3], "corresponding": [], "stated": ["3.material.metal"]}


def test_the_prompt_shows_both_tables_and_the_reasoning_alone() -> None:
    system, user = build_judge_prompt("<think>3: \ud800 same</think><answer>none</answer>", SAMPLE)
    text = user["content"][0]["text"]
    assert "3: small gray rubber cube" in text.partition("Final picture:")[0]
    assert "3: small gray metal cube" in text.partition("Final picture:")[2]
    assert text.endswith("Reasoning:\n<<<\n3: ? same\n>>>")
    assert "answer" not in text
    assert all(field in system["content"][0]["text"] for field in FIELDS)


@pytest.mark.parametrize(
    ("reply", "mentioned", "stated"),
    [
        (json.dumps(GOOD), {3, 7}, {"3.material.metal"}),
        (f"<think>{{}} so {{a}}</think>```json\n{json.dumps(GOOD)}\n```", {3, 7}, None),
        (json.dumps({**GOOD, "mentioned": [3, 3, 4, "7", 3.5, None, [3], True]}), {3, 7}, None),
        (json.dumps({**GOOD, "stated": ["3.color.pink", 3, "x", "7.size.small"]}), None, "7"),
        (json.dumps([GOOD]), {3, 7}, None),
    ],
)
def test_a_reply_is_read(reply: str, mentioned: set[int] | None, stated: Any) -> None:
    judgement = parse_judgement(reply, SAMPLE)
    assert judgement is not None
    assert mentioned in (None, judgement["mentioned"])
    if stated == "7":
        assert judgement["stated"] == {"7.size.small"}
    elif stated is not None:
        assert judgement["stated"] == stated


@pytest.mark.parametrize(
    "reply",
    [
        *("", "no", "{", "{" * 100_000, "[" * 100_000, "null", "3", '{"mentioned": [3]}'),
        json.dumps({**GOOD, "compared": "3"}),
        json.dumps({**GOOD, "stated": None}),
        json.dumps(GOOD)[:-1],
        '{"mentioned": ' + "9" * 10_000,
    ],
)
def test_what_is_no_judgement(reply: str) -> None:
    assert parse_judgement(reply, SAMPLE) is None


@given(st.text() | st.lists(st.sampled_from([*'{}[]",:', "mentioned", "3", " "])).map("".join))
def test_no_reply_raises(reply: str) -> None:
    assert parse_judgement(reply, SAMPLE) is None


@pytest.fixture(scope="module")
def reads(data_folder: Path) -> list[Read]:
    rows = read_columns(data_folder, SAMPLE_COLUMNS)
    # From the center alone: the same solution is one question whatever the view.
    samples = [sample for sample in map(row_to_sample, rows) if sample.view == "center"]
    return [
        read_completion(Completion(sample.id, build_solution(sample)), sample) for sample in samples
    ]


class Judge:
    """Says what the reader says, but for each third reasoning, of which it says nothing useful."""

    def __init__(self, reads: list[Read]) -> None:
        self.asked: list[str] = []
        self.replies = {
            _text(build_judge_prompt(read.completion.text, read.sample)): self._reply(n, read)
            for n, read in enumerate(reads)
        }

    def _reply(self, n: int, read: Read) -> str:
        if n % 3 == 0:
            return "I would rather not."
        reading = read.reading
        return json.dumps(
            {
                "mentioned": reading.mentioned,
                "compared": reading.compared[1:],
                "corresponding": reading.corresponding,
                "stated": [*map(str, reading.stated), "0.color.gray"],
            }
        )

    def __call__(self, body: Mapping[str, Any]) -> str:
        self.asked.append(body["messages"][1]["content"])
        return self.replies[self.asked[-1]]


def _text(messages: list[dict[str, Any]]) -> str:
    return messages[1]["content"][0]["text"]


@pytest.fixture
def judge(reads: list[Read], monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    judge = Judge(reads)
    with endpoint(judge) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        yield judge


def test_reader_and_judge_are_compared(reads: list[Read], judge: Judge, tmp_path: Path) -> None:
    found = compare_with_judge(reads, Endpoint("a-judge"), tmp_path / "out" / "judge.jsonl")
    judged = [read for n, read in enumerate(reads) if n % 3]
    assert (found["n"], found["unreadable"]) == (len(judged), len(reads) - len(judged))
    assert found["judge"]["endpoint_model"] == "a-judge"
    assert (found["prompt_tokens"], found["completion_tokens"]) == (len(reads), len(reads))
    assert (found["mentioned"]["precision"], found["mentioned"]["recall"]) == (1, 1)
    compared = [len(read.reading.compared) for read in judged]
    assert found["compared"]["precision"] == pytest.approx(1 - len(judged) / sum(compared))
    assert found["compared"]["recall"] == 1
    assert found["stated"]["precision"] == 1
    assert found["stated"]["recall"] < 1


def test_no_reply_is_paid_twice(reads: list[Read], judge: Judge, tmp_path: Path) -> None:
    path = tmp_path / "judge.jsonl"
    first = compare_with_judge(reads[:10], Endpoint("a-judge"), path)
    assert len(judge.asked) == 10
    assert compare_with_judge(reads[:10], Endpoint("a-judge"), path) == first
    assert len(judge.asked) == 10
    path.write_bytes(path.read_bytes()[:-20])  # killed while it wrote the last reply
    assert compare_with_judge(reads[:12], Endpoint("a-judge"), path)["n"] == 8
    assert len(judge.asked) == 13
    compare_with_judge(reads[:2], Endpoint("another"), path)
    assert len(judge.asked) == 15
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    assert len(set(keys)) == len(keys) == 14


def test_what_failed_is_asked_again(reads: list[Read], judge: Judge, tmp_path: Path) -> None:
    path = tmp_path / "judge.jsonl"
    compare_with_judge(reads[:2], Endpoint("a-judge"), path)
    path.write_text(path.read_text().replace('"answered"', '"failed"'))
    assert compare_with_judge(reads[:2], Endpoint("a-judge"), path)["n"] == 1
    assert len(judge.asked) == 4


def test_a_damaged_file_is_named(reads: list[Read], judge: Judge, tmp_path: Path) -> None:
    path = tmp_path / "judge.jsonl"
    path.write_text('{"id": \n')
    with pytest.raises(UserError, match=r"judge.jsonl:1: not JSON"):
        compare_with_judge(reads[:2], Endpoint("a-judge"), path)


def test_the_command_asks_a_judge(
    data_folder: Path, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate("baseline:oracle", data_folder, tmp_path / "oracle")
    words = ["analyze", str(tmp_path / "oracle"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["star-r1", *words, "--judge", "a-judge", "--judged", "5"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    found = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert found["lines"]["oracle"]["judge"]["n"] > 0
    assert len(judge.asked) == len(set(judge.asked)) == 5
    assert len((tmp_path / "out" / "judge.jsonl").read_text().splitlines()) == 5
    console = Console(width=80, record=True, force_terminal=False)
    print_analysis(found, console)
    assert "the reader against a-judge" in console.export_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("none", "none: no such run folder"),
        ("none --judge a", "--judge needs --out: a folder"),
        ("none --judge a --out o --judged 0", "Invalid value for '--judged'"),
        ("", "Missing argument 'runs'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    words: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["star-r1", "analyze", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {line}")
    assert (ended.value.code, printed.err.count("\n"), printed.out) == (2, 1, "")
    assert list(tmp_path.iterdir()) == []


def test_a_judge_reads_some_of_each_line(data_folder: Path, judge: Judge, tmp_path: Path) -> None:
    for name in ("oracle", "silent"):
        evaluate(f"baseline:{name}", data_folder, tmp_path / name)
    runs = [str(tmp_path / name) for name in ("oracle", "silent")]
    found = analyze(runs, judge=Endpoint("a-judge"), replies=tmp_path / "judge.jsonl", judged=3)
    assert len(judge.asked) == 3
    assert found["lines"]["silent"]["judge"]["n"] == 0
    assert found["lines"]["silent"]["judge"]["mentioned"]["precision"] is None
