import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from star_r1.data.build import Settings, generate
from star_r1.data.dataset import read_columns
from star_r1.errors import UserError
from star_r1.tvr import SceneRules
from star_r1.tvr.vocabulary import MIN_VISIBLE_PIXELS

SAMPLES = 5
SETTINGS = {"samples": SAMPLES, "seed": 3, "size": (56, 42), "samples_per_pixel": 2}
SHARDS = [f"data/train-{n:05d}-of-00003.parquet" for n in range(3)]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_same_settings_give_the_same_bytes(rendered: Path, tmp_path: Path, workers: int) -> None:
    assert generate(tmp_path / "again", workers=workers, **SETTINGS) == SAMPLES
    assert contents(tmp_path / "again") == contents(rendered)


def test_layout(rendered: Path) -> None:
    assert sorted(contents(rendered)) == ["README.md", *SHARDS, "generate.json"]


def test_another_seed_gives_other_scenes_and_more_samples_the_same_first_ones(
    rendered: Path, tmp_path: Path
) -> None:
    other, longer = tmp_path / "other", tmp_path / "longer"
    generate(other, **SETTINGS | {"samples": 2, "seed": 4})
    generate(longer, **SETTINGS | {"samples": SAMPLES + 1}, views=("center",))
    scenes = [row["initial"] for row in read_columns(rendered, ["initial"])]
    assert [row["initial"] for row in read_columns(longer, ["initial"])][:SAMPLES] == scenes[::3]
    assert {row["initial"] for row in read_columns(other, ["initial"])}.isdisjoint(scenes)


def test_views_share_scene_and_initial_picture_and_keep_every_change_visible(
    rendered: Path,
) -> None:
    rows = list(read_columns(rendered, ["id", "view", "images", "initial", "changes", "pixels"]))
    for first in range(0, len(rows), 3):
        trio = rows[first : first + 3]
        assert [row["id"] for row in trio] == [
            f"{first // 3:06d}-{view}" for view in ("center", "left", "right")
        ]
        assert len({row["initial"] for row in trio}) == 1
        assert len({row["images"][0]["bytes"] for row in trio}) == 1
        assert len({row["images"][1]["bytes"] for row in trio}) == 3
        for row in trio:
            pixels = json.loads(row["pixels"])
            for change in json.loads(row["changes"]):
                for when in ("initial", "final"):
                    assert pixels[when][str(change["index"])] >= MIN_VISIBLE_PIXELS


def test_a_finished_dataset_is_left_alone(rendered: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in rendered.rglob("*")}
    assert generate(rendered, **SETTINGS) == 0
    assert {path: path.stat().st_mtime_ns for path in rendered.rglob("*")} == before


@pytest.mark.parametrize(
    ("damage", "made"),
    [
        (lambda folder: (folder / SHARDS[1]).unlink(), 2),
        (lambda folder: os.truncate(folder / SHARDS[2], 5000), 1),
        (lambda folder: (folder / "README.md").unlink(), 0),
    ],
    ids=["a shard is gone", "a shard is cut off", "the card is gone"],
)
def test_only_what_is_missing_is_made_again(copy: Path, rendered: Path, damage, made: int) -> None:
    damage(copy)
    assert generate(copy, **SETTINGS) == made
    assert contents(copy) == contents(rendered)


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_run_is_finished_by_the_same_command(tmp_path: Path, workers: int) -> None:
    """Ctrl-C in a real process: exit status 130, one line, no process left, shards kept."""
    code = (
        "import sys, star_r1.data.build as build\n"
        "build.SHARD_SAMPLES = 2\n"
        "from star_r1.cli import main\n"
        "main()\n"
    )
    out = tmp_path / "set"
    flags = f"--samples 24 --seed 3 --size 56x42 --views center --workers {workers} --out {out}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "generate", *flags.split()],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(out.glob("data/*.parquet")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    # Ends when the last process that could write to stderr has gone.
    printed, line = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert line == "interrupted; the same command goes on from what is finished\n"
    kept = contents(out)
    assert not [name for name in kept if name.endswith(".tmp")]

    same = {"samples": 24, "seed": 3, "size": (56, 42), "views": ("center",)}
    assert 0 < generate(out, **same) < 24
    assert kept.items() <= contents(out).items()
    ids = [row["id"] for row in read_columns(out, ["id"])]
    assert ids == [f"{n:06d}-center" for n in range(24)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": 0}, "samples 0: give 1 or a greater number"),
        ({"seed": -1}, "seed -1: give 0 or a greater number"),
        ({"size": (0, 240)}, "size 0x240"),
        ({"size": (320, 5000)}, "size 320x5000"),
        ({"views": ()}, "views ''"),
        ({"views": ("left", "left")}, "views 'left,left'"),
        ({"views": ("top",)}, "views 'top'"),
        ({"split": "a/b"}, "split 'a/b'"),
        ({"samples_per_pixel": 0}, "samples per pixel 0"),
    ],
)
def test_settings_out_of_range(changed: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        Settings(**{"samples": 1, "seed": 0} | changed)
    assert str(error.value).startswith(message)


def test_no_workers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^workers 0: give 1 or a greater number$"):
        generate(tmp_path / "set", 1, 0, workers=0)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"seed": 4}, "seed 3, not 4"),
        ({"samples": 6}, "samples 5, not 6"),
        ({"views": ("center",)}, 'views ["center", "left", "right"], not ["center"]'),
        ({"size": (28, 28)}, "size [56, 42], not [28, 28]"),
        ({"rules": SceneRules(visible=(2, 5))}, '"visible": [1, 10]'),
        ({"split": "test"}, 'split "train", not "test"'),
    ],
)
def test_a_folder_holds_one_dataset(
    rendered: Path, changed: dict[str, object], difference: str
) -> None:
    with pytest.raises(UserError) as error:
        generate(rendered, **SETTINGS | changed)
    assert difference in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes.txt", "mine", "exists and is no dataset of star-r1"),
        ("generate.json", "{", "not the JSON that 'star-r1 generate' writes"),
        ("generate.json", "[]", "not the JSON that 'star-r1 generate' writes"),
        ("generate.json", "{}", "holds a dataset with samples null, not 5"),
        ("generate.json", "\udcff", "not the JSON that 'star-r1 generate' writes"),
    ],
)
def test_a_folder_with_other_things_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    before = contents(tmp_path)
    with pytest.raises(UserError, match=message):
        generate(tmp_path, **SETTINGS)
    assert contents(tmp_path) == before


def test_command_in_the_card_stands_for_the_settings() -> None:
    settings = Settings(7, 1, (64, 48), ("left",), SceneRules((2, 5), (1, 2)), "test", 8)
    assert " ".join(settings.to_command().replace("\\", "").split()) == (
        "star-r1 generate --samples 7 --seed 1 --size 64x48 --views left --objects 2-5 "
        "--changes 1-2 --split test --samples-per-pixel 8 --out DIR"
    )
