from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from star_r1.data.dataset import read_row, row_to_sample
from star_r1.data.show import PICTURE_WIDTH, draw_pair, show
from star_r1.errors import UserError
from star_r1.tvr.change import Change


def test_a_picture_is_written(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "pair.png"
    show(rendered, "000001-left", out)
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * PICTURE_WIDTH
        assert picture.height > PICTURE_WIDTH * 42 / 56


def test_pictures_and_labels_are_in_it(rendered: Path) -> None:
    row = read_row(rendered, "000002-right")
    drawn = np.asarray(draw_pair(row_to_sample(row), row["images"])).astype(int)
    plain = [Image.new("RGB", picture.size) for picture in row["images"]]
    without = np.asarray(draw_pair(row_to_sample(row), plain)).astype(int)
    differs = (drawn != without).any(-1)
    # The two pictures, but for the labels drawn on them, and nothing else.
    columns = np.flatnonzero(differs.any(0))
    assert PICTURE_WIDTH * 1.9 < differs.any(0).sum() <= PICTURE_WIDTH * 2
    assert columns[-1] - columns[0] > 2 * PICTURE_WIDTH
    assert (without == (255, 200, 60)).all(-1).any()


def test_unknown_id(rendered: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no row has id '000009-left'; the nearest are 0+\d-left"):
        show(rendered, "000009-left", tmp_path / "pair.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["pair", "pair.txt", "pair.pdf.zip"])
def test_no_image_format(rendered: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"is no image format; name a .png file$"):
        show(rendered, "000001-left", tmp_path / name)


@pytest.mark.parametrize("name", ["000001-center", "000002-top"])
def test_moves_are_shown(moves_folder: Path, tmp_path: Path, name: str) -> None:
    show(moves_folder, name, tmp_path / "pair.png")
    assert (tmp_path / "pair.png").exists()
    sample = row_to_sample(read_row(moves_folder, name))
    blank = [Image.new("RGB", (160, 120))] * 2
    drawn = draw_pair(sample, blank)
    assert drawn != draw_pair(replace(sample, changes=()), blank)


def test_what_comes_into_sight_is_listed(moves_folder: Path) -> None:
    sample = row_to_sample(read_row(moves_folder, "000001-center"))
    blank = [Image.new("RGB", (160, 120))] * 2
    comes = replace(sample, changes=(Change(4, "position", "behind.2"),))
    assert draw_pair(comes, blank).height > draw_pair(replace(sample, changes=()), blank).height
