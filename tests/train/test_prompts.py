"""A picture that cannot be used names its row in every kind of training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_r1.data.dataset import shards
from star_r1.errors import UserError
from star_r1.train import grpo, sft


def write(folder: Path, data: Path, change: Callable[[bytes], bytes]) -> Path:
    """``data`` with something done to the initial picture of each row."""
    (path,) = shards(data)
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        row["images"][0]["bytes"] = change(row["images"][0]["bytes"])
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / "data" / path.name)
    return folder


@pytest.fixture(params=["grpo", "grpo --share_prompts false", "sft"])
def train(request: Any, model_folder: Path, tmp_path: Path) -> Callable[[Path], int]:
    name, *more = request.param.split()
    main = {"grpo": grpo.main, "sft": sft.main}[name]
    if name == "grpo":
        more += ["--num_generations", "2", "--max_completion_length", "2"]

    def run(data: Path) -> int:
        flags: Sequence[str] = [
            *("--model", str(model_folder), "--data", str(data)),
            *("--output_dir", str(tmp_path / "run"), "--use_cpu", "--report_to", "none"),
            *("--max_steps", "1", "--per_device_train_batch_size", "2", *more),
        ]
        return main(flags)

    return run


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda png: png[:60], "is cut off"),
        (lambda png: png[:100] + bytes(400) + png[500:], "is damaged"),
    ],
)
def test_a_picture_that_cannot_be_used(
    train: Callable[[Path], int],
    data_folder: Path,
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    what: str,
) -> None:
    data = write(tmp_path / "set", data_folder, change)
    with pytest.raises(UserError, match=rf"^row '0000\d\d-center': its initial picture {what}"):
        train(data)
