import copy
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from star_r1.cli import main
from star_r1.data import intake
from star_r1.data.dataset import load, read_columns, row_to_sample
from star_r1.data.intake import Flaw, Imported
from star_r1.data.pictures import read_pair
from star_r1.data.show import show
from star_r1.data.trance import import_trance
from star_r1.data.trance_format import Entry, read_entry, to_entry
from star_r1.data.verify import verify
from star_r1.errors import UserError
from star_r1.trance_metrics import score_trance
from star_r1.tvr import (
    STANDARD_RIG,
    TRANCE,
    Answer,
    Change,
    Sample,
    format_changes,
    parse_answer,
)

REAL = Path(__file__).parents[3] / "shared" / "trance_sample"
ALL = TRANCE.attributes
SIZE = (16, 12)
Json = dict[str, Any]

# As published: object 3 becomes cyan; object 1 leaves to the right; object 9 comes in.
STEPS: list[Json] = [
    {"obj_idx": 3, "attr": "color", "val": "cyan", "options": ["cyan"]},
    {
        "obj_idx": 1,
        "attr": "position",
        "val": ["right", 2],
        "options": [[f"{way}right", n] for way in ("", "front-", "behind-") for n in (1, 2)],
        "type": "out",
    },
    {"obj_idx": 9, "attr": "position", "val": ["left", 2], "options": [["left", 2]], "type": "in"},
]


def state(places: dict[int, list[int]], colors: dict[int, str]) -> Json:
    look = {"material": "metal", "shape": "cube", "size": "small"}
    cells = [[-18 + 4 * (index % 2), 4 * index - 18] for index in range(9)] + [[5, 38]]
    return {
        "objects": [
            {"color": colors.get(index, "red"), **look, "position": places.get(index, cells[index])}
            for index in range(10)
        ]
    }


def entry(index: int = 7) -> Json:
    """A line of ``data.jsonl``."""
    first, last = state({1: [0, 15]}, {}), state({1: [0, 35], 9: [5, 18]}, {3: "cyan"})
    first["images"] = {"Camera_Center": f"img_{index:06d}-init.C.png"}
    last["images"] = {
        f"Camera_{view}": f"img_{index:06d}-fin.{view[0]}.png"
        for view in ("Left", "Right", "Center")
    }
    return {"idx": index, "states": [first, last], "transformations": copy.deepcopy(STEPS)}


def recolored(index: int, *colors: str) -> Json:
    """A sample in which nothing but the color of object 2 changes, step by step."""
    line = entry(index)
    images = line["states"][1]["images"]
    line["states"][1] = {**state({1: [0, 15]}, {2: colors[-1]}), "images": images}
    line["transformations"] = [
        {"obj_idx": 2, "attr": "color", "val": color, "options": [color]} for color in colors
    ]
    return line


def write(folder: Path, lines: list[Json], name: str = "data.jsonl") -> Path:
    """TRANCE as it is published, with pictures of noise."""
    noise = np.random.default_rng(0)
    (folder / "image").mkdir(parents=True)
    text = (
        json.dumps(lines)
        if name.endswith(".json")
        else "".join(json.dumps(x) + "\n" for x in lines)
    )
    (folder / name).write_text(text)
    for line in lines:
        for image in (
            *line["states"][0]["images"].values(),
            *line["states"][-1]["images"].values(),
        ):
            pixels = noise.integers(0, 256, (SIZE[1], SIZE[0], 4), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "image" / image)
    return folder


LINES = [entry(0), recolored(1, "blue"), recolored(2, "blue", "gray"), recolored(3, "blue", "red")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "trance", LINES)


def columns(folder: Path, *names: str) -> list[Any]:
    rows = list(read_columns(folder, names))
    return [row[names[0]] for row in rows] if len(names) == 1 else rows


