import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from star_r1.data import intake
from star_r1.data.dataset import load, row_to_sample
from star_r1.data.intake import Flaw
from star_r1.data.pictures import read_pair
from star_r1.data.reason_rft import (
    import_reason_rft,
    parse_calls,
    parse_tuples,
    read_question,
    to_calls,
    to_tuples,
)
from star_r1.data.show import show
from star_r1.data.verify import verify
from star_r1.errors import UserError
from star_r1.report import gallery
from star_r1.tvr import Change, Object, replay
from star_r1.tvr.rules import touches
from star_r1.tvr.scene import UNKNOWN_RIG
from star_r1.tvr.vocabulary import ATTRIBUTES, N_OBJECTS, STANDARD

Json = dict[str, Any]
LOOKS = {name: st.sampled_from(STANDARD.values(name)) for name in ATTRIBUTES}
CHANGES = st.sampled_from(ATTRIBUTES).flatmap(
    lambda name: st.builds(Change, st.integers(0, 9), st.just(name), LOOKS[name])
)
LISTED = "[('0', 'cube', 'small', 'red', 'metal'), ('4', 'sphere', 'large', 'blue', 'glass')]"


def question(number: int = 12, answer: str = "change_color(4, cyan)", view: str = "C") -> Json:
    return {
        "id": f"train-{number}",
        "image": [f"img_{number:06d}-init.C.png", f"img_{number:06d}-fin.{view}.png"],
        "problem": f"The attributes of the initial objects ('object_id', ...) are {LISTED}.",
        "answer": answer,
        "cot": "First, I look at both images.",
    }


def write(folder: Path, rows: list[Json]) -> Path:
    """A file as Reason-RFT has it, with pictures of noise."""
    noise = np.random.default_rng(0)
    (folder / "image").mkdir(parents=True)
    for row in rows:
        for name in row["image"]:
            pixels = noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "image" / name)
    (folder / "train.json").write_text(json.dumps(rows))
    return folder / "train.json"


@given(st.lists(CHANGES, min_size=1, max_size=6))
def test_calls_are_read_back(changes: list[Change]) -> None:
    assert parse_calls(to_calls(changes)) == tuple(changes)


@given(
    st.lists(
        st.builds(Object, st.integers(0, 9), position=st.just((0, 0)), **LOOKS),
        min_size=1,
        unique_by=lambda o: o.index,
    )
)
def test_tuples_are_read_back(objects: list[Object]) -> None:
    assert parse_tuples(f"Of {to_tuples(objects)}: (what) changed?") == {
        thing.index: {name: thing.attribute(name) for name in ATTRIBUTES} for thing in objects
    }


@pytest.mark.parametrize(
    "text",
    [
        "change_color(3, cyan), change_size(0, small)",
        "change_color(3,cyan)change_size( 0 , 'small' )",
        '["change_color(3, \\"cyan\\")", "change_size(0, small)"]'.replace("\\", ""),
        "change_color(3, cyan)\n; change_size(0, small)\n",
    ],
)
def test_calls_may_be_spaced_and_quoted(text: str) -> None:
    assert parse_calls(text) == (Change(3, "color", "cyan"), Change(0, "size", "small"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "answer: names no change"),
        ("3.color.cyan", 'answer: "3.color.cyan" is not change_ATTRIBUTE(INDEX, VALUE)'),
        ("change_color(3, cyan), nothing else", 'answer: "nothing else" is not'),
        ("change_color(10, cyan)", "answer: object index 10 is not in 0-9"),
        ("change_color(3, pink)", "answer: color 'pink' is not one of gray"),
        ("change_colour(3, cyan)", "answer: attribute 'colour' is not one of"),
    ],
)
def test_calls_that_are_none(text: str, message: str) -> None:
    with pytest.raises(Flaw) as caught:
        parse_calls(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Which objects?",
            "problem: lists no objects as (object_id, shape, size, color, material)",
        ),
        ("(10, cube, small, red, metal)", "problem: object 10 is not in 0-9"),
        ("(1, cube, small, red, metal) (1, cube, small, red, metal)", "problem: object 1 is twice"),
        ("(1, cube, small, pink, metal)", "problem: object 1: color 'pink' is not one of"),
        ("(1, small, cube, red, metal)", "problem: object 1: shape 'small' is not one of"),
    ],
)
def test_lists_that_are_none(text: str, message: str) -> None:
    with pytest.raises(Flaw) as caught:
        parse_tuples(text)
    assert str(caught.value).startswith(message)


