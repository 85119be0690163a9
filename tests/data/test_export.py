import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from star_r1.data import export as export_module
from star_r1.data.dataset import load, read_columns, row_to_sample
from star_r1.data.export import FORMS, export
from star_r1.data.manifest import write_manifest
from star_r1.data.pictures import read_pair
from star_r1.data.reason_rft import import_reason_rft
from star_r1.data.shards import Row, encode_png, make_row, to_parquet
from star_r1.data.trance import import_trance
from star_r1.data.trance_format import read_entry
from star_r1.errors import UserError
from star_r1.render.visibility import count_pixels
from star_r1.tvr.rules import SceneRules
from star_r1.tvr.sampler import draw_sample
from star_r1.tvr.scene import UNKNOWN_RIG, Rig
from star_r1.tvr.vocabulary import STANDARD, TRANCE, VIEWS, Vocabulary

COLUMNS = (
    *("id", "images", "prompt", "answer", "view", "initial", "final", "changes", "rig", "pixels"),
    "vocabulary",
)


def draw(
    folder: Path,
    vocabulary: Vocabulary = STANDARD,
    samples: int = 4,
    views: tuple[str, ...] = VIEWS,
    rig: Rig | None = None,
) -> Path:
    """A dataset of drawn samples with pictures of noise."""
    noise = np.random.default_rng(0)

    def picture() -> bytes:
        return encode_png(noise.integers(0, 256, (12, 16, 3), dtype=np.uint8))

    rows: list[Row] = []
    extra = tuple(view for view in views if view not in VIEWS)
    rules = SceneRules(vocabulary=vocabulary, extra_views=extra)
    for index in range(samples):
        drawn = draw_sample(0, index, count_pixels, rules)
        initial = picture()
        for view in views:
            sample = drawn.seen_from(view)
            pixels = {
                "initial": count_pixels(sample.initial, sample.rig, "center"),
                "final": count_pixels(sample.final, sample.rig, view),
            }
            row = make_row(sample, (initial, picture()), pixels)
            rows.append(row if rig is None else {**row, "rig": rig.to_json(), "pixels": "{}"})
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(to_parquet(rows))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# My pairs\n")
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return list(read_columns(folder, COLUMNS))


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class TestTrance:
    @pytest.mark.parametrize("vocabulary", [STANDARD, TRANCE])
    def test_is_read_back_the_same(self, tmp_path: Path, vocabulary: Vocabulary) -> None:
        data = draw(tmp_path / "data", vocabulary)
        done = export("trance", data, tmp_path / "trance")
        assert (done.samples, done.rows) == (4, 12)
        import_trance(tmp_path / "trance", tmp_path / "back", vocabulary.attributes)
        assert rows_of(tmp_path / "back") == rows_of(data)

    def test_a_rendered_dataset_too(self, rendered: Path, tmp_path: Path) -> None:
        export("trance", rendered, tmp_path / "trance")
        import_trance(tmp_path / "trance", tmp_path / "back")
        assert rows_of(tmp_path / "back") == rows_of(rendered)

    def test_layout(self, tmp_path: Path) -> None:
        data = draw(tmp_path / "data", TRANCE, 2)
        export("trance", data, tmp_path / "out")
        names = {f"image/img_00000{n}-{kind}.png" for n in (0, 1) for kind in KINDS}
        assert set(files(tmp_path / "out")) == names | {
            *("README.md", "data.jsonl", "data_renderable.jsonl", "export.json")
        }
        lines = (tmp_path / "out" / "data.jsonl").read_text().splitlines()
        first = json.loads(lines[0])
        assert list(first) == ["idx", "states", "transformations"]
        assert list(first["states"][0]["objects"][0]) == [
            *("color", "material", "shape", "size", "position")
        ]
        assert first["states"][1]["images"]["Camera_Left"] == "img_000000-fin.L.png"
        sample = row_to_sample(load(data)[0])
        read = read_entry(first)
        assert (read.changes, read.rig) == (sample.changes, None)
        assert "# My pairs" in (tmp_path / "out" / "README.md").read_text()

    def test_without_cameras_none_are_claimed(self, tmp_path: Path) -> None:
        known = row_to_sample(load(draw(tmp_path / "known", samples=1))[0]).rig
        data = draw(tmp_path / "data", rig=known)  # but pixels are {}, as after an import
        export("trance", data, tmp_path / "out")
        assert not (tmp_path / "out" / "data_renderable.jsonl").exists()

    def test_some_views(self, tmp_path: Path) -> None:
        data = draw(tmp_path / "data", views=("left", "top"))
        with pytest.raises(UserError, match=r"row 000000-top: TRANCE has no view top; .*--views"):
            export("trance", data, tmp_path / "out")
        with pytest.raises(UserError, match="holds an export with views null"):
            export("trance", data, tmp_path / "out", ["left"])
        assert export("trance", data, tmp_path / "left", ["left"]).rows == 4
        with pytest.raises(UserError, match="no row has one of the views right"):
            export("trance", data, tmp_path / "right", ["right"])

    def test_what_trance_cannot_say(self, tmp_path: Path) -> None:
        pastel = Vocabulary(colors={"pink": (255, 180, 200), "mint": (170, 240, 200)})
        with pytest.raises(UserError, match=r"has colors, sizes, ... that TRANCE does not have"):
            export("trance", draw(tmp_path / "a", pastel, 1), tmp_path / "a_out")
        with pytest.raises(UserError, match="nobody knows where its objects are"):
            export("trance", draw(tmp_path / "b", rig=UNKNOWN_RIG), tmp_path / "b_out")
        for out in ("a_out", "b_out"):
            assert set(files(tmp_path / out)) == {"export.json"}


