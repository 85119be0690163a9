"""Data made to do harm, by the command line: one line and exit 2, or a listed fault; nothing else.

Each row below is put into an otherwise sound dataset, and the tree around the output is looked at.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.data.test_pictures import RGB, SOUND, png, save

from star_r1.data.dataset import load, read_row, row_to_sample
from star_r1.data.export import export
from star_r1.data.export_engines import export_engine
from star_r1.data.pictures import check_all
from star_r1.data.show import show
from star_r1.data.verify import verify
from star_r1.errors import UserError

Row: TypeAlias = dict[str, Any]
Cli: TypeAlias = Callable[[str], tuple[object, str, str]]

SHARD = "train-00000-of-00001.parquet"


def write(folder: Path, data: Path, edit: Callable[[list[Row]], object]) -> Path:
    """``data`` in a new folder, after something was done to its rows."""
    table = pq.read_table(data / "data" / SHARD).slice(0, 6)
    rows = table.to_pylist()
    edit(rows)
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / "data" / SHARD)
    return folder


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def put(**columns: Any) -> Callable[[list[Row]], None]:
    """Other values in the fourth row."""
    return lambda rows: rows[3].update(columns)


def picture(which: int, **parts: Any) -> Callable[[list[Row]], None]:
    return lambda rows: rows[3]["images"][which].update(parts)


def in_json(column: str, change: Callable[[Any], Any]) -> Callable[[list[Row]], None]:
    def edit(rows: list[Row]) -> None:
        value = json.loads(rows[3][column])
        rows[3][column] = json.dumps(change(value) or value)

    return edit


def text(words: str) -> list[Row]:
    image = {"type": "image", "text": None}
    return [{"role": "user", "content": [image, image, {"type": "text", "text": words}]}]


HOSTILE: list[tuple[Callable[[list[Row]], object], str]] = [
    (put(id="../../../x/evil-center"), "holds '/'"),
    (put(id="/evil-center"), "holds '/'"),
    (put(id="..\\evil-center"), "holds '\\\\\\\\'"),
    (put(id="a\0-center"), "do not print"),
    (put(id="\x1b]0;owned\x07-center"), "do not print"),
    (put(id="evil\u202e-center"), "do not print"),
    (put(id="x" * 300), "is longer than 128 bytes"),
    (put(id=""), "is empty"),
    (put(id=None), "is no text"),
    (lambda rows: rows[3].update(id=rows[0]["id"]), "is that of another row too"),
    (put(view="../../x"), "is unknown"),
    (put(view=None), "is unknown"),
    (put(prompt=None), "has places for 0 pictures"),
    (put(prompt=[{"role": None, "content": None}]), "has a message that is of none of"),
    (put(prompt=text("<|image_pad|>")), "which models take for something else than text"),
    (put(prompt=text("x" * 100_000)), "neither a picture nor text"),
    (put(initial="[" * 60_000), "not a scene"),
    (put(initial="x" * 100_000), "is longer than 64 KB"),
    (put(changes="[" * 60_000), "recursion"),
    (put(changes='[{"index": 1' + "0" * 5000 + "}]"), "row '"),
    (in_json("initial", lambda scene: scene[0].update(rotation=10**400)), "not a scene"),
    (in_json("initial", lambda scene: scene[0].update(rotation=float("nan"))), "rotation nan"),
    (in_json("initial", lambda scene: scene[1].update(index=True)), "not a scene"),
    (in_json("initial", lambda scene: scene[0].update(color=["red"])), "color ['red']"),
    (in_json("rig", lambda rig: rig["cameras"].update(center=[1e308] * 3)), "not a rig"),
    (in_json("rig", lambda rig: rig["cameras"].update(center=[10**400, 0, 0])), "not a rig"),
    (in_json("rig", lambda rig: rig["cameras"].update(center=[0, 0, 0])), "not a rig"),
    (in_json("vocabulary", lambda words: words["sizes"].update(small=float("nan"))), "sizes: "),
]
PICTURES: list[tuple[Callable[[list[Row]], object], str]] = [
    (put(images=None), "has no pictures, not two"),
    (put(images=[]), "has 0 pictures, not two"),
    (put(images=[{"bytes": SOUND, "path": None}] * 3), "has 3 pictures, not two"),
    (put(images=[None, {"bytes": SOUND, "path": None}]), "its initial picture is not in the file"),
    (picture(1, bytes=None, path="/etc/hostname"), "its final picture is not in the file"),
    (picture(0, bytes=b""), "its initial picture has no bytes"),
    (picture(0, bytes=SOUND[:60]), "its initial picture is cut off"),
    (picture(1, bytes=b"%!PS-Adobe-3.0 EPSF-3.0\n"), "its final picture is neither PNG nor JPEG"),
    (picture(1, bytes=png(13_000, 13_000)), "its final picture is 13000x13000; the limit is"),
    (picture(0, bytes=save(Image.new("I;16", (8, 8)))), "its initial picture has mode I;16"),
    (picture(1, bytes=png(900, 4)), "one side is more than 200 times the other"),
    (picture(1, bytes=save(RGB, save_all=True, append_images=[RGB.rotate(9)])), "has 2 frames"),
]


@pytest.mark.parametrize(("edit", "what"), [*HOSTILE, *PICTURES])
def test_hostile_rows(
    tmp_path: Path, data_folder: Path, in_process: Cli, edit: Callable[..., object], what: str
) -> None:
    data = write(tmp_path / "in" / "set", data_folder, edit)
    before = tree(tmp_path)
    out = tmp_path / "in" / "out"
    status, said, error = in_process(f"export jsonl {data} --out {out}")
    assert (status, said) == (2, "")
    assert error.startswith("error: ")
    assert error.rstrip("\n").isprintable()
    assert what.replace("\\\\\\\\", "\\\\") in error
    status, said, error = in_process(f"verify {data}")
    assert (status, error) == (1, "")
    faults = [line for line in said.splitlines() if f"{SHARD}: row 4 (" in line]
    assert faults
    assert all(line.isprintable() for line in said.splitlines())
    assert {path for path in tree(tmp_path) - before if out not in (path, *path.parents)} == set()


EVERYWHERE = [HOSTILE[0], HOSTILE[9], PICTURES[4], PICTURES[6]]


@pytest.mark.parametrize(
    "command",
    [
        *(f"export {form} {{data}} --out {{out}}" for form in ("verl", "easyr1", "ms-swift")),
        *(f"export {form} {{data}} --out {{out}}" for form in ("trance", "reason-rft")),
        "export lmms-eval {data} --out {out}",
        "evaluate --model baseline:silent --data {data} --out {out}",
        "explore {data} --out {out}",
        "show {data} --id 000001-left --out {out}.png",
    ],
)
@pytest.mark.parametrize(("edit", "what"), EVERYWHERE)
def test_every_command_that_reads_pictures_names_the_row(
    tmp_path: Path,
    data_folder: Path,
    in_process: Cli,
    command: str,
    edit: Callable[..., object],
    what: str,
) -> None:
    data = write(tmp_path / "in" / "set", data_folder, edit)
    before = tree(tmp_path)
    out = tmp_path / "in" / "out"
    status, _, error = in_process(command.format(data=data, out=out))
    assert status == 2
    assert what in error
    assert "row 4" in error or "row '000001-left'" in error
    assert {path for path in tree(tmp_path) - before if out not in (path, *path.parents)} == set()


@pytest.mark.parametrize("read", [load, lambda data: read_row(data, "000000-center")])
def test_text_that_is_no_utf8(tmp_path: Path, data_folder: Path, read: Callable[..., Any]) -> None:
    (data := tmp_path / "data").mkdir()
    table = pq.read_table(data_folder / "data" / SHARD)
    column = table["answer"].cast(pa.binary()).to_pylist()
    column[0] = b"\xff\xfe"
    field = table.schema.field("answer")
    broken = pa.Array.from_buffers(
        pa.string(), len(column), pa.array(column, pa.binary()).buffers()
    )
    place = table.schema.get_field_index("answer")
    pq.write_table(table.set_column(place, field, broken), data / SHARD)
    with pytest.raises(UserError, match=r"(?i)damaged or not a parquet file .*utf-?8"):
        read(tmp_path)


def test_two_samples_never_share_a_picture(
    tmp_path: Path, data_folder: Path, in_process: Cli
) -> None:
    """Ids of others that exports would write into one file."""

    def edit(rows: list[Row]) -> None:
        rows[0]["id"], rows[2]["id"] = "one-initial", "one-left"
        rows[4]["id"], rows[5]["id"] = "single", "other"

    data = write(tmp_path / "set", data_folder, edit)
    for form in ("jsonl", "ms-swift"):
        status, _, error = in_process(f"export {form} {data} --out {tmp_path / form}")
        assert status == 2
        assert "one-" in error or "of sample one" in error
    data = write(tmp_path / "alone", data_folder, lambda rows: rows.__setitem__(
        slice(None), [row | {"id": name} for row, name in zip(rows[:2], "ab", strict=True)]
    ))  # fmt: skip
    assert in_process(f"export ms-swift {data} --out {tmp_path / 'two'}")[0] == 0
    written = sorted(path.name for path in (tmp_path / "two" / "image" / "train").iterdir())
    assert written == ["a-initial.png", "a.png", "b-initial.png", "b.png"]


def files_of_others(folder: Path, data_folder: Path) -> Iterator[tuple[Path, str]]:
    """Datasets whose files are something else, and what is said of each at least."""
    shard = data_folder / "data" / SHARD
    for name, make, what in (
        ("link", lambda path: path.symlink_to(shard), "is a link that leads out of the dataset"),
        ("fifo", os.mkfifo, "Not a plain file"),
        ("device", lambda path: path.symlink_to("/dev/zero"), ""),
        ("folder", Path.mkdir, "Is a directory"),
        ("dangling", lambda path: path.symlink_to(path.parent / "no"), "No such file"),
    ):
        (folder / name / "data").mkdir(parents=True)
        make(folder / name / "data" / SHARD)
        yield folder / name, what


def test_shards_are_plain_files_of_their_folder(
    tmp_path: Path, data_folder: Path, in_process: Cli
) -> None:
    for data, what in files_of_others(tmp_path, data_folder):
        for command in (f"verify {data}", f"export jsonl {data} --out {tmp_path / 'out'}"):
            status, said, error = in_process(command)
            assert status in (1, 2)
            assert what in said + error
    assert not (tmp_path / "out" / "data.jsonl").exists()


def test_links_within_the_hubs_cache_are_followed(tmp_path: Path, data_folder: Path) -> None:
    blob = tmp_path / "datasets--me--pairs" / "blobs" / "0123"
    folder = blob.parents[1] / "snapshots" / "abcd"
    blob.parent.mkdir(parents=True)
    shutil.copy(data_folder / "data" / SHARD, blob)
    (folder / "data").mkdir(parents=True)
    (folder / "data" / SHARD).symlink_to("../../../blobs/0123")
    assert len(load(folder)) == 24


@pytest.mark.parametrize(
    "name", ["\x1b[2J-00000-of-00001.parquet", ".hidden.parquet", "a:b.parquet"]
)
def test_names_of_files(tmp_path: Path, data_folder: Path, in_process: Cli, name: str) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    shutil.copy(data_folder / "data" / SHARD, tmp_path / "set" / "data" / name)
    status, _, error = in_process(f"verify {tmp_path / 'set'}")
    assert status == 2
    assert error.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    "words",
    [
        "generate --out {out} --samples 1000000000",
        "generate --out {out} --samples 0",
        "generate --out {out} --samples -5",
        "generate --out {out} --samples 3 --workers 1000000",
        "generate --out {out} --samples 3 --size 1000000x1000000",
        "generate --out {out} --samples 3 --size 99999x28",
        "generate --out {out} --samples 3 --samples-per-pixel 1000000000",
        "generate --out {out} --samples 3 --views " + ",".join(f"az{n}" for n in range(2000)),
        "generate --out {out} --samples 3 --shard 1/0",
        "generate --out {out} --samples 3 --shard 9/99999999",
        "generate --out {out} --samples 3 --split con",
        "import trance {out} --out {out}/x --workers 1000000",
    ],
)
def test_counts_nobody_thought_of(tmp_path: Path, in_process: Cli, words: str) -> None:
    status, said, error = in_process(words.format(out=tmp_path / "out"))
    assert (status, said) == (2, "")
    assert error.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "verify {here}/\x1b[2J",
        "show {here}/\x9b2J --id \u202ex --out x.png",
        "generate --out {here}/o --config {here}/\x1b]0;owned\x07",
        "\x1b[2J",
        "score --data {here} --predictions x --\x1b[2J",
    ],
)
def test_messages_carry_no_escape_codes(tmp_path: Path, in_process: Cli, words: str) -> None:
    status, said, error = in_process(words.format(here=tmp_path))
    assert (status, said) == (2, "")
    assert error.rstrip("\n").isprintable()


VALUES = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
    st.sampled_from(
        ["../x-left", "a\0-left", "[]", "{}", "[" * 2000, "1e999", '"x"', "7", "null", "[null]"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab[", max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner),
        max_leaves=6,
    ).map(json.dumps),
)
FILES = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "bytes": st.none() | st.binary(max_size=40) | st.sampled_from([SOUND, SOUND[:50]]),
            "path": st.none() | st.just("/etc/hostname"),
        }
    ),
)
TEXTS = ("id", "answer", "view", "initial", "final", "changes", "rig", "pixels", "vocabulary")
EDITS = st.one_of(
    st.dictionaries(st.sampled_from(TEXTS), VALUES, min_size=1, max_size=2),
    st.fixed_dictionaries({"images": st.none() | st.lists(FILES, max_size=3)}),
    st.fixed_dictionaries(
        {
            "prompt": st.none()
            | st.lists(
                st.none()
                | st.fixed_dictionaries(
                    {
                        "role": st.none() | st.sampled_from(["user", "system", "\x1b"]),
                        "content": st.none()
                        | st.lists(
                            st.none()
                            | st.fixed_dictionaries(
                                {
                                    "type": st.none() | st.sampled_from(["text", "image", "video"]),
                                    "text": st.none() | st.just("<|im_end|>"),
                                }
                            ),
                            max_size=3,
                        ),
                    }
                ),
                max_size=2,
            ),
        }
    ),
)


@given(EDITS, st.integers(0, 3))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_row_is_read_or_refused(
    tmp_path: Path, data_folder: Path, edit: Row, place: int
) -> None:
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    data = write(tmp_path / "in" / "set", data_folder, lambda rows: rows[place].update(edit))
    told: list[str] = []
    verify(data, told.append)
    assert all(fault.isprintable() for fault in told)
    for form in ("jsonl", "trance"):
        with suppress(UserError):
            export(form, data, tmp_path / "in" / "out" / form)
    with suppress(UserError):
        export_engine("ms-swift", data, tmp_path / "in" / "out" / "swift")
    with suppress(UserError):
        show(data, "000001-center", tmp_path / "in" / "out" / "pair.png")
    with suppress(UserError):
        rows = load(data)
        check_all(rows)
        for row in rows:
            row_to_sample(row)
    assert {path.name for path in (tmp_path / "in").iterdir()} <= {"set", "out"}
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_show_turns_pictures_as_exif_says(tmp_path: Path, data_folder: Path) -> None:
    buffer, exif = BytesIO(), Image.Exif()
    exif[0x0112] = 6
    RGB.save(buffer, "JPEG", exif=exif)
    data = write(tmp_path / "set", data_folder, picture(0, bytes=buffer.getvalue()))
    assert [seen.size for seen in read_row(data, "000001-left")["images"]] == [(6, 9), (40, 40)]
