import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_r1.data.dataset import (
    FEATURES,
    SAMPLE_COLUMNS,
    load,
    read_columns,
    read_row,
    row_to_sample,
    shards,
)
from star_r1.data.pictures import read_pair
from star_r1.errors import UserError
from star_r1.tvr import build_prompt, format_changes, parse_changes
from star_r1.tvr.vocabulary import VIEWS, camera_position

ROWS = 15
FIRST = "data/train-00000-of-00003.parquet"


def without_nulls(messages: list[dict]) -> list[dict]:
    return [
        m | {"content": [{k: v for k, v in p.items() if v is not None} for p in m["content"]]}
        for m in messages
    ]


def test_a_row_gives_back_its_sample(rendered: Path) -> None:
    rows = load(rendered)
    assert (len(rows), rows.column_names) == (ROWS, list(FEATURES))
    for row in rows:
        sample = row_to_sample(row)
        assert (sample.id, sample.view) == (row["id"], row["view"])
        assert sample.final.to_json() == row["final"]
        assert sample.initial.to_json() == row["initial"]
        assert format_changes(sample.changes) == row["answer"]
        assert parse_changes(row["answer"]) == sample.changes
        assert without_nulls(row["prompt"]) == build_prompt(sample)
        assert [picture.size for picture in read_pair(row)] == [(56, 42)] * 2
        visible = {str(thing.index) for thing in sample.initial.visible}
        assert [set(seen) for seen in json.loads(row["pixels"]).values()] == [visible] * 2


def test_plain_load_dataset_decodes_the_pictures(rendered: Path, tmp_path: Path) -> None:
    import datasets

    by_folder = datasets.load_dataset(str(rendered), split="train", cache_dir=str(tmp_path))
    by_files = datasets.load_dataset(
        "parquet", data_files=str(rendered / "data/*.parquet"), cache_dir=str(tmp_path)
    )["train"]
    for rows in (by_folder, by_files):
        assert rows.features == FEATURES
        assert rows["id"][:4] == ["000000-center", "000000-left", "000000-right", "000001-center"]
        assert [(image.size, image.mode) for image in rows[1]["images"]] == [((56, 42), "RGB")] * 2


def test_streaming(rendered: Path) -> None:
    import datasets

    rows = datasets.load_dataset(str(rendered), split="train", streaming=True)
    first = next(iter(rows))
    assert first["id"] == "000000-center"
    assert [image.size for image in first["images"]] == [(56, 42)] * 2
    assert [row["id"] for row in rows] == list(load(rendered)["id"])


@pytest.mark.parametrize("views", [("center",), ("left", "right"), ("right", "left"), VIEWS])
def test_views(rendered: Path, views: tuple[str, ...]) -> None:
    rows = load(rendered, views)
    assert list(rows["id"]) == [
        f"{n:06d}-{view}" for n in range(5) for view in VIEWS if view in views
    ]


def test_unknown_view(rendered: Path) -> None:
    with pytest.raises(UserError, match=r"no row has view 'top'; it holds center, left, right$"):
        load(rendered, ("center", "top"))


def test_progress_bars_of_datasets_stay_as_they_were(rendered: Path) -> None:
    from datasets.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    for disabled, switch in ((False, enable_progress_bars), (True, disable_progress_bars)):
        switch()
        load(rendered)
        assert are_progress_bars_disabled() == disabled
    enable_progress_bars()


def drop(column: str) -> Callable[[Path], None]:
    return lambda shard: pq.write_table(pq.read_table(shard).drop_columns(column), shard)


def retype(column: str, values: list[object]) -> Callable[[Path], None]:
    def damage(shard: Path) -> None:
        table = pq.read_table(shard)
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, pa.array(values * len(table))), shard)

    return damage