KINDS = ("init.C", "fin.C", "fin.L", "fin.R")


class TestReasonRft:
    def test_is_read_back(self, tmp_path: Path) -> None:
        data = draw(tmp_path / "data")
        export("reason-rft", data, tmp_path / "rft")
        import_reason_rft(tmp_path / "rft" / "data.json", tmp_path / "back")
        for row, back in zip(load(data), load(tmp_path / "back"), strict=True):
            assert [row[c] for c in SAME] == [back[c] for c in SAME]
            assert all(
                np.array_equal(np.asarray(a), np.asarray(b))
                for a, b in zip(read_pair(row), read_pair(back), strict=True)
            )

    def test_rows(self, tmp_path: Path) -> None:
        export("reason-rft", draw(tmp_path / "data", TRANCE), tmp_path / "out")
        rows = json.loads((tmp_path / "out" / "data.json").read_bytes())
        assert len(rows) == 12
        assert list(rows[1]) == ["id", "image", "problem", "answer", "solution", "type"]
        assert rows[1]["image"] == ["img_000000-init.C.png", "img_000000-fin.L.png"]
        assert rows[1]["type"] == "left"
        answers = " ".join(row["answer"] for row in rows)
        assert "change_position(" in answers
        assert "." not in answers

    def test_views_of_ours_have_no_name_there(self, tmp_path: Path) -> None:
        data = draw(tmp_path / "data", views=("az90",), samples=1)
        with pytest.raises(UserError, match="Reason-RFT has no view az90"):
            export("reason-rft", data, tmp_path / "out")


SAME = ("id", "prompt", "answer", "view", "changes", "vocabulary")


