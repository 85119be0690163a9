import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest

from star_r1.data import build as module
from star_r1.data.build import Built, build, generate
from star_r1.data.dataset import load, read_columns
from star_r1.data.settings import Settings
from star_r1.errors import UserError
from star_r1.tvr import SceneRules

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
    others = ["README.md", "generate.json", "manifest.json"]
    assert sorted(contents(rendered)) == sorted([*others, *SHARDS])


def test_another_seed_gives_other_scenes_and_more_samples_the_same_first_ones(
    rendered: Path, tmp_path: Path
) -> None:
    other, longer = tmp_path / "other", tmp_path / "longer"
    generate(other, **SETTINGS | {"samples": 2, "seed": 4})
    generate(longer, **SETTINGS | {"samples": SAMPLES + 1}, views=("center",))
    scenes = [row["initial"] for row in read_columns(rendered, ["initial"])]
    assert [row["initial"] for row in read_columns(longer, ["initial"])][:SAMPLES] == scenes[::3]
    assert {row["initial"] for row in read_columns(other, ["initial"])}.isdisjoint(scenes)


def test_views_share_scene_and_initial_picture(rendered: Path) -> None:
    rows = list(read_columns(rendered, ["id", "view", "images", "initial", "changes", "rig"]))
    for first in range(0, len(rows), 3):
        trio = rows[first : first + 3]
        assert [row["id"] for row in trio] == [
            f"{first // 3:06d}-{view}" for view in ("center", "left", "right")
        ]
        for column in ("initial", "changes", "rig"):
            assert len({row[column] for row in trio}) == 1
        assert len({row["images"][0]["bytes"] for row in trio}) == 1
        assert len({row["images"][1]["bytes"] for row in trio}) == 3


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
        (lambda folder: (folder / "manifest.json").unlink(), 0),
    ],
    ids=["a shard is gone", "a shard is cut off", "the card is gone", "the manifest is gone"],
)
def test_only_what_is_missing_is_made_again(copy: Path, rendered: Path, damage, made: int) -> None:
    damage(copy)
    assert generate(copy, **SETTINGS) == made
    assert contents(copy) == contents(rendered)


def test_parts_make_the_same_bytes_and_the_last_one_ends_it(rendered: Path, tmp_path: Path) -> None:
    out, splits = tmp_path / "set", [Settings(**SETTINGS)]
    assert build(out, splits, part=(2, 2)) == Built(2, 2)
    assert sorted(contents(out)) == [SHARDS[1], "generate.json"]
    assert build(out, splits, part=(2, 2)) == Built(0, 2)
    assert build(out, splits, part=(1, 2)) == Built(3, 0)
    assert build(out, splits, part=(4, 4)) == Built(0, 0)
    assert contents(out) == contents(rendered)


def test_a_whole_run_ends_what_parts_began(rendered: Path, tmp_path: Path) -> None:
    out, splits = tmp_path / "set", [Settings(**SETTINGS)]
    build(out, splits, part=(3, 3))
    assert build(out, splits) == Built(4, 0)
    assert contents(out) == contents(rendered)


def test_several_splits_in_one_folder(tmp_path: Path) -> None:
    small = {"seed": 3, "size": (28, 28), "samples_per_pixel": 1, "views": ("left",)}
    splits = [Settings(3, **small), Settings(2, **small, split="test")]
    out = tmp_path / "set"
    assert build(out, splits) == Built(5, 0)
    assert sorted(path.name for path in out.glob("data/*")) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    assert list(load(out / "test")["id"]) == ["000000-left", "000001-left"]
    assert list(load(out / "train")["id"])[2] == "000002-left"
    scenes = [row["initial"] for split in ("train", "test") for row in load(out / split)]
    assert len(set(scenes)) == 5
    streamed = datasets.load_dataset(str(out), streaming=True)
    assert {name: len(list(rows)) for name, rows in streamed.items()} == {"train": 3, "test": 2}
    with pytest.raises(UserError, match=r"set: holds test and train; name one of them, such as "):
        load(out)


def leave(folder: Path) -> None:
    """What writers leave that are killed while they write."""
    for name in (SHARDS[1], "README.md", "manifest.json", "generate.json"):
        path = folder / name
        path.with_name(f".{path.name}.00c0ffee.tmp").write_text("half of it")


def test_what_killed_writers_left_is_removed(copy: Path, rendered: Path) -> None:
    leave(copy)
    (copy / SHARDS[1]).unlink()
    assert generate(copy, **SETTINGS) == 2
    assert contents(copy) == contents(rendered)


