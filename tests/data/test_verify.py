import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from star_r1.data.build import build
from star_r1.data.manifest import write_manifest
from star_r1.data.settings import Settings
from star_r1.data.shards import to_parquet
from star_r1.data.verify import verify
from star_r1.errors import UserError
from star_r1.tvr import SceneRules
from star_r1.tvr.vocabulary import TRANCE

SHARD = "data/train-00001-of-00003.parquet"


def faults(folder: Path, **options: bool) -> list[str]:
    told: list[str] = []
    assert verify(folder, told.append, **options).faults == len(told)
    assert not [fault for fault in told if "\n" in fault]
    return told


def in_json(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_bytes())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def replace_by(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


def test_a_sound_dataset(rendered: Path) -> None:
    told: list[str] = []
    found = verify(rendered, told.append)
    assert (told, found.faults, found.files) == ([], 0, 3)
    assert list(found.counts) == ["train"]
    assert (found.counts["train"].samples, found.counts["train"].rows) == (5, 15)


def test_moves_extras_and_several_splits(tmp_path: Path) -> None:
    rules = SceneRules((3, 6), (2, 4), TRANCE)
    small = {"seed": 0, "size": (32, 28), "samples_per_pixel": 1, "rules": rules}
    extras = ("masks", "boxes", "depth")
    splits = [
        Settings(3, views=("az90", "top"), extras=extras, **small),
        Settings(2, views=("left",), split="test", **small),
    ]
    build(tmp_path / "set", splits)
    assert faults(tmp_path / "set") == []


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: missing; "),
        (
            lambda folder: (folder / "manifest.json").write_text("{"),
            "manifest.json: not JSON: ",
        ),
        *(
            (in_json("manifest.json", change), fault)
            for change, fault in (
                (lambda m: m["files"].pop("README.md"), "README.md: not in manifest.json"),
                (lambda m: m["files"].pop("generate.json"), "generate.json: not in manifest.json"),
                (lambda m: m["files"].pop(SHARD), f"{SHARD}: not in manifest.json"),
                (lambda m: m["files"].update({"../x": {}}), "manifest.json: not a manifest: ../x"),
                (
                    lambda m: m["files"].update({"/dev/zero": {"bytes": 1, "sha256": ""}}),
                    "manifest.json: not a manifest: /dev/zero is no file of a dataset",
                ),
                (
                    lambda m: m["files"].update({"data/\x1b[2J": {}}),
                    "manifest.json: not a manifest: data/\\x1b[2J is no file of a dataset",
                ),
                (
                    lambda m: m["files"][SHARD].update(rows="6"),
                    f"manifest.json: not a manifest: rows of {SHARD} is '6'",
                ),
                (
                    lambda m: m["files"].update({SHARD: None}),
                    f"manifest.json: not a manifest: of {SHARD} give bytes, rows, sha256",
                ),
                (lambda m: m.update(files=[]), "manifest.json: not a manifest: give settings and"),
                (
                    lambda m: m["settings"]["splits"]["train"].update(seed=4),
                    "manifest.json: settings: splits is not that of generate.json",
                ),
                (lambda m: m.update(settings={}), "manifest.json: settings: "),
            )
        ),
        (
            lambda folder: (folder / "manifest.json").write_text("[" * 9999),
            "manifest.json: not JSON",
        ),
        *(
            (in_json("generate.json", change), fault)
            for change, fault in (
                (
                    lambda g: g["splits"]["train"].update(samples="5"),
                    "generate.json: train: samples 5: give a whole number",
                ),
                (
                    lambda g: g["splits"]["train"].update(samples=10**9),
                    "generate.json: train: samples 1000000000: give at most",
                ),
                (lambda g: g["splits"]["train"].update(samples=6), "split train: rows are missing"),
                (lambda g: g["splits"].update(test={"samples": 1}), "split test: no shard of it"),
                (lambda g: g.update(splits=7), "generate.json: splits: give a mapping"),
            )
        ),
        (lambda folder: replace_by(folder / "README.md", os.mkfifo), "README.md: Not a plain file"),
        (
            lambda folder: replace_by(folder / "README.md", lambda p: p.symlink_to("/dev/zero")),
            "README.md: is a link that leads out of the dataset",
        ),
        (lambda folder: (folder / "data" / "notes.txt").write_text(""), "data/notes.txt: not in"),
        (
            lambda folder: shutil.move(
                folder / SHARD, folder / "data" / "train-00001-of-00004.parquet"
            ),
            "split train: train-00001-of-00004.parquet is not shard 1 of 3",
        ),
        (lambda folder: (folder / "README.md").unlink(), "README.md: No such file or directory"),
        (lambda folder: (folder / "README.md").write_text("mine"), "README.md: bytes 4, not "),
        (lambda folder: (folder / "generate.json").unlink(), "generate.json: No such file"),
        (
            lambda folder: shutil.copy(folder / SHARD, folder / "data" / "more.parquet"),
            "data/more.parquet: not in manifest.json",
        ),
    ],
)
def test_files_are_compared_with_the_manifest(
    copy: Path, damage: Callable[[Path], Any], fault: str
) -> None:
    damage(copy)
    assert any(told.startswith(fault) for told in faults(copy, pictures=False))


