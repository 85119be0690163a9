import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from star_r1.data.dataset import EXTRA_FEATURES, FEATURES, row_to_sample
from star_r1.data.shards import DEPTH_LIMIT, encode_depth, encode_png, images, make_row, to_parquet
from star_r1.tvr import Object, Sample, Scene, parse_changes
from star_r1.tvr.vocabulary import TRANCE


@pytest.fixture
def row() -> dict:
    things = (Object(i, "red", "cube", "small", "metal", (8 * i - 38, 0)) for i in range(10))
    changes = parse_changes("3.position.left.1, 3.position.left.1, 4.color.cyan", TRANCE)
    sample = Sample("x-left", Scene(tuple(things), TRANCE), changes, "left")
    pictures = encode_png(np.zeros((2, 3, 3), np.uint8)), encode_png(np.ones((2, 3, 3), np.uint8))
    return make_row(sample, pictures, {"initial": {3: 7}, "final": {3: 0}})


def test_a_row_gives_back_its_sample(row: dict) -> None:
    sample = row_to_sample(row)
    assert row["answer"] == "3.position.left.1, 3.position.left.1, 4.color.cyan"
    assert sample.final.to_json() == row["final"]
    assert json.loads(row["pixels"]) == {"initial": {"3": 7}, "final": {"3": 0}}
    assert list(row) == list(FEATURES)


@pytest.mark.parametrize(
    "picture",
    [
        np.arange(18, dtype=np.uint8).reshape(2, 3, 3),
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.array([[0, 255, 256], [65535, 1, 2]], np.uint16),
    ],
)
def test_a_picture_comes_back(picture: np.ndarray) -> None:
    decoded = np.asarray(Image.open(io.BytesIO(encode_png(picture))))
    assert decoded.dtype == picture.dtype
    assert (decoded == picture).all()


def test_depth_in_thousandths() -> None:
    depth = np.array([[0.0, 1.0004, 11.5], [65.534, 70.0, np.inf]])
    decoded = np.asarray(Image.open(io.BytesIO(encode_depth(depth))))
    assert decoded.tolist() == [[0, 1000, 11500], [65534, DEPTH_LIMIT, DEPTH_LIMIT]]


@pytest.mark.parametrize("extras", [(), ("depth",), ("masks", "boxes")])
def test_a_shard_has_the_columns_of_its_rows(row: dict, extras: tuple[str, ...]) -> None:
    pair = images([encode_png(np.zeros((2, 3), np.uint8))] * 2)
    more = {name: "{}" if name == "boxes" else pair for name in extras}
    data = to_parquet([row | more, row | more])
    assert data == to_parquet([row | more, row | more])
    table = pq.read_table(io.BytesIO(data))
    assert table.column_names == [*FEATURES, *(name for name in EXTRA_FEATURES if name in extras)]
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == 1
    loaded = Dataset(table)
    assert [picture.size for picture in loaded[1]["images"]] == [(3, 2)] * 2