def problems(folder: Path) -> list[str]:
    found: list[str] = []
    verify(folder, found.append)
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestReadEntry:
    def test_as_published(self) -> None:
        read = read_entry(entry())
        assert read.index == 7
        assert [str(change) for change in read.changes] == [
            "3.color.cyan",
            "1.position.right.2",
            "9.position.left.2",
        ]
        out = read.changes[1]
        assert out.accepts(Change(1, "position", "front-right.1"))
        assert not read.changes[2].options
        assert read.initial.vocabulary == TRANCE
        assert read.initial.objects[9].position == (5, 38)
        assert read.images["left"] == "img_000007-fin.L.png"
        assert read.images["initial"] == "img_000007-init.C.png"
        assert read.rig is None

    def test_what_we_write(self) -> None:
        read = read_entry(entry())
        sample = Sample("7-center", read.initial, read.changes)
        for renderable in (False, True):
            line = to_entry(7, sample, ("center", "left", "right"), renderable)
            again = read_entry(json.loads(json.dumps(line)))
            assert again == Entry(
                7, read.initial, read.changes, read.images, STANDARD_RIG if renderable else None
            )
            assert [c.options for c in again.changes] == [c.options for c in read.changes]
            assert len(line["states"]) == (4 if renderable else 2)
        plain = to_entry(7, sample, ("left", "right", "center"), False)
        expected = entry()
        options = plain["transformations"][1]["options"]
        assert sorted(options) == sorted(expected["transformations"][1]["options"])
        expected["transformations"][1]["options"] = options
        assert json.loads(json.dumps(plain)) == expected

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda e: e.pop("idx"), "idx: is missing"),
            (lambda e: e.update(idx="7"), 'idx: "7" is not a whole number'),
            (lambda e: e.update(idx=True), "idx: true is not a whole number"),
            (lambda e: e.update(idx=-1), "idx: -1 is not in 0-"),
            (lambda e: e.update(states={}), "states: {} is not a list"),
            (lambda e: e["states"].append(e["states"][1]), "states: 3 of them, not 2 or 4"),
            (lambda e: e.update(transformations=[]), "transformations: there is none"),
            (lambda e: objects(e).pop(), "states[0].objects: 9 of them, not 10"),
            (lambda e: objects(e)[4].pop("size"), "states[0].objects[4].size: null is not one of"),
            (
                lambda e: objects(e)[4].update(color="pink"),
                'states[0].objects[4].color: "pink" is not one of gray, red',
            ),
            (
                lambda e: objects(e)[4].update(position=[41, 0]),
                "states[0].objects[4]: position (41, 0) is off the table",
            ),
            (
                lambda e: objects(e)[4].update(position=[1.0, 0]),
                "states[0].objects[4].position: [1.0, 0] is not two whole numbers",
            ),
            (
                lambda e: objects(e)[4].update(rotation="no"),
                'states[0].objects[4].rotation: "no" is not a number',
            ),
            (
                lambda e: objects(e)[4].update(rotation=10**400),
                "states[0].objects[4]: int too large",
            ),
            (lambda e: step(e, 0, obj_idx=10), "transformations[0].obj_idx: 10 is not in 0-9"),
            (lambda e: step(e, 0, obj_idx=-1), "transformations[0].obj_idx: -1 is not in 0-9"),
            (lambda e: step(e, 0, attr="colour"), 'transformations[0].attr: "colour" is not one'),
            (lambda e: step(e, 0, val="pink"), 'transformations[0].val: "pink" is not one of gray'),
            (lambda e: step(e, 0, val=["cyan"]), 'transformations[0].val: ["cyan"] is not one of'),
            (lambda e: step(e, 1, val=["up", 1]), 'transformations[1].val: ["up", 1] is not one'),
            (lambda e: step(e, 1, val=["right", 3]), "transformations[1].val: "),
            (lambda e: step(e, 1, val=["right", True]), "transformations[1].val: "),
            (lambda e: step(e, 0, options=[]), "transformations[0].options: are none; as good as"),
            (lambda e: step(e, 0, options=["cyan", "blue"]), "transformations[0].options: are cy"),
            (lambda e: step(e, 0, options="cyan"), 'transformations[0].options: "cyan" is not a l'),
            (lambda e: step(e, 0, options=["pink"]), "transformations[0].options[0]: "),
            (
                lambda e: step(e, 1, options=[["right", 2]]),
                "transformations[1].options: are right.2",
            ),
            (
                lambda e: step(e, 1, type="inner"),
                "transformations[1].type: \"inner\", but the move is 'out'",
            ),
            (
                lambda e: step(e, 2, obj_idx=9, val=["right", 1], options=[["right", 1]]),
                "transformations[2].val: position (5, 48) is off the table",
            ),
            (
                lambda e: step(e, 2, val=["left", 1], options=[["left", 1]]),
                "transformations[2].val: left.1 moves from (5, 38), hidden, to a hidden place",
            ),
            (
                lambda e: objects(e, 1)[3].update(color="blue"),
                "states[1].objects[3].color: blue, but the transformations give cyan",
            ),
            (
                lambda e: objects(e, 1)[0].update(position=[0, 30]),
                "states[1].objects[0].position: (0, 30), but the transformations give (-18, -18)",
            ),
            (
                lambda e: e["states"][0].pop("images"),
                "states[0].images: is missing",
            ),
            (
                lambda e: e["states"][0]["images"].update(Camera_Center="../data.jsonl"),
                'states[0].images.Camera_Center: "../data.jsonl" leads out of the folder',
            ),
            (
                lambda e: e["states"][0]["images"].update(Camera_Center="/etc/hostname"),
                "states[0].images.Camera_Center: ",
            ),
            (lambda e: e["states"][0].update(images={}), "states[0].images.Camera_Center: null is"),
            (
                lambda e: e["states"][0]["images"].update(Camera_Center="img_000007-fin.C.png"),
                "states[1].images.Camera_Center: img_000007-fin.C.png is another picture",
            ),
            (lambda e: e.update(cameras={}, lamps={}), "cameras, lamps: not a rig"),
            (lambda e: e.update(lamps={}), "cameras: is missing"),
        ],
    )
    def test_flaws(self, change: Callable[[Json], object], message: str) -> None:
        line = entry()
        change(line)
        with pytest.raises(Flaw) as caught:
            read_entry(line)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("line", [None, [], 3, "idx", {}])
    def test_no_entry(self, line: Any) -> None:
        with pytest.raises(Flaw):
            read_entry(line)

    def test_scenes_in_between_are_compared(self) -> None:
        read = read_entry(entry())
        line = to_entry(7, Sample("7-center", read.initial, read.changes), ("center",), True)
        line["states"][2]["objects"][3]["color"] = "blue"
        with pytest.raises(Flaw, match=r"states\[2\].objects\[3\].color: blue, but"):
            read_entry(json.loads(json.dumps(line)))