class TestReadQuestion:
    def test_row(self) -> None:
        read = read_question(question(view="L"))
        assert read is not None
        assert (read.number, read.view) == (12, "left")
        assert [thing.index for thing in read.initial.visible] == [0, 4]
        assert read.initial.objects[4].describe() == "large blue glass sphere"
        assert read.changes == (Change(4, "color", "cyan"),)

    def test_rows_for_rl_say_solution(self) -> None:
        row = question()
        row["solution"] = row.pop("answer")
        assert read_question(row) == read_question(question())

    def test_names_may_be_records_with_paths(self) -> None:
        row = question()
        row["image"] = [{"path": f"train/{name}"} for name in row["image"]]
        read = read_question(row)
        assert read is not None
        assert read.images[0] == "train/img_000012-init.C.png"

    def test_made_up_places_keep_every_size_apart(self) -> None:
        listed = [("0 1 2 3 4 5 6 7 8 9"), "5", "0 9"]
        for indices in listed:
            row = question(answer=f"change_size({indices[0]}, small)")
            row["problem"] = " ".join(
                f"({index}, cube, large, red, metal)" for index in indices.split()
            )
            read = read_question(row)
            assert read is not None
            assert {str(thing.index) for thing in read.initial.visible} == set(indices.split())
            everywhere = replay(
                read.initial, [Change(index, "size", "large") for index in range(N_OBJECTS)]
            )
            assert not any(touches(everywhere, index) for index in range(N_OBJECTS))

    @pytest.mark.parametrize(
        "answer",
        [
            "change_position(4, front_left)",
            "change_color(0, blue), change_position(4, left)",
            "change_color(0, blue), change_color(0, red)",
        ],
    )
    def test_of_another_kind(self, answer: str) -> None:
        assert read_question(question(answer=answer)) is None

    def test_changed_twice_counts_once(self) -> None:
        read = read_question(question(answer="change_color(0, blue), change_color(0, cyan)"))
        assert read is not None
        assert read.changes == (Change(0, "color", "cyan"),)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda row: row.pop("problem"), "problem: null is not text"),
            (lambda row: row.pop("answer"), "answer: null is not text"),
            (lambda row: row.update(answer=["a"]), 'answer: ["a"] is not text'),
            (lambda row: row["image"].pop(), 'image: ["img_000012-init.C.png"] is not a list of'),
            (
                lambda row: row.update(image=[None, 3]),
                "image[0]: null is not the name of a picture",
            ),
            (lambda row: row["image"].__setitem__(0, "../a.png"), 'image[0]: "../a.png" leads out'),
            (lambda row: row["image"].__setitem__(1, "a.png"), "image[1]: a.png does not tell the"),
            (lambda row: row.update(problem="?"), "problem: lists no objects"),
            (
                lambda row: row.update(answer="change_color(1, cyan)"),
                "answer: object 1 is not in the problem",
            ),
        ],
    )
    def test_flaws(self, change: Callable[[Json], object], message: str) -> None:
        row = question()
        change(row)
        with pytest.raises(Flaw) as caught:
            read_question(row)
        assert str(caught.value).startswith(message)

    @pytest.mark.parametrize("row", [None, 3, [], "row"])
    def test_no_row(self, row: Any) -> None:
        with pytest.raises(Flaw, match="row: "):
            read_question(row)


