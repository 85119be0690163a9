"""What the command shows at its end, and the flags that it reads itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evaluate.misbehaving_server import Server, usage_of

from star_r1.metrics import GROUPS, METRICS

ROWS = 24

Call = Callable[[str], tuple[object, str, str]]


@pytest.mark.parametrize(("columns", "tables"), [("120", 1), ("40", 4)])
def test_the_table_fits_the_terminal(
    data_folder: Path,
    tmp_path: Path,
    in_process: Call,
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    tables: int,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    run = tmp_path / "run"
    words = f"evaluate --model baseline:oracle --data {data_folder} --out {run}"
    status, out, err = in_process(words)
    assert status == 0
    *lines, counts = out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    heads = [line.split() for line in lines if line.split()[0] in GROUPS]
    assert len(heads) == tables
    assert [group for head in heads for group in head] == list(GROUPS)
    firsts = [line.split()[0] for line in lines if not line.startswith(("shares", "diff,"))]
    assert all(firsts.count(metric) == tables for metric in METRICS)
    assert counts == f"completions: {ROWS} answered; 0.0% are malformed"
    assert f"metrics of the answers to {ROWS} rows: {run / 'metrics.json'}\n" in err
    assert err.endswith(f"next: star-r1 report {run} --out {run / 'report.html'}\n")


def test_several_completions_a_row_have_a_table_of_their_own(
    data_folder: Path, tmp_path: Path, in_process: Call
) -> None:
    words = f"evaluate --model baseline:random --data {data_folder} --out {tmp_path / 'run'}"
    status, out, _ = in_process(f"{words} --samples-per-prompt 4")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines() if "pass@" in line or "maj" in line] == [
        *("pass@1", "pass@2", "pass@4", "majority"),
    ]
    assert f"completions: {4 * ROWS} answered" in out


def test_what_failed_and_what_it_cost(
    data_folder: Path, tmp_path: Path, in_process: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    words = f"evaluate --model endpoint:m --data {data_folder} --out {run} --retries 0"
    failed: set[str] = set()

    def fail_twice(question: str, attempt: int) -> str:
        if len(failed) < 2:
            failed.add(question)
        return "500" if question in failed and not attempt else "right"

    with Server(fail_twice) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        status, out, err = in_process(f"{words} --prices 2.5,10000")
        assert status == 1
        assert f"completions: {ROWS - 2} answered, 2 failed" in out
        assert "the same command asks those that failed again; 2 did with: status 500: on" in err
        status, out, err = in_process(f"{words} --prices 2.5,10000")
        assert status == 0
        assert f"completions: {ROWS} answered; " in out
        counts = [sum(column) for column in zip(*map(usage_of, server.paid()), strict=True)]
    usage = json.loads((run / "metrics.json").read_text())["usage"]
    assert [usage["prompt_tokens"], usage["completion_tokens"]] == counts
    assert usage["usd"] == pytest.approx((2.5 * counts[0] + 10000 * counts[1]) / 1e6)
    said = f"{counts[0]} tokens of prompts, {counts[1]} of completions: {usage['usd']:.2f} US doll"
    assert said in err


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--temperature nan", "--temperature nan: give 0, a number from 0.01 on, or 'default'"),
        ("--temperature -1", "--temperature -1: give 0"),
        ("--temperature inf", "--temperature inf: give 0"),
        ("--temperature 1e-45", "--temperature 1e-45: give 0"),
        ("--prices 1,nan", "--prices 1,nan: give two numbers of dollars, such as 2.5,10"),
        ("--prices 1,2,3", "--prices 1,2,3: give two"),
        ("--prices -1,2", "--prices -1,2: give two"),
        ("--chat-template-kwargs [1]", "--chat-template-kwargs [1]: give a JSON object"),
        ("--chat-template-kwargs {", "--chat-template-kwargs {{: give a JSON object"),
        ('--chat-template-kwargs {"a":1}', "--chat-template-kwargs: the template of a local model"),
        ("--views left,top", "{data}: no row has view 'top'; it holds center, left"),
    ],
)
def test_values_that_are_none(
    data_folder: Path, tmp_path: Path, in_process: Call, flags: str, line: str
) -> None:
    run = tmp_path / "run"
    words = f"evaluate --model baseline:silent --data {data_folder} --out {run} {flags}"
    status, out, err = in_process(words)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {line.format(data=data_folder)}")
    assert not run.exists()


def test_a_completion_whose_prompt_began_the_block_keeps_the_format(in_process: Call) -> None:
    text = "2:cyan</think><answer>2.color.cyan</answer>"
    code, out, _ = in_process(f"reward --truth 2.color.cyan --completion {text} --json")
    assert (code, json.loads(out)["format"]) == (0, 1.0)