def objects(line: Json, place: int = 0) -> list[Json]:
    found: list[Json] = line["states"][place]["objects"]
    return found


def step(line: Json, n: int, **fields: Any) -> None:
    line["transformations"][n].update(fields)


class TestImport:
    def test_without_moves_changes_are_a_set(self, source: Path, tmp_path: Path) -> None:
        # Sample 0 has moves, and 3 ends as it began.
        assert import_trance(source, tmp_path / "out") == Imported(2, 6, 0, "000001-center", 2)
        out = tmp_path / "out"
        views = ("center", "left", "right")
        assert columns(out, "id") == [f"{n:06d}-{view}" for n in (1, 2) for view in views]
        assert columns(out, "answer") == ["2.color.blue"] * 3 + ["2.color.gray"] * 3
        assert problems(out) == []
        sample = row_to_sample(load(out)[0])
        assert sample.vocabulary.attributes == ("color", "shape", "size", "material")
        assert sample.rig == STANDARD_RIG
        assert set(columns(out, "pixels")) == {"{}"}

    def test_all_of_it(self, source: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        found = import_trance(source, out, ALL, ("left",), indices=(0, 2), split="tiny")
        assert (found.samples, found.rows, found.left_out) == (3, 3, 0)
        assert [path.name for path in (out / "data").iterdir()] == ["tiny-00000-of-00001.parquet"]
        first, _, third = (row_to_sample(row) for row in load(out))
        assert (
            format_changes(first.changes) == "3.color.cyan, 1.position.right.2, 9.position.left.2"
        )
        assert len(first.changes[1].options) == 6
        assert format_changes(third.changes) == "2.color.blue, 2.color.gray"
        assert problems(out) == []

    def test_pictures_lose_their_alpha_alone(self, source: Path, tmp_path: Path) -> None:
        import_trance(source, tmp_path / "out", views=("right",))
        images = read_pair(load(tmp_path / "out")[0])
        for image, name in zip(images, ("init.C", "fin.R"), strict=True):
            with Image.open(source / "image" / f"img_000001-{name}.png") as published:
                expected = np.asarray(published)[..., :3]
            assert image.mode == "RGB"
            assert np.array_equal(np.asarray(image), expected)

    def test_the_card_says_whose_data_it_is(self, source: Path, tmp_path: Path) -> None:
        import_trance(source, tmp_path / "out")
        card = (tmp_path / "out" / "README.md").read_text()
        for words in (
            "license: cc-by-nc-4.0",
            "hong2021transformation",
            "nominal",
            "as in STAR-R1",
        ):
            assert words in card

    def test_a_renderable_file_is_preferred(self, source: Path, tmp_path: Path) -> None:
        read = read_entry(LINES[0])
        moved = {name: (x, y + 0.1, z) for name, (x, y, z) in STANDARD_RIG.cameras.items()}
        rig = type(STANDARD_RIG)(moved, STANDARD_RIG.lamps)
        sample = Sample("0-center", read.initial, read.changes, rig=rig)
        line = to_entry(0, sample, ("center", "left", "right"), True)
        (source / "data_renderable.jsonl").write_text(json.dumps(line) + "\n")
        import_trance(source, tmp_path / "out", ALL)
        rows = list(load(tmp_path / "out"))
        assert row_to_sample(rows[1]).rig == rig
        pixels = json.loads(rows[1]["pixels"])
        assert set(pixels["initial"]) == set("012345678")
        assert set(pixels["final"]) == set("023456789")
        assert "nominal" not in (tmp_path / "out" / "README.md").read_text()

    @pytest.mark.parametrize("name", ["data.json", "renamed.jsonl"])
    def test_a_list_and_a_file_by_name(self, tmp_path: Path, name: str) -> None:
        source = write(tmp_path / "trance", LINES, name)
        import_trance(source / name, tmp_path / "out")
        plain = write(tmp_path / "plain", LINES)
        import_trance(plain, tmp_path / "plain_out")
        assert list(load(tmp_path / "out")) == list(load(tmp_path / "plain_out"))

    def test_pictures_of_others_need_not_be_there(self, source: Path, tmp_path: Path) -> None:
        for picture in (source / "image").glob("img_000000-*"):
            picture.unlink()
        assert import_trance(source, tmp_path / "out").samples == 2

    def test_blank_lines_do_not_count(self, source: Path, tmp_path: Path) -> None:
        text = (source / "data.jsonl").read_text()
        (source / "data.jsonl").write_text("\n" + text.replace("\n", "\n \n").rstrip())
        assert import_trance(source, tmp_path / "out", ALL).samples == 4

    def test_splits_are_those_of_trance(self, source: Path, tmp_path: Path) -> None:
        lines = [recolored(499_999, "blue"), recolored(500_000, "blue"), recolored(529_999, "blue")]
        shutil.rmtree(source)
        write(source, lines)
        for split, line in zip(("train", "val", "test"), lines, strict=True):
            import_trance(source, tmp_path / split, split=split, views=("center",))
            assert columns(tmp_path / split, "id") == [f"{line['idx']:06d}-center"]

    def test_workers_leave_no_trace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = write(tmp_path / "trance", [recolored(n, "blue") for n in range(5)])
        import_trance(source, tmp_path / "one", ALL)
        monkeypatch.setattr(intake, "SHARD_SAMPLES", 2)
        for workers in (1, 2):
            import_trance(source, tmp_path / str(workers), ALL, workers=workers)
        assert files(tmp_path / "1") == files(tmp_path / "2")
        assert list(load(tmp_path / "1")) == list(load(tmp_path / "one"))

    def test_an_interrupted_import_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(intake, "SHARD_SAMPLES", 2)
        source = write(tmp_path / "trance", [recolored(n, "blue") for n in range(5)])
        out = tmp_path / "out"
        import_trance(source, out)
        whole = files(out)
        written: list[Path] = []

        def interrupt(path: Path, content: bytes | str) -> None:
            written.append(path)
            if path.suffix == ".parquet" and len(written) == 3:
                raise KeyboardInterrupt
            really(path, content)

        really = intake.write_atomic
        again = tmp_path / "again"
        monkeypatch.setattr(intake, "write_atomic", interrupt)
        with pytest.raises(KeyboardInterrupt):
            import_trance(source, again)
        assert len(list((again / "data").iterdir())) == 1
        monkeypatch.setattr(intake, "write_atomic", really)
        kept = (again / "data" / "train-00000-of-00003.parquet").stat().st_mtime_ns
        import_trance(source, again)
        assert (again / "data" / "train-00000-of-00003.parquet").stat().st_mtime_ns == kept
        assert files(again) == whole
        import_trance(source, again)
        assert files(again) == whole

    def test_mended_samples_come_in(self, source: Path, tmp_path: Path) -> None:
        out, picture = tmp_path / "out", source / "image" / "img_000001-fin.L.png"
        whole = picture.read_bytes()
        picture.write_bytes(whole[:100])
        assert import_trance(source, out, skip=True).faulty == 1
        assert len(columns(out, "id")) == 3
        assert (out / "faults.jsonl").exists()
        picture.write_bytes(whole)
        assert import_trance(source, out).faulty == 0
        assert len(columns(out, "id")) == 6
        assert not (out / "faults.jsonl").exists()

    def test_a_shard_may_lose_all_of_its_samples(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(intake, "SHARD_SAMPLES", 1)
        (source / "image" / "img_000001-init.C.png").unlink()
        found = import_trance(source, tmp_path / "out", skip=True)
        assert (found.samples, found.faulty, found.first) == (1, 1, "000002-center")
        assert [row["id"] for row in load(tmp_path / "out", ["left"])] == ["000002-left"]
        assert problems(tmp_path / "out") == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))


