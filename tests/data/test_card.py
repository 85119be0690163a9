import json
from pathlib import Path

import pytest
import yaml

from star_r1.data.card import FIELDS, write_card
from star_r1.data.dataset import FEATURES, read_columns


def test_every_column_is_documented() -> None:
    assert list(FIELDS) == list(FEATURES)


def test_header_is_yaml_that_finds_the_shards(rendered: Path) -> None:
    _, header, text = (rendered / "README.md").read_text().split("---\n", 2)
    parsed = yaml.safe_load(header)
    (files,) = parsed["configs"][0]["data_files"]
    assert files["split"] == "train"
    assert len(list(rendered.glob(files["path"]))) == 3
    for name in FEATURES:
        assert f"\n| `{name}` |" in text


def test_counts_are_those_of_the_rows(rendered: Path) -> None:
    card = (rendered / "README.md").read_text()
    rows = list(read_columns(rendered, ["view", "changes"]))
    changes = [json.loads(row["changes"]) for row in rows if row["view"] == "center"]
    colors = sum(c["attribute"] == "color" for some in changes for c in some)
    assert "| rows by view | center: 5, left: 5, right: 5 |" in card
    assert f"| changes by attribute | color: {colors}, " in card
    single = sum(len(some) == 1 for some in changes)
    assert f"| samples by changes | 1: {single}, " in card


def test_no_trace_of_time_or_place(rendered: Path) -> None:
    card = (rendered / "README.md").read_text()
    assert str(rendered.parent) not in card
    assert "--out DIR" in card


@pytest.mark.parametrize(
    ("rows", "category"), [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K")]
)
def test_size_category(rendered: Path, rows: int, category: str) -> None:
    row = next(read_columns(rendered, ["id", "view", "initial", "changes"]))
    assert f"\n- {category}\n" in write_card([row] * rows, "train", "command")
