"""The rows to train on: counted, or assumed from the recipe that would make them."""

from pathlib import Path

import pytest

from star_r1.data.dataset import load
from star_r1.data.pictures import read_pair
from star_r1.errors import UserError
from star_r1.model.loading import load_processor
from star_r1.model.published import published_config
from star_r1.train.rows import Rows, example_answers, measure_prompt, read_rows
from star_r1.tvr.change import parse_changes

RECIPES = Path(__file__).parents[2] / "recipes" / "data"


def test_rows_that_are_there(data_folder: Path) -> None:
    rows = read_rows(data_folder, ["center"], RECIPES)
    assert (rows.count, rows.views, rows.size) == (12, {"center": 12, "left": 12}, (40, 40))
    assert set(rows.columns) == set(load(data_folder).column_names)
    assert rows.example["id"] == load(data_folder)[0]["id"]
    assert not rows.missing
    assert read_rows(data_folder, ["center", "left"], RECIPES).count == 24


@pytest.mark.parametrize(
    ("folder", "views", "count", "how"),
    [
        ("data/trance9k/train", ["center"], 9000, "--config {}/trance9k.yaml --out data/trance9k"),
        ("data/trance9k/test", ["center", "left"], 2000, "--out data/trance9k"),
        ("data/trance9k/test", ["top"], 0, "--out data/trance9k"),
        ("data/mine", ["center"], None, "--samples N --out data/mine"),
    ],
)
def test_rows_to_come(folder: str, views: list[str], count: int | None, how: str) -> None:
    rows = read_rows(Path(folder), views, RECIPES)
    assert rows.count == count
    assert rows.missing.endswith(how.format(RECIPES))
    assert rows.size == (320, 240)
    assert not rows.columns


def test_a_folder_of_several_splits_is_found_by_its_split(data_folder: Path) -> None:
    assert read_rows(data_folder / "train", ["center"], RECIPES).count == 12
    assert read_rows(data_folder / "test", ["center"], RECIPES).missing


def test_what_is_there_and_wrong(data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no row has view 'top'; it holds center, left"):
        read_rows(data_folder, ["top"], RECIPES)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="damaged or not a parquet file"):
        read_rows(tmp_path, ["center"], RECIPES)


def test_longest_prompt_is_counted_by_the_processor(data_folder: Path, model_folder: Path) -> None:
    rows = read_rows(data_folder, ["center"], RECIPES)
    prompt = measure_prompt(
        rows, str(model_folder), published_config(str(model_folder)), None, None
    )
    processor = load_processor(str(model_folder))
    lengths = [
        processor(
            text=processor.apply_chat_template(row["prompt"], add_generation_prompt=True),
            images=read_pair(row),
            return_tensors="pt",
        )
        for row in load(data_folder, ["center"])
    ]
    assert prompt.tokens == max(batch["input_ids"].shape[1] for batch in lengths)
    assert prompt.patches == lengths[0]["pixel_values"].shape[0]
    assert prompt.how == "counted by the processor"


@pytest.mark.parametrize(
    ("name", "pixels", "visual"),
    [
        # 320 x 240 becomes 11 x 9 cells of 28 pixels, or 10 x 8 (or 7) of 32; two pictures
        ("Qwen/Qwen2.5-VL-7B-Instruct", None, 198),
        ("Qwen/Qwen3-VL-8B-Instruct", None, 160),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 28 * 28 * 12, 24),
    ],
)
def test_without_a_processor_it_is_estimated(name: str, pixels: int | None, visual: int) -> None:
    rows = read_rows(Path("data/trance9k/train"), ["center"], RECIPES)
    prompt = measure_prompt(rows, name, published_config(name), None, pixels)
    characters = sum(
        len(part.get("text") or "") for turn in rows.longest[0] for part in turn["content"]
    )
    assert prompt.tokens == visual + round(characters / 3.5) + 30
    assert prompt.patches == 4 * visual
    assert prompt.how.startswith("estimated")


def test_example_answers() -> None:
    said = example_answers({"answer": "2.size.small, 3.shape.cube"})
    counts = [0 if text == "none" else len(parse_changes(text)) for text in said.values()]
    assert counts == [2, 0, 6]
    assert set(example_answers({"answer": ""}).values()) == {"none"}


def test_assumed_prompts_are_no_shorter_than_drawn_ones(data_folder: Path) -> None:
    def characters(rows: Rows) -> int:
        return sum(len(p.get("text") or "") for turn in rows.longest[0] for p in turn["content"])

    drawn = characters(read_rows(data_folder, ["center"], RECIPES))
    assert characters(read_rows(Path("nowhere"), ["center"], RECIPES)) > drawn