class TestImport:
    def test_rows_in_which_nothing_moves(self, tmp_path: Path) -> None:
        source = write(
            tmp_path / "rft",
            [question(1), question(2, "change_position(4, left)"), question(3, view="R")],
        )
        out = tmp_path / "out"
        found = import_reason_rft(source, out)
        assert (found.samples, found.rows, found.left_out, found.faulty) == (2, 2, 1, 0)
        rows = list(load(out))
        assert [row["id"] for row in rows] == ["000001-center", "000003-right"]
        assert [row["answer"] for row in rows] == ["4.color.cyan"] * 2
        assert "4: large blue glass sphere" in rows[0]["prompt"][1]["content"][2]["text"]
        with Image.open(tmp_path / "rft" / "image" / "img_000003-fin.R.png") as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(read_pair(rows[1])[1]))
        assert row_to_sample(rows[1]).rig == UNKNOWN_RIG
        problems: list[str] = []
        verify(out, problems.append)
        assert problems == []
        card = (out / "README.md").read_text()
        for words in (
            "license: cc-by-nc-4.0",
            "made up",
            "tan2025reason",
            "hong2021transformation",
        ):
            assert words in card

    def test_no_label_is_put_where_nobody_knows(self, tmp_path: Path) -> None:
        source = write(tmp_path / "rft", [question(1)])
        import_reason_rft(source, tmp_path / "out")
        show(tmp_path / "out", "000001-center", tmp_path / "pair.png")
        row = load(tmp_path / "out")[0]
        for picture in gallery.show(row_to_sample(row), row):
            assert picture.labels == ()

    def test_the_pictures_may_lie_elsewhere(self, tmp_path: Path) -> None:
        source = write(tmp_path / "rft", [question(1)])
        shutil.move(tmp_path / "rft" / "image", tmp_path / "train_images")
        with pytest.raises(UserError, match="a sample has a fault"):
            import_reason_rft(source, tmp_path / "out")
        found = import_reason_rft(source, tmp_path / "out", tmp_path / "train_images")
        assert found.rows == 1

    @pytest.mark.parametrize(
        ("rows", "line"),
        [
            (
                [question(1), question(1)],
                "train.json[1]: sample train-1: image[1]: img_000001-fin.C",
            ),
            ([question(1), question(2, "?")], "train.json[1]: sample train-2: answer: "),
            ([question(1), "row"], "train.json[1]: row: "),
        ],
    )
    def test_faults(
        self,
        rows: list[Json],
        line: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        source = write(tmp_path / "rft", [row for row in rows if isinstance(row, dict)])
        source.write_text(json.dumps(rows))
        with pytest.raises(UserError, match="a sample has a fault, named above"):
            import_reason_rft(source, tmp_path / "out")
        assert capsys.readouterr().err.startswith(line)
        assert import_reason_rft(source, tmp_path / "out", skip=True).rows == 1

    def test_damaged_pictures(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = write(tmp_path / "rft", [question(1), question(2)])
        picture = tmp_path / "rft" / "image" / "img_000002-fin.C.png"
        picture.write_bytes(picture.read_bytes()[:200])
        with pytest.raises(UserError):
            import_reason_rft(source, tmp_path / "out")
        err = capsys.readouterr().err
        assert err == "train.json: sample train-2: image/img_000002-fin.C.png: is cut off\n"
        assert import_reason_rft(source, tmp_path / "out", skip=True).rows == 1

    def test_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(intake, "SHARD_SAMPLES", 2)
        source = write(tmp_path / "rft", [question(n) for n in range(3)])
        out = tmp_path / "out"
        import_reason_rft(source, out)
        last = out / "data" / "train-00001-of-00002.parquet"
        whole = last.read_bytes()
        last.unlink()
        import_reason_rft(source, out)
        assert last.read_bytes() == whole

    @pytest.mark.parametrize(
        ("rows", "options", "message"),
        [
            (
                [question(2, "change_position(4, left)")],
                {},
                "in none of its 1 rows does everything",
            ),
            ([question(1)], {"split": "a b"}, "split 'a b': use letters"),
            ([question(1)], {"workers": 0}, "workers 0: give"),
        ],
    )
    def test_mistakes(
        self, rows: list[Json], options: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        source = write(tmp_path / "rft", rows)
        with pytest.raises(UserError) as caught:
            import_reason_rft(source, tmp_path / "out", **options)
        assert message in str(caught.value)
        with pytest.raises(UserError, match="no such file"):
            import_reason_rft(tmp_path / "rft" / "test.json", tmp_path / "out")
        with pytest.raises(UserError, match="neither"):
            import_reason_rft(next((tmp_path / "rft" / "image").iterdir()), tmp_path / "out")
