"""A predictions file indexed in parts is what reading it line by line finds, whatever is in it."""

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.evaluate.index import Index, build_index, read_part
from star_r1.evaluate.predictions import BrokenLines, read_completions, read_line

ROWS = {"a": 0, "b": 1, "c": 2}
LINES = st.sampled_from(
    [
        *(
            json.dumps({"id": id, "completion": "é" * n, "number": n}).encode()
            for id in "abz"
            for n in range(3)
        ),
        b'{"id": "c", "completion": "x"}',
        b'{"id": "c", "compl',
        b"",
        b"  ",
        b"[1]",
        b"\xff\x00",
        b"[" * 5000,
    ]
)


def index(path: Path, step: int) -> Index:
    size = path.stat().st_size
    parts = [read_part(path, n, min(n + step, size)) for n in range(0, size, step)]
    return build_index(path, parts, ROWS)


@given(st.lists(LINES, max_size=12), st.booleans(), st.integers(1, 400))
def test_parts_of_any_size_hold_what_the_file_does(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ended: bool, step: int
) -> None:
    path = tmp_path_factory.mktemp("index") / "p.jsonl"
    content = b"\n".join(lines) + b"\n" * ended
    path.write_bytes(content)
    found = index(path, step)
    if found.faults:
        with pytest.raises(BrokenLines) as error:
            read_completions(path, ROWS)
        assert found.faults == error.value.faults
        return
    read = read_completions(path, ROWS)
    assert found.counts.tolist() == [len(read.get(id, ())) for id in ROWS]
    texts = [read_line(content[start : start + size]) for start, size in found.spans.tolist()]
    assert texts == [one for id in ROWS for one in read.get(id, ())]


def test_of_two_lines_for_a_row_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    lines = [{"id": id, "completion": text} for id, text in (("b", "1"), ("a", "2"), ("b", "3"))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = index(path, 1000)
    assert found.faults == (f"{path}:3: id 'b' occurs a second time; predict a row once",)
    (_, (start, size)) = found.spans.tolist()
    assert b'"1"' in path.read_bytes()[start : start + size]
    assert found.counts.tolist() == [1, 1, 0]


def test_a_part_of_a_huge_line_reads_no_more_than_its_range(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"[1]\n" + b"x" * 10_000_000 + b"\n[2]\n")
    tracemalloc.start()
    inside = read_part(path, 5_000, 10_000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (inside.lines, len(inside.places)) == (0, 0)
    assert most < 1_000_000
    # Where the line before ends with the range, the next one is not of this part either.
    assert read_part(path, 0, 4).lines == 1
    assert read_part(path, 2, 4).lines == 0
    assert read_part(path, 4, 5).lines == 1