def test_a_run_killed_at_its_first_file_is_resumed(tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    (out / ".generate.json.00c0ffee.tmp").write_text("{")
    assert build(out, [Settings(**SETTINGS)], part=(9, 9)) == Built(0, 3)
    assert sorted(contents(out)) == [".generate.json.00c0ffee.tmp", "generate.json"]


def test_parts_leave_alone_what_others_write(tmp_path: Path) -> None:
    out, splits = tmp_path / "set", [Settings(**SETTINGS)]
    build(out, splits, part=(4, 4))
    other = out / "data" / ".train-00000-of-00003.parquet.00c0ffee.tmp"
    other.parent.mkdir()
    other.write_text("half of it")
    build(out, splits, part=(2, 3))
    assert other.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_keeps_finished_shards(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second shard goes to a device on which every write fails."""
    out, full = tmp_path / "set", ".train-00001-of-00003.parquet.token.tmp"
    (out / "data").mkdir(parents=True)
    (out / "generate.json").write_bytes((rendered / "generate.json").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda _: "token")
        patch.setattr(module, "_clean", lambda *_: None)
        (out / "data" / full).symlink_to("/dev/full")
        with pytest.raises(UserError, match=r"^cannot write [^\n]*: No space left on device; "):
            generate(out, **SETTINGS)
    assert sorted(contents(out)) == [SHARDS[0], "generate.json"]
    assert generate(out, **SETTINGS) == 3
    assert contents(out) == contents(rendered)


def star_r1(out: Path, flags: str) -> subprocess.Popen[str]:
    """A real process, with shards of two samples."""
    code = (
        "import sys, star_r1.data.settings as settings\n"
        "settings.SHARD_SAMPLES = 2\n"
        "from star_r1.cli import main\n"
        "main()\n"
    )
    flags = f"--samples 64 --seed 3 --size 56x42 --views center {flags} --out {out}"
    return subprocess.Popen(
        [sys.executable, "-c", code, "generate", *flags.split()],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_a_shard(out: Path, process: subprocess.Popen[str]) -> None:
    while not list(out.glob("data/*.parquet")):
        assert process.poll() is None
        time.sleep(0.02)


SAME = {"samples": 64, "seed": 3, "size": (56, 42), "views": ("center",)}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, _small_shards: None) -> Path:
    """What ``star_r1`` makes when nobody disturbs it."""
    out = tmp_path_factory.mktemp("straight") / "set"
    assert generate(out, **SAME) == 64
    return out


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_run_is_finished_by_the_same_command(
    straight: Path, tmp_path: Path, workers: int
) -> None:
    """Ctrl-C in a real process: exit status 130, one line, no process left, shards kept."""
    out = tmp_path / "set"
    process = star_r1(out, f"--workers {workers}")
    wait_for_a_shard(out, process)
    os.killpg(process.pid, signal.SIGINT)
    # Ends when the last process that could write to stderr has gone.
    printed, line = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, ""), line
    assert line == "interrupted; the same command goes on from what is finished\n"
    kept = contents(out)
    assert not [name for name in kept if name.endswith(".tmp")]

    assert 0 < generate(out, **SAME) < 64
    assert kept.items() <= contents(straight).items()
    assert contents(out) == contents(straight)


def test_killed_run_is_finished_with_the_same_bytes(straight: Path, tmp_path: Path) -> None:
    """kill -9 of all processes, twice; benchmarks/kill_drill.py does so thirty times."""
    out = tmp_path / "set"
    for file in ("data/.*.tmp", "data/*.parquet"):
        process = star_r1(out, "--workers 2")
        while process.poll() is None and not list(out.glob(file)):
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert not (out / "manifest.json").exists()
    assert 0 < generate(out, **SAME) < 64
    assert contents(out) == contents(straight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers 0: give a number of 1 to 1024"),
        ({"workers": 2, "ray": "auto"}, "workers 2: with --ray the cluster says how many"),
        ({"part": (0, 3)}, "shard 0/3: give i/n with i from 1 to n"),
        ({"part": (4, 3)}, "shard 4/3: give i/n with i from 1 to n"),
        ({"part": (1, 0)}, "shard 1/0: give i/n with i from 1 to n"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        build(tmp_path / "set", [Settings(1, 0)], **arguments)
    assert str(error.value).startswith(message)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"seed": 4}, "seed 3, not 4"),
        ({"samples": 6}, "samples 5, not 6"),
        ({"views": ("center",)}, 'views ["center", "left", "right"], not ["center"]'),
        ({"size": (28, 28)}, 'size "56x42", not "28x28"'),
        ({"rules": SceneRules(visible=(2, 5))}, 'objects "1-10", not "2-5"'),
        ({"split": "test"}, "split train, not test"),
    ],
)
def test_a_folder_holds_one_dataset(
    rendered: Path, changed: dict[str, object], difference: str
) -> None:
    with pytest.raises(UserError) as error:
        generate(rendered, **SETTINGS | changed)
    assert difference in str(error.value)
    assert "\n" not in str(error.value)


def test_other_versions_do_not_go_on_with_it(copy: Path) -> None:
    settings = json.loads((copy / "generate.json").read_bytes())
    settings["made_with"]["mitsuba"] = "3.0.0"
    (copy / "generate.json").write_text(json.dumps(settings))
    assert generate(copy, **SETTINGS) == 0
    (copy / SHARDS[0]).unlink()
    with pytest.raises(UserError, match=r"copy: was begun with mitsuba 3\.0\.0, and here is "):
        generate(copy, **SETTINGS)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes.txt", "mine", "exists and is no dataset of star-r1"),
        ("generate.json", "{", "not the JSON that 'star-r1 generate' writes"),
        ("generate.json", "[]", "not the JSON that 'star-r1 generate' writes"),
        ("generate.json", "{}", "not the JSON that 'star-r1 generate' writes"),
        ("generate.json", "\udcff", "not the JSON that 'star-r1 generate' writes"),
        (
            "generate.json",
            '{"splits": {"train": {}}, "made_with": {}}',
            "holds a dataset with samples null, not 5",
        ),
        (
            "generate.json",
            '{"splits": {"train": 7}, "made_with": {}}',
            "not the JSON that 'star-r1 generate' writes",
        ),
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
