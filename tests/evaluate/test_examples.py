"""Examples: varied, the same for a seed, and never what is asked."""

from pathlib import Path

import numpy as np
import pytest

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.data.shards import encode_png, make_row, to_parquet
from star_r1.errors import UserError
from star_r1.evaluate.examples import choose_examples
from star_r1.tvr.prompt import build_prompt
from star_r1.tvr.sample import Sample
from star_r1.tvr.vocabulary import ATTRIBUTES

PNG = encode_png(np.zeros((28, 28, 3), np.uint8))


def samples_of(folder: Path) -> list[Sample]:
    return [row_to_sample(row) for row in read_columns(folder, SAMPLE_COLUMNS)]


def write(folder: Path, samples: list[Sample]) -> Path:
    (folder / "data").mkdir(parents=True)
    rows = [make_row(sample, (PNG, PNG), {}) for sample in samples]
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(to_parquet(rows))
    return folder


def test_examples_are_varied(data_folder: Path) -> None:
    chosen = [row_to_sample(row) for row in choose_examples(data_folder, 4)]
    assert len({sample.initial for sample in chosen}) == 4
    assert sorted(len(sample.changes) for sample in chosen) == [1, 1, 2, 2]
    assert {c.attribute for s in chosen for c in s.changes} == set(ATTRIBUTES)


def test_fewer_are_the_first_of_more_and_a_seed_decides(data_folder: Path) -> None:
    ids = [[row["id"] for row in choose_examples(data_folder, k, 5)] for k in (0, 1, 3, 5)]
    assert ids[0] == []
    assert ids[3][:1] == ids[1]
    assert ids[3][:3] == ids[2]
    assert len({tuple(r["id"] for r in choose_examples(data_folder, 2, s)) for s in range(8)}) > 1


def test_pictures_come_with_them(data_folder: Path) -> None:
    row = choose_examples(data_folder, 1)[0]
    assert [picture.mode for picture in row["images"]] == ["RGB", "RGB"]


def test_no_scene_that_is_asked_is_shown(data_folder: Path, tmp_path: Path) -> None:
    every = samples_of(data_folder)
    # Other ids and another view do not hide a scene that is shown.
    asked = [
        Sample(f"asked-{s.id}", s.initial, s.changes, "right", s.rig)
        for s in every[:-6]
        if s.view == "center"
    ]
    evaluated = write(tmp_path / "test", asked)
    chosen = choose_examples(data_folder, 3, evaluated=evaluated)
    assert {row["id"].partition("-")[0] for row in chosen} == {
        s.id.partition("-")[0] for s in every[-6:]
    }
    with pytest.raises(UserError, match=r"3 scenes that are not in .*, too few for 4 examples; "):
        choose_examples(data_folder, 4, evaluated=evaluated)


def test_the_evaluated_dataset_is_refused(data_folder: Path) -> None:
    with pytest.raises(UserError, match=r": 0 scenes that are not in .*; name another dataset or"):
        choose_examples(data_folder, 1, evaluated=data_folder)


def test_examples_have_the_vocabulary_that_is_asked(data_folder: Path, moves_folder: Path) -> None:
    with pytest.raises(UserError, match=r": 0 scenes that are not in .* and have its vocabulary"):
        choose_examples(data_folder, 1, evaluated=moves_folder)


def test_in_examples_nothing_changes_twice(moves_folder: Path, tmp_path: Path) -> None:
    first, *others = samples_of(moves_folder)
    once = first.changes
    back = (*once, type(once[0])(once[0].index, "position", "behind.1"))
    folder = write(tmp_path / "set", [Sample("back", first.initial, back, rig=first.rig)])
    with pytest.raises(UserError, match=": 0 scenes, too few for 1 examples"):
        choose_examples(folder, 1)
    example = row_to_sample(choose_examples(moves_folder, 1)[0])
    assert len(build_prompt(others[-1], "think", [example])) == 4


def test_no_negative_number(data_folder: Path) -> None:
    with pytest.raises(UserError, match=r"^-1 examples: give a number of 0 or more$"):
        choose_examples(data_folder, -1)


def test_an_example_with_a_broken_picture_is_named(data_folder: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "set" / "data").mkdir(parents=True)
    rows = [make_row(s, (PNG, PNG[:50]), {}) for s in samples_of(data_folder)[:1]]
    (folder / "train-00000-of-00001.parquet").write_bytes(to_parquet(rows))
    with pytest.raises(UserError, match=f"row '{rows[0]['id']}': its final picture is cut off"):
        choose_examples(folder.parent, 1)
