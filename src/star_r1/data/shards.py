"""What a dataset folder is made of: pictures as PNG, samples as rows, rows as parquet."""

import io
import json
import zlib
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features
from numpy.typing import NDArray
from PIL import Image

from star_r1.data.dataset import EXTRA_FEATURES, FEATURES
from star_r1.tvr.change import format_changes
from star_r1.tvr.prompt import build_prompt
from star_r1.tvr.sample import Sample

Row: TypeAlias = dict[str, Any]
"""A value for each column of ``FEATURES``, and for some of ``EXTRA_FEATURES``."""

_PNG: Final = {"compress_level": 6, "compress_type": zlib.Z_RLE}
"""Looking for runs alone takes a quarter of the time on rendered pictures, and 5 % more room."""

DEPTH_UNIT: Final = 0.001
"""World units a step of the depth pictures."""
DEPTH_LIMIT: Final = 65535
"""The value of a depth pixel that shows nothing, or something at least so many steps away."""


def make_row(
    sample: Sample, pictures: tuple[bytes, bytes], pixels: dict[str, dict[int, int]]
) -> Row:
    """The row of a sample, without the columns that are there only on demand.

    Args:
        sample: its ``id`` is the row's, its ``view`` that of the final picture.
        pictures: the initial and the final one, each a whole PNG file.
        pixels: ``initial`` and ``final`` -> index of each visible object -> its mask pixels in
            that picture at 320x240.
    """
    return {
        "id": sample.id,
        "images": images(pictures),
        "prompt": build_prompt(sample),
        "answer": format_changes(sample.changes),
        "view": sample.view,
        "initial": sample.initial.to_json(),
        "final": sample.final.to_json(),
        "changes": to_json([change.to_dict() for change in sample.changes]),
        "rig": sample.rig.to_json(),
        "pixels": to_json(pixels),
        "vocabulary": sample.vocabulary.to_json(),
    }


def images(files: Sequence[bytes]) -> list[dict[str, Any]]:
    """PNG files as a value of a column of pictures."""
    return [{"bytes": file, "path": None} for file in files]


def to_json(value: Any) -> str:
    """JSON on one line, without spaces."""
    return json.dumps(value, separators=(",", ":"))


def encode_png(picture: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A PNG file, the same bytes for the same picture.

    Args:
        picture: uint8 of shape (height, width, 3) in sRGB; or grey, uint8 or uint16, of shape
            (height, width).

    >>> encode_png(np.zeros((2, 3), np.uint16))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", **_PNG)
    return buffer.getvalue()


def encode_depth(depth: NDArray[np.float64]) -> bytes:
    """A grey PNG file of 16 bits, in steps of ``DEPTH_UNIT``, at most ``DEPTH_LIMIT``.

    Args:
        depth: world units, shape (height, width); inf where there is nothing.
    """
    steps = np.minimum(np.rint(depth / DEPTH_UNIT), DEPTH_LIMIT)
    return encode_png(steps.astype(np.uint16))


def to_parquet(rows: Sequence[Row]) -> bytes:
    """A parquet file with one row group, the same bytes for the same rows.

    The features of ``datasets`` are in its metadata, so that pictures decode. Its columns are
    ``FEATURES`` and those of ``EXTRA_FEATURES`` that the first row has.

    Args:
        rows: of one shard; none where an import had to leave all of its samples out.
    """
    extra = {name: kind for name, kind in EXTRA_FEATURES.items() if rows and name in rows[0]}
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=Features({**FEATURES, **extra}).arrow_schema)
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression="zstd",
        compression_level=3,
        # All that can alter the bytes is said here, not left to a default. The dictionary holds
        # the initial picture, which is in the row of every view, once.
        use_dictionary=True,
        dictionary_pagesize_limit=1 << 30,
        write_statistics=False,
        version="2.6",
        data_page_version="1.0",
    ) as writer:
        if rows:  # `datasets` cannot read a row group without rows
            writer.write_table(table, row_group_size=len(rows))
    return buffer.getvalue()