def resize(path: Path) -> None:
    Image.new("RGB", (20, 10)).save(path, "PNG")


def change_line(number: int, **fields: Any) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        lines = (source / "data.jsonl").read_text().splitlines()
        lines[number - 1] = json.dumps({**json.loads(lines[number - 1]), **fields})
        (source / "data.jsonl").write_text("\n".join(lines) + "\n")

    return change


def break_line(source: Path) -> None:
    text = (source / "data.jsonl").read_text()
    (source / "data.jsonl").write_text(text.replace('{"idx": 2, ', '{"idx": 2 '))


def image(name: str, change: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda source: change(source / "image" / name)


def unknown_color(source: Path) -> None:
    line = recolored(2, "blue", "gray")
    line["transformations"][1]["val"] = "pink"
    change_line(3, **line)(source)


def index_out_of_range(source: Path) -> None:
    line = recolored(2, "blue", "gray")
    line["transformations"][1]["obj_idx"] = 10
    change_line(3, **line)(source)


def share_a_picture(source: Path) -> None:
    line, other = recolored(2, "blue"), recolored(3, "blue")
    for sample in (line, other):
        sample["states"][1]["images"]["Camera_Center"] = "final.png"
    shutil.copy(source / "image" / "img_000002-fin.C.png", source / "image" / "final.png")
    change_line(3, **line)(source)
    change_line(4, **other)(source)


def take_another_ones_picture(source: Path) -> None:
    line = recolored(2, "blue")
    line["states"][1]["images"]["Camera_Center"] = "img_000001-fin.C.png"
    change_line(3, **line)(source)


def lose_a_view(source: Path) -> None:
    line = recolored(2, "blue")
    del line["states"][1]["images"]["Camera_Left"]
    change_line(3, **line)(source)


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (break_line, "data.jsonl:3: line: is not JSON: Expecting ',' delimiter, column 11"),
    (unknown_color, 'data.jsonl:3: sample 2: transformations[1].val: "pink" is not one of gray'),
    (
        index_out_of_range,
        "data.jsonl:3: sample 2: transformations[1].obj_idx: 10 is not in 0-9",
    ),
    (change_line(3, idx=1), "data.jsonl:3: sample 1: idx: 1 is that of a sample before it"),
    (share_a_picture, "data.jsonl:4: sample 3: images: final.png is a picture of sample 2"),
    (
        take_another_ones_picture,
        "data.jsonl:3: sample 2: images: img_000001-fin.C.png is a picture of sample 1",
    ),
    (lose_a_view, "data.jsonl:3: sample 2: states[-1].images: has no Camera_Left"),
    (
        image("img_000002-fin.L.png", Path.unlink),
        "data.jsonl:3: sample 2: image/img_000002-fin.L.png: is missing",
    ),
    (
        image("img_000002-fin.L.png", cut),
        "data.jsonl: sample 2: image/img_000002-fin.L.png: is cut off",
    ),
    (
        image("img_000002-init.C.png", flip),
        "data.jsonl: sample 2: image/img_000002-init.C.png: is damaged (broken PNG file",
    ),
    (
        image("img_000002-fin.R.png", lambda path: path.write_text("no picture")),
        "data.jsonl: sample 2: image/img_000002-fin.R.png: is no PNG file",
    ),
    (
        image("img_000002-fin.R.png", lambda path: Image.new("L", SIZE).save(path)),
        "data.jsonl: sample 2: image/img_000002-fin.R.png: has mode L, not RGB or RGBA",
    ),
    (
        image("img_000002-fin.R.png", resize),
        "data.jsonl: sample 2: images: img_000002-init.C.png is 16x12, "
        "img_000002-fin.R.png is 20x10",
    ),
]