def test_jsonl(tmp_path: Path) -> None:
    data = draw(tmp_path / "data", views=("left", "top"), samples=2)
    export("jsonl", data, tmp_path / "out")
    lines = [json.loads(x) for x in (tmp_path / "out" / "data.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [
        f"00000{n}-{v}" for n in (0, 1) for v in ("left", "top")
    ]
    for line, row in zip(lines, load(data), strict=True):
        for path, expected in zip(line["images"], read_pair(row), strict=True):
            with Image.open(tmp_path / "out" / path) as picture:
                assert np.array_equal(np.asarray(picture), np.asarray(expected))
        system, user = line["messages"]
        assert (system["role"], user["role"]) == ("system", "user")
        assert user["content"].startswith("<image><image>Initial objects:\n")
        assert line["solution"] == row["answer"]
        assert line["changes"] == json.loads(row["changes"])
        assert line["initial"] == json.loads(row["initial"])
    assert len(list((tmp_path / "out" / "image").iterdir())) == 6


@pytest.mark.parametrize("form", FORMS)
def test_goes_on_after_an_interruption(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw(tmp_path / "data")
    export(form, data, tmp_path / "whole")
    saved = 0

    def interrupt(path: Path, content: bytes | str) -> None:
        nonlocal saved
        saved += 1
        if saved == 7:
            raise KeyboardInterrupt
        really(path, content)

    really = export_module.write_atomic
    monkeypatch.setattr(export_module, "write_atomic", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(form, data, tmp_path / "out")
    assert not list((tmp_path / "out").glob("data*"))
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.setattr(export_module, "write_atomic", really)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "image").iterdir()}
    export(form, data, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_folders_of_something_else_are_left_alone(tmp_path: Path) -> None:
    data = draw(tmp_path / "data")
    with pytest.raises(UserError, match="exists and is no export of star-r1"):
        export("jsonl", data, data)
    export("jsonl", data, tmp_path / "out")
    with pytest.raises(UserError, match='holds an export with format "jsonl", not "trance"'):
        export("trance", data, tmp_path / "out")
    other = draw(tmp_path / "other", samples=1)
    with pytest.raises(UserError, match="holds an export with sha256"):
        export("jsonl", other, tmp_path / "out")
    with pytest.raises(UserError, match="format 'csv': choose from trance, reason-rft, jsonl"):
        export("csv", data, tmp_path / "csv")


def test_shards_that_are_not_those_of_their_manifest_any_more(tmp_path: Path) -> None:
    data, other = draw(tmp_path / "data"), draw(tmp_path / "other", samples=1)
    write_manifest(data)
    export("jsonl", data, tmp_path / "out")
    (shard,), (another,) = ((of / "data").glob("*.parquet") for of in (data, other))
    shard.write_bytes(another.read_bytes())
    with pytest.raises(UserError, match="holds an export with sha256"):
        export("jsonl", data, tmp_path / "out")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    data = draw(tmp_path / "data")
    export("jsonl", data, tmp_path / "out", ["left"])
    (tmp_path / "out" / "data.jsonl").unlink()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device; make room"):
        export("jsonl", data, tmp_path / "out", ["left"])
    assert not (tmp_path / "out" / "data.jsonl").exists()
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("export trance data --out new", 0, "4 samples, 12 rows"),
        ("export jsonl data --out new --views left", 0, "4 samples, 4 rows"),
        ("export verl data --out new --views left", 0, "new: 4 samples, 4 rows; new/README.md"),
        ("export easyr1 data --out new --val data", 0, "new: 4 samples, 12 rows"),
        ("export ms-swift data --out new", 0, "new: 4 samples, 12 rows"),
        ("export lmms-eval data --out new --views left", 0, "new: 4 samples, 4 rows; new/README"),
        ("export verl nowhere --out new", 2, "error: nowhere: no such folder"),
        ("export verl data --out new --val nowhere", 2, "error: nowhere: no such folder"),
        ("export lmms-eval nowhere --out new", 2, "error: nowhere: no such folder"),
        ("export jsonl data --out new --val data", 2, "error: --val data: jsonl has no such part"),
        ("export lmms-eval data --out new --val data", 2, "--val data: lmms-eval has no such part"),
        ("export csv data --out new", 2, "error: Invalid value for 'layout': "),
        ("export jsonl nowhere --out new", 2, "error: nowhere: no such folder"),
        ("import", 2, "error: Missing command; see 'star-r1 import --help'"),
        ("import trance out --out new", 0, "look at one: star-r1 show new --id 000000-center"),
        ("import trance out --out new --indices 1", 2, "error: --indices 1: give the first and"),
        ("import trance out --out new --indices 1-1", 0, "1 samples, 3 rows"),
        ("import trance out --out new --faults no", 2, "error: Invalid value for '--faults'"),
        ("import trance nowhere --out new", 2, "error: nowhere: no such file or folder"),
        ("import reason-rft nowhere --out new", 2, "error: nowhere: no such file"),
    ],
)
def test_commands(
    command: str,
    status: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_process: Callable[[str], tuple[object, str, str]],
) -> None:
    draw(tmp_path / "data")
    export("trance", tmp_path / "data", tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    code, out, err = in_process(command)
    assert code == status
    assert words in (err if status else out)
    assert (tmp_path / "new").exists() == (status == 0)
    if status:
        assert err.count("\n") == 1
