"""What is asked of rows, which rows cannot be asked, and what a key depends on."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_r1.data.dataset import load, shards
from star_r1.errors import UserError
from star_r1.evaluate.examples import choose_examples
from star_r1.evaluate.questions import Rows, ask, fingerprint, make_keys


@pytest.fixture
def change(data_folder: Path, tmp_path: Path) -> Callable[[Callable[[Any], Any]], Path]:
    """A copy of the data after something was done to its rows."""

    def write(edit: Callable[[Any], Any]) -> Path:
        (path,) = shards(data_folder)
        table = pq.read_table(path)
        rows = table.to_pylist()
        edit(rows)
        folder = tmp_path / "changed"
        (folder / "data").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / "data" / path.name)
        return folder

    return write


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (
            lambda row: row["images"][0].update(bytes=None, path="a.png"),
            "its initial picture is not in the file",
        ),
        (lambda row: row["images"].pop(), "has 1 pictures, not two"),
        (lambda row: row.update(images=None), "has no pictures, not two"),
        (lambda row: row["images"][1].update(bytes=b"text"), "picture is neither PNG nor JPEG"),
    ],
)
def test_a_damaged_row_is_named(
    change: Callable[..., Path], edit: Callable[[Any], Any], fault: str
) -> None:
    rows = load(change(lambda rows: edit(rows[3])))
    with pytest.raises(UserError, match=f"row '{rows['id'][3]}': .*{fault}"):
        fingerprint(rows)


def spoil(image: dict[str, Any]) -> None:
    """Damage what is compressed, and leave the head and the end of the file."""
    content = image["bytes"]
    image["bytes"] = content[:100] + bytes(400) + content[500:]


def test_a_picture_that_does_not_decode_is_named(change: Callable[..., Path]) -> None:
    rows = load(change(lambda rows: spoil(rows[4]["images"][0])))
    *_, question = islice(ask(rows, make_keys(fingerprint(rows), {})), 5)
    with pytest.raises(UserError, match=rf"row '{question.id}': its initial picture is damaged"):
        question.see()


def swap(rows: list[dict[str, Any]]) -> None:
    """Each row gets its pictures in the other order."""
    for row in rows:
        row["images"].reverse()


def test_other_pictures_are_another_question(
    data_folder: Path, change: Callable[..., Path]
) -> None:
    before, now = fingerprint(load(data_folder)), fingerprint(load(change(swap)))
    assert list(before) == list(now)
    assert not set(before.values()) & set(now.values())


def test_another_wording_is_another_question(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that is in no row is built by this code, which may change under a run."""
    rows = load(data_folder)
    before = {name: fingerprint(rows, name) for name in ("think", "direct")}
    monkeypatch.setattr("star_r1.tvr.prompt._DIRECT", "List them inside <answer></answer>.\n")
    from star_r1.tvr.prompt import build_instruction

    build_instruction.cache_clear()
    now = {name: fingerprint(rows, name) for name in ("think", "direct")}
    monkeypatch.undo()
    build_instruction.cache_clear()
    assert now["think"] == before["think"]
    assert not set(now["direct"].values()) & set(before["direct"].values())


def test_other_examples_of_the_same_ids_are_another_question(
    data_folder: Path, change: Callable[..., Path]
) -> None:
    rows = load(data_folder).select(range(4))
    shown, others = choose_examples(data_folder, 2), choose_examples(change(swap), 2)
    assert [row["id"] for row in shown] == [row["id"] for row in others]
    prints = [fingerprint(rows, examples=of) for of in ([], shown, others)]
    assert len({of[rows["id"][0]] for of in prints}) == 3


@pytest.mark.parametrize("limit", [None, 3, 100])
@pytest.mark.parametrize("views", [None, ["left"], ["left", "center"]])
def test_rows_are_those_of_the_dataset(
    data_folder: Path, views: list[str] | None, limit: int | None
) -> None:
    rows = Rows(data_folder, views, limit)
    expected = list(load(data_folder, views))[:limit]
    assert len(rows) == len(expected)
    for _ in range(2):  # they can be gone through again
        assert [row["id"] for row in rows] == [row["id"] for row in expected]
    assert fingerprint(rows) == fingerprint(expected)
    assert [row["id"] for row in rows.without_pictures()] == [row["id"] for row in expected]


def test_questions_are_made_when_they_are_asked(data_folder: Path) -> None:
    """What is asked holds nothing of what comes after it."""
    seen: list[str] = []

    def rows() -> Iterator[Any]:
        for row in Rows(data_folder):
            seen.append(row["id"])
            yield row

    questions = ask(rows(), dict.fromkeys((row["id"] for row in Rows(data_folder)), ""))
    assert not seen
    first, second = next(questions), next(questions)
    assert seen == [first.id, second.id]
    assert len(first.see()) == 2
