"""The folder of a run: what a killed process leaves, and what is held of what is there."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from star_r1.errors import UserError
from star_r1.evaluate.journal import Journal, Written, add_up, open_journal
from star_r1.evaluate.predictions import BrokenLines, Completion, read_completions

KEYS = {"a": "k", "b": "k", "c": "k"}


def line(id: str, text: str = "x", number: int = 0, **more: Any) -> str:
    return Completion(id, text, number, key="k", **more).to_json() + "\n"


def failed(id: str, number: int = 0, error: str = "no") -> str:
    return line(id, "", number, status="failed", error=error)


def opened(folder: Path, content: str | bytes, **about: Any) -> Journal:
    data = content.encode() if isinstance(content, str) else content
    (folder / "predictions.jsonl").write_bytes(data)
    (folder / "run.json").write_text(json.dumps({"identity": {}, **about}))
    return open_journal(folder, {}, {}, KEYS)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("", ""),
        (line("a") + line("b"), line("a") + line("b")),
        (line("a") + line("b")[:-1], line("a")),
        (line("a") + line("b")[:9], line("a")),
        (line("b")[:9], ""),
        (line("a", "x" * 200_000) + line("b", "x" * 200_000)[:-1], line("a", "x" * 200_000)),
        (failed("a") + line("a"), line("a")),
        (failed("a") + line("b") + failed("a", error="2"), line("b") + failed("a", error="2")),
        (failed("a") + line("a", number=1) + line("b"),) * 2,
        (failed("a", 1) + line("a") + line("a", number=1), line("a") + line("a", number=1)),
        (line("a", '"status": "failed"') + line("b"),) * 2,
    ],
)
def test_one_whole_line_for_each_completion(tmp_path: Path, content: str, kept: str) -> None:
    opened(tmp_path, content)
    assert (tmp_path / "predictions.jsonl").read_text() == kept
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.jsonl", "run.json"}


def test_what_is_there(tmp_path: Path) -> None:
    content = line("a", number=1) + line("a") + failed("b") + line("b", number=2)
    journal = opened(tmp_path, content, left_out=["seed"])
    assert journal.answered == {"a": (1, 0), "b": (2,)}
    assert journal.failed == {"b"}
    assert journal.left_out == {"seed"}
    journal.note({"temperature"})
    assert json.loads((tmp_path / "run.json").read_text()) == {
        "identity": {},
        "left_out": ["seed", "temperature"],
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}\n" + line("a"), "predictions.jsonl:1: no field 'id'"),
        (line("a") + "\n" + line("a"), "predictions.jsonl:3: id 'a' occurs a second time"),
        (line("d"), "answers to rows that are left out now, such as 'd'"),
        (line("a").replace('"k"', '"q"'), "the answer to 'a' was given to another prompt"),
        (b"\xff\n", "predictions.jsonl:1: not JSON"),
    ],
)
def test_answers_that_are_none_of_this_run(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(UserError) as raised:
        opened(tmp_path, content)
    assert says in str(raised.value)


def test_answers_are_read_by_id_and_number(tmp_path: Path) -> None:
    lines = [line(id, f"{id}{n}", n) for id in "abcde" for n in range(3)]
    random.Random(0).shuffle(lines)
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(lines))
    with path.open("rb", buffering=0) as file:
        written = Written(path, file, "zebdac")
        assert {id: list(of) for id, of in written.items()} == read_completions(path)
        assert len(written) == 5
        assert written.get("z", ()) == ()
    path.write_text("".join([*lines, lines[0]]))
    with path.open("rb", buffering=0) as file, pytest.raises(BrokenLines):
        Written(path, file, "abcde")


def test_totals(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    lines = [line("a", prompt_tokens=3, completion_tokens=1), failed("b"), failed("c")]
    path.write_text("".join(lines))
    totals = add_up(path)
    assert (totals.prompt_tokens, totals.completion_tokens) == (3, 1)
    assert totals.statuses == {"answered": 1, "failed": 2}
    assert totals.errors == {"no": 2}
