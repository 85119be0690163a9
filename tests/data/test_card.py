import json
from pathlib import Path

import pytest
import yaml

from star_r1.data.card import FIELDS, Origin, write_card
from star_r1.data.counts import COUNTED, count
from star_r1.data.dataset import EXTRA_FEATURES, FEATURES, read_columns


def test_every_column_is_documented() -> None:
    assert list(FIELDS) == [*FEATURES, *EXTRA_FEATURES]


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
    red = sum(c["value"] == "red" for some in changes for c in some)
    assert "| rows by view | center: 5, left: 5, right: 5 |" in card
    assert f"color: {colors}" in card.partition("| changes by attribute |")[2].splitlines()[0]
    assert (f"color.red: {red}, " in card) == bool(red)
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
    row = next(read_columns(rendered, COUNTED))
    card = write_card({"train": count([row] * rows)}, Origin("Pairs", "Mine.", "make"))
    assert f"\n- {category}\n" in card


def test_every_split_has_its_files_and_its_column(rendered: Path) -> None:
    counts = count(read_columns(rendered, COUNTED))
    origin = Origin("Pairs", "Mine.", "make pairs", "cc-by-nc-4.0")
    card = write_card({"train": counts, "test": counts}, origin)
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "cc-by-nc-4.0"
    assert header["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train-*"},
        {"split": "test", "path": "data/test-*"},
    ]
    assert "| what | train | test |\n|---|---|---|" in card
    assert "| rows by view | center: 5, left: 5, right: 5 | center: 5, left: 5, right: 5 |" in card
    assert "10 samples, 30 rows" in card


def test_only_the_columns_that_are_there(rendered: Path) -> None:
    counts = {"train": count(read_columns(rendered, COUNTED))}
    origin = Origin("Pairs", "Mine.", "make pairs")
    assert "| `depth` |" in write_card(counts, origin, ("depth",))
    assert "| `depth` |" not in write_card(counts, origin, ("masks",))