def spoil_pages(shard: Path) -> None:
    """Overwrite data but not the footer."""
    data = bytearray(shard.read_bytes())
    data[100:5000] = bytes(4900)
    shard.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: os.truncate(shard, 5000), "damaged or not a parquet file"),
        (lambda shard: os.truncate(shard, 0), "damaged or not a parquet file"),
        (spoil_pages, "damaged or not a parquet file"),
        (lambda shard: shard.write_text("no parquet at all"), "damaged or not a parquet file"),
        (drop("rig"), "no column 'rig'"),
        (drop("images"), "no column 'images'"),
        (retype("changes", [1]), "column 'changes' is int64, not string"),
    ],
)
def test_a_damaged_file_is_named(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy / FIRST)
    for read in (load, lambda folder: read_row(folder, "000001-left")):
        with pytest.raises(UserError) as error:
            read(copy)
        assert str(error.value).startswith(f"{copy / FIRST}: {message}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: folder.rename(folder.with_name("moved")), "no such folder"),
        (lambda folder: (folder / "data").rename(folder / "other"), "no data/[*].parquet in it"),
        (lambda folder: (folder / FIRST).unlink(), "2 of 3 shards; run its"),
    ],
)
def test_a_missing_part_is_named(
    copy: Path, prepare: Callable[[Path], object], message: str
) -> None:
    prepare(copy)
    with pytest.raises(UserError, match=message):
        load(copy)


def test_extra_columns_and_names_of_other_makers_are_welcome(copy: Path) -> None:
    whole = pa.concat_tables(pq.read_table(path) for path in shards(copy))
    for path in shards(copy):
        path.unlink()
    whole = whole.append_column("note", pa.array(["mine"] * len(whole)))
    pq.write_table(whole, copy / "data" / "everything.parquet")
    assert list(load(copy)["note"]) == ["mine"] * ROWS


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("initial", "[]", "a scene has 10 objects"),
        ("initial", "{", "Expecting property name"),
        ("initial", None, "column 'initial' is None"),
        ("changes", '[{"index": 2, "attribute": "color", "value": "pink"}]', "color 'pink'"),
        ("changes", '[{"index": 2}]', "missing 2 required positional arguments"),
        ("changes", "7", "not iterable"),
        ("view", "top", "view 'top' is not one of"),
        ("vocabulary", None, "column 'vocabulary' is None"),
        ("vocabulary", "[]", "not a mapping of colors"),
        ("vocabulary", '{"attributes": ["shape"]}', "attribute '"),
        ("rig", "[]", "not a rig"),
    ],
)
def test_a_row_that_makes_no_sense(
    rendered: Path, column: str, value: object, message: str
) -> None:
    row = next(read_columns(rendered, SAMPLE_COLUMNS))
    with pytest.raises(UserError, match="row '000000-center': ") as error:
        row_to_sample(row | {column: value})
    assert message in str(error.value)


def test_read_row(rendered: Path) -> None:
    loaded = load(rendered)[10]
    row = read_row(rendered, "000003-left")
    assert row["id"] == loaded["id"]
    assert [p.tobytes() for p in row["images"]] == [p.tobytes() for p in read_pair(loaded)]


def test_the_nearest_ids_are_named(rendered: Path) -> None:
    with pytest.raises(UserError, match="no row has id '000002'; the nearest are 000002-"):
        read_row(rendered, "000002")


def test_read_columns(rendered: Path) -> None:
    rows = list(read_columns(rendered, ["view", "id"]))
    assert len(rows) == ROWS
    assert rows[4] == {"view": "left", "id": "000001-left"}


def test_a_sample_without_its_rig_is_the_same_but_for_the_jitter(moves_folder: Path) -> None:
    for row in read_columns(moves_folder, SAMPLE_COLUMNS):
        whole, bare = row_to_sample(row), row_to_sample({**row, "rig": None}, with_rig=False)
        assert replace(bare, rig=whole.rig) == whole
        assert bare.rig.cameras[row["view"]] == camera_position(row["view"])
    with pytest.raises(UserError, match="view 'above' is unknown"):
        row_to_sample({**row, "view": "above"}, with_rig=False)