SPECIAL: list[tuple[Callable[[Path], None], str]] = [
    (os.mkfifo, "is missing"),
    (Path.mkdir, "is missing"),
    (lambda path: path.symlink_to("/dev/zero"), "is "),
    (lambda path: path.symlink_to(path), "is missing"),
    (lambda path: path.symlink_to(path.parents[1] / "mine.png"), "is a link that leads out of"),
]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("make", "what"), SPECIAL)
def test_what_is_no_plain_file_is_a_fault(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    what: str,
    skip: bool,
) -> None:
    path = source / "image" / "img_000002-fin.R.png"
    path.rename(source / "mine.png")
    make(path)
    with suppress(UserError):
        assert import_trance(source, tmp_path / "out", skip=skip).faulty == 1
    said = capsys.readouterr().err
    assert "sample 2: image/img_000002-fin.R.png: " in said
    assert what in said or "cannot be read: " in said


@pytest.mark.parametrize("name", ["\ud800.png", "a\x1b[2J.png", "x" * 300 + ".png", "y" * 2000])
def test_names_that_no_file_has(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    lines = (source / "data.jsonl").read_text().splitlines()
    row = json.loads(lines[2])
    row["states"][-1]["images"]["Camera_Right"] = name
    lines[2] = json.dumps(row)
    (source / "data.jsonl").write_text("\n".join(lines))
    assert import_trance(source, tmp_path / "out", skip=True).faulty == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.isprintable()
    assert "sample 2: " in said


class TestFaults:
    @pytest.mark.parametrize(("damage", "line"), FAULTS)
    def test_end_the_import(
        self,
        damage: Callable[[Path], None],
        line: str,
        source: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        damage(source)
        out = tmp_path / "out"
        with pytest.raises(UserError, match=r"a sample has a fault, named above and in .*--faults"):
            import_trance(source, out, ALL)
        (printed,) = capsys.readouterr().err.splitlines()
        assert printed.startswith(line)
        assert sorted(path.name for path in out.iterdir()) == ["faults.jsonl", "import.json"]

    @pytest.mark.parametrize(("damage", "line"), FAULTS)
    def test_are_left_out(
        self,
        damage: Callable[[Path], None],
        line: str,
        source: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        damage(source)
        found = import_trance(source, tmp_path / "out", ALL, skip=True)
        assert (found.samples, found.faulty) == (3, 1)
        assert problems(tmp_path / "out") == []
        (printed,) = capsys.readouterr().err.splitlines()
        assert printed.startswith(
            line.replace("jsonl:3: sample 2: image/", "jsonl: sample 2: image/")
        )
        (fault,) = (tmp_path / "out" / "faults.jsonl").read_text().splitlines()
        assert set(json.loads(fault)) == {"sample", "where", "field", "what"}

    def test_mended_sources_are_taken(self, source: Path, tmp_path: Path) -> None:
        text = (source / "data.jsonl").read_text()
        break_line(source)
        with pytest.raises(UserError):
            import_trance(source, tmp_path / "out")
        (source / "data.jsonl").write_text(text)
        assert import_trance(source, tmp_path / "out").samples == 2

    def test_no_more_than_some_are_printed(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = write(tmp_path / "trance", [recolored(n, "blue") for n in range(25)])
        shutil.rmtree(source / "image")
        with pytest.raises(UserError, match="25 samples have faults"):
            import_trance(source, tmp_path / "out")
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 21
        assert err[-1].startswith("... and 5 more in ")
        with pytest.raises(UserError, match="every sample has a fault"):
            import_trance(source, tmp_path / "out", skip=True)

    def test_a_full_disk(self, source: Path, tmp_path: Path) -> None:
        # No file may grow beyond 2,000 bytes: the settings fit, a shard does not.
        done = subprocess.run(
            [sys.executable, "-m", "star_r1.cli", "import", "trance", source, "--out", "out"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
            env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache")},
            timeout=120,
        )
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "error: cannot write out/data/train-00000-of-00001.parquet: File too large; "
            "make room or name another place"
        ]
        assert set(files(tmp_path / "out")) == {"import.json"}
        assert import_trance(source, tmp_path / "out").samples == 2


def not_json(source: Path) -> None:
    (source / "data.jsonl").unlink()
    (source / "data.json").write_text('[{"idx": 0},\n {"idx": 1\n ]')


def not_a_list(source: Path) -> None:
    (source / "data.jsonl").unlink()
    (source / "data.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (shutil.rmtree, {}, "trance: no such file or folder"),
        (lambda s: (s / "data.jsonl").unlink(), {}, "trance: has none of data_renderable.jsonl"),
        (not_json, {}, "data.json:3: not JSON: Expecting ',' delimiter"),
        (not_a_list, {}, "data.json: not a JSON list of samples"),
        (None, {"views": ("center", "top")}, "views 'center,top': name some of center,left,right"),
        (None, {"views": ()}, "views '': name some of"),
        (None, {"attributes": ("color", "colour")}, "attributes: 'colour' is not one of color"),
        (None, {"workers": 0}, "workers 0: give a number of 1 to 1024"),
        (None, {"split": "a-b"}, "split 'a-b': use letters"),
        (None, {"split": "dev"}, "split dev: TRANCE has train, val, test; say by --indices"),
        (None, {"indices": (5, 4)}, "indices 5-4: give the first and the last idx"),
        (None, {"split": "test"}, "none of its 4 samples has idx 510000-529999; see --indices"),
        (
            None,
            {"attributes": ("shape",)},
            "of its samples with idx 0-499999 none changes shape alone; see --attributes",
        ),
    ],
)
def test_mistakes(
    change: Callable[[Path], None] | None,
    options: dict[str, Any],
    message: str,
    source: Path,
    tmp_path: Path,
) -> None:
    if change:
        change(source)
    with pytest.raises(UserError) as caught:
        import_trance(source, tmp_path / "out", **options)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_folders_of_something_else_are_left_alone(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("kept")
    with pytest.raises(UserError, match="exists and is no import of star-r1"):
        import_trance(source, out)
    assert files(out) == {"mine": b"kept"}
    import_trance(source, tmp_path / "two")
    with pytest.raises(UserError, match=r"holds an import with attributes .*, not"):
        import_trance(source, tmp_path / "two", ALL)
    change_line(2, **recolored(1, "cyan"))(source)
    with pytest.raises(UserError, match="holds an import with sha256"):
        import_trance(source, tmp_path / "two")


class TestH5:
    """The file that TRANCE's preprocessing writes, as its description has it."""

    @pytest.fixture
    def h5(self, source: Path) -> Path:
        h5py = pytest.importorskip("h5py")
        path = source / "data.h5"
        lines = [json.loads(line) for line in (source / "data.jsonl").read_text().splitlines()]
        with h5py.File(path, "w", libver="latest") as file:
            for split, samples in (("train", lines[:3]), ("val", lines[3:]), ("test", [])):
                data = file.create_group(f"{split}/data")
                pictures = file.create_group(f"{split}/image")
                for sample in samples:
                    data.create_dataset(str(sample["idx"]), data=json.dumps(sample))
                    for shown in (sample["states"][0], sample["states"][-1]):
                        for name in shown["images"].values():
                            with Image.open(source / "image" / name) as picture:
                                pixels = np.array(picture)
                            pictures.create_dataset(name, data=pixels, dtype=np.uint8)
                keys = [str(sample["idx"]) for sample in samples]
                file[split].create_dataset("keys", data=str(keys))
                file[split].create_dataset("basic_keys", data=str(keys[:1]))
        shutil.rmtree(source / "image")
        (source / "data.jsonl").unlink()
        return path

    def test_gives_the_same_rows(self, h5: Path, tmp_path: Path) -> None:
        write(tmp_path / "plain", LINES)
        import_trance(tmp_path / "plain", tmp_path / "expected", ALL, indices=(0, 2))
        import_trance(h5.parent, tmp_path / "out", ALL)
        assert list(load(tmp_path / "out")) == list(load(tmp_path / "expected"))
        import_trance(h5, tmp_path / "val", ALL, split="val")
        assert columns(tmp_path / "val", "answer") == ["2.color.blue, 2.color.red"] * 3

    def test_damage(self, h5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        import h5py

        with h5py.File(h5, "a") as file:
            del file["train/image/img_000000-fin.C.png"]
            del file["train/data/1"]
            del file["train/image/img_000002-fin.L.png"]
            file["train/image/img_000002-fin.L.png"] = np.zeros((12, 16), np.float32)
        with pytest.raises(UserError, match="2 samples have faults"):
            import_trance(h5, tmp_path / "out", ALL)
        with pytest.raises(UserError, match="every sample has a fault"):
            import_trance(h5, tmp_path / "skip", ALL, skip=True)
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith("data.h5:/train/data/0: sample 0: ")
        assert lines[0].endswith("img_000000-fin.C.png: is missing")
        assert lines[1].startswith("data.h5:/train/data/1: line: is not JSON")
        assert "img_000002-fin.L.png: is no picture or damaged" in "".join(lines)

    def test_mistakes(self, h5: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="has no split 'dev'; it has test, train, val"):
            import_trance(h5, tmp_path / "out", split="dev")
        with pytest.raises(UserError, match="none of its 0 samples"):
            import_trance(h5, tmp_path / "out", split="test")
        (tmp_path / "b.h5").write_bytes(h5.read_bytes()[:1000])
        with pytest.raises(UserError, match=r"b\.h5: no h5 file, or damaged"):
            import_trance(tmp_path / "b.h5", tmp_path / "out")

    @pytest.mark.parametrize(
        ("place", "what"),
        [
            ("train/image/img_000000-fin.C.png", "is a link, not in the file itself"),
            ("train/data/0", "line: is not JSON"),
            ("train/keys", "is a link, not in the file itself"),
        ],
    )
    @pytest.mark.parametrize("kind", ["external", "soft"])
    def test_links_are_not_followed(
        self, h5: Path, tmp_path: Path, capsys: Any, place: str, what: str, kind: str
    ) -> None:
        import h5py

        shutil.copy(h5, tmp_path / "other.h5")
        other = str(tmp_path / "other.h5")
        with h5py.File(h5, "a") as file:
            file.move(place, "elsewhere")
            link = h5py.ExternalLink(other, place) if kind == "external" else None
            file[place] = link or h5py.SoftLink("/elsewhere")
        with pytest.raises(UserError) as error:
            import_trance(h5, tmp_path / "out", ALL)
        assert what in str(error.value) + capsys.readouterr().err

    @pytest.mark.parametrize("way", ["external", "virtual", "chunks", "shape"])
    def test_pictures_lie_in_the_file(
        self, h5: Path, tmp_path: Path, way: str, capsys: Any
    ) -> None:
        import h5py

        name = "train/image/img_000000-fin.C.png"
        secret = tmp_path / "secret"
        secret.write_bytes(bytes(12 * 16 * 4))
        with h5py.File(h5, "a", libver="latest") as file:
            shape = file[name].shape
            del file[name]
            if way == "external":
                parts = [(str(secret), 0, h5py.h5f.UNLIMITED)]
                file.create_dataset(name, shape, np.uint8, external=parts)
            elif way == "virtual":
                layout = h5py.VirtualLayout(shape, np.uint8)
                layout[:] = h5py.VirtualSource(str(secret), "x", shape)
                file.create_virtual_dataset(name, layout)
            elif way == "chunks":
                big = (1 << 14, 1 << 14, 4)
                file.create_dataset(name, shape, np.uint8, maxshape=big, chunks=big)
            else:
                file.create_dataset(name, (1 << 20, 1 << 20, 3), np.uint8, chunks=(64, 64, 3))
        with pytest.raises(UserError, match="a sample has a fault"):
            import_trance(h5, tmp_path / "out", ALL)
        said = capsys.readouterr().err
        assert "sample 0: /train/image/img_000000-fin.C.png: is no picture or damaged (" in said
        assert {
            "external": "its bytes are those of another file",
            "virtual": "its bytes are those of another file",
            "chunks": "is stored in pieces of more than 64 MB",
            "shape": "holds uint8 of shape (1048576, 1048576, 3)",
        }[way] in said

    def test_keys_are_not_evaluated(self, h5: Path, tmp_path: Path) -> None:
        import h5py

        with h5py.File(h5, "a") as file:
            del file["train/keys"]
            file["train/keys"] = "[print('run'), 1]"
        with pytest.raises(UserError, match="/train/keys: not a list of numbers"):
            import_trance(h5, tmp_path / "out")

    def test_without_h5py(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "data.h5").write_bytes(b"")
        monkeypatch.setitem(sys.modules, "h5py", None)
        monkeypatch.setattr(
            sys, "argv", ["star-r1", "import", "trance", str(tmp_path), "--out", "o"]
        )
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 2
        assert "pip install 'star-r1[h5]'" in capsys.readouterr().err


@pytest.mark.skipif(not REAL.exists(), reason="the real samples of TRANCE are not here")
class TestReal:
    def test_position_free(self, tmp_path: Path) -> None:
        found = import_trance(REAL, tmp_path / "out")
        assert (found.samples, found.left_out, found.faulty) == (11, 29, 0)
        numbers = {int(name.split("-")[0]) for name in columns(tmp_path / "out", "id")}
        assert numbers == {2, 4, 8, 12, 19, 21, 23, 27, 29, 32, 38}
        assert problems(tmp_path / "out") == []
        show(tmp_path / "out", "000002-left", tmp_path / "pair.png")

    def test_all(self, tmp_path: Path) -> None:
        found = import_trance(REAL, tmp_path / "out", ALL)
        assert (found.samples, found.rows, found.left_out, found.faulty) == (40, 120, 0, 0)
        assert problems(tmp_path / "out") == []
        published = json.loads((REAL / "data.json").read_bytes())
        samples = [row_to_sample(row) for row in load(tmp_path / "out").remove_columns("images")]
        for sample in samples:
            last = published[int(sample.id.split("-")[0])]["states"][-1]["objects"]
            assert [list(thing.position) for thing in sample.final.objects] == [
                thing["position"] for thing in last
            ]
        perfect: list[tuple[Answer, Sample]] = [
            (parse_answer(f"<answer>{format_changes(s.changes)}</answer>", s.vocabulary), s)
            for s in samples
        ]
        for setting in ("event", "view"):
            overall = score_trance(perfect, setting)["overall"]
            assert overall["Acc"]["value"] == overall["LAcc"]["value"] == 1
            assert overall["AD"]["value"] == overall["err_out"]["value"] == 0