def test_a_missing_shard(copy: Path) -> None:
    (copy / SHARD).unlink()
    told = faults(copy, pictures=False)
    assert told[0] == f"{SHARD}: No such file or directory"
    assert told[1] == "split train: 2 of 3 shards"
    assert "row 1 (000004-center): the id of this row must be 000002-center" in told[2]
    assert told[-1] == "split train: rows are missing, from id 000003-center on"


@pytest.mark.parametrize("quick", [True, False])
def test_a_damaged_shard(copy: Path, quick: bool) -> None:
    data = bytearray((copy / SHARD).read_bytes())
    data[100:3000] = bytes(2900)
    (copy / SHARD).write_bytes(data)
    told = faults(copy, pictures=not quick)
    assert told[0].startswith(f"{SHARD}: sha256 ")
    assert quick or told[1].startswith(f"{SHARD}: damaged")


def alter(folder: Path, column: str, change: Callable[[Any], Any]) -> None:
    """Change one column of the third row of a shard, and the manifest with it."""
    rows = pq.read_table(folder / SHARD).to_pylist()
    rows[2][column] = change(rows[2][column])
    (folder / SHARD).write_bytes(to_parquet(rows))
    settings = json.loads((folder / "manifest.json").read_bytes())["settings"]
    write_manifest(folder, settings)


def with_objects(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        objects = json.loads(text)
        change(objects)
        return json.dumps(objects, separators=(",", ":"))

    return changed


def move_onto_the_next(objects: list[dict[str, Any]]) -> None:
    objects[0]["position"] = objects[1]["position"]


@pytest.mark.parametrize(
    ("column", "change", "fault"),
    [
        ("id", lambda _: "000002-left", "its id is that of another row too"),
        ("id", lambda _: "000009-right", "the id of this row must be 000002-right"),
        ("view", lambda _: "left", "the view is left"),
        ("view", lambda _: "below", "view 'below' is not one of center, left, right"),
        ("answer", lambda _: "none", "the answer is 'none', the changes are "),
        ("prompt", lambda messages: messages[:1], "the prompt is not that of scene"),
        ("initial", lambda text: text[:-1], "Expecting ',' delimiter"),
        ("initial", lambda _: None, "column 'initial' is None"),
        ("initial", with_objects(move_onto_the_next), "the objects 0 and 1 overlap"),
        (
            "initial",
            with_objects(lambda o: o[0].update(color="pink")),
            "color 'pink' is not one of",
        ),
        (
            "initial",
            with_objects(lambda o: o[0].update(rotation=1.5)),
            "scene, changes or rig differ",
        ),
        ("final", with_objects(lambda o: o[0].update(rotation=1.5)), "the changes do not lead to"),
        ("final", lambda _: "[]", "column 'final': a scene has 10 objects"),
        ("changes", lambda _: "[]", "the changes do not lead to the final scene"),
        ("changes", lambda _: '[{"index": 11}]', "not a change: "),
        ("vocabulary", lambda _: '{"colors": {"red": [1, 2, 3]}}', "color has one value only"),
        ("rig", lambda _: "{}", "not a rig"),
        ("pixels", lambda _: '{"initial": {}, "final": {}}', "column 'pixels': not of the visible"),
        ("pixels", lambda _: "7", "column 'pixels': "),
        ("images", lambda images: images[:1], "images: not two pictures"),
        (
            "images",
            lambda images: [images[0], {"bytes": images[1]["bytes"][:200], "path": None}],
            "images: the final one is cut off",
        ),
        (
            "images",
            lambda images: [{"bytes": None, "path": "a.png"}, images[1]],
            "images: the initial one is not in the file",
        ),
    ],
)
def test_a_row_that_is_wrong(
    copy: Path, column: str, change: Callable[[Any], Any], fault: str
) -> None:
    alter(copy, column, change)
    told = faults(copy)
    assert any(line.startswith(f"{SHARD}: row 3 (") and fault in line for line in told)
    assert all(line.startswith(f"{SHARD}: row ") for line in told)
    if column == "images":
        assert faults(copy, pictures=False) == []


def test_other_makers_ids_only_have_to_differ(copy: Path) -> None:
    """Where ``generate`` did not make the data, no id is expected."""
    rows = [row for path in sorted(copy.glob("data/*")) for row in pq.read_table(path).to_pylist()]
    shutil.rmtree(copy / "data")
    (copy / "data").mkdir()
    (copy / "generate.json").unlink()
    rows = [row | {"id": "x" + row["id"]} for row in rows]
    (copy / "data" / "test-00000-of-00001.parquet").write_bytes(to_parquet(rows[::2]))
    write_manifest(copy)
    assert faults(copy) == []
    (copy / "data" / "test-00000-of-00001.parquet").write_bytes(to_parquet([*rows[:2], rows[0]]))
    write_manifest(copy)
    (fault,) = faults(copy)
    assert fault.endswith("row 3 (x000000-center): its id is that of another row too")


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no data/\*.parquet in it; name a folder"):
        verify(tmp_path, print)
