import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from star_r1.data import samples
from star_r1.data.dataset import EXTRA_FEATURES, FEATURES
from star_r1.data.samples import make_rows
from star_r1.data.settings import Settings
from star_r1.data.shards import DEPTH_LIMIT, DEPTH_UNIT
from star_r1.render.visibility import count_pixels, look
from star_r1.tvr import SceneRules
from star_r1.tvr.vocabulary import TRANCE

VIEWS = ("left", "az200", "top")


class Blank:
    """Stands for the renderer, which is not what is tested here."""

    def render(self, *_: Any) -> np.ndarray:
        return np.zeros((42, 56, 3), np.uint8)


@pytest.fixture(autouse=True)
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "open_renderer", lambda *_: Blank())


def settings(**changed: Any) -> Settings:
    rules = SceneRules((4, 6), (2, 3), TRANCE)
    return Settings(**{"samples": 3, "seed": 0, "size": (56, 42), "rules": rules} | changed)


def decode(image: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image["bytes"])))


def test_columns_are_those_asked_for() -> None:
    (row,) = make_rows(settings(views=("left",)), range(1))
    assert list(row) == list(FEATURES)
    (row,) = make_rows(settings(views=("left",), extras=("masks", "boxes", "depth")), range(1))
    assert list(row) == [*FEATURES, *EXTRA_FEATURES]


def test_extras_are_what_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks, boxes and depth of both pictures of each view, against the geometry they come from."""
    drawn = []

    def draw(*arguments: Any) -> Any:
        drawn.append(draw_sample(*arguments))
        return drawn[-1]

    draw_sample = samples.draw_sample
    monkeypatch.setattr(samples, "draw_sample", draw)
    rows = make_rows(settings(views=VIEWS, extras=("masks", "boxes", "depth")), range(2))
    assert [row["id"] for row in rows] == [f"00000{i}-{view}" for i in range(2) for view in VIEWS]
    for row, sample in zip(rows, [drawn[0]] * 3 + [drawn[1]] * 3, strict=True):
        for number, (when, scene, view) in enumerate(
            [("initial", sample.initial, "center"), ("final", sample.final, row["view"])]
        ):
            mask, depth = look(scene, sample.rig, view, (56, 42))
            assert (decode(row["masks"][number]) == mask).all()
            stored = decode(row["depth"][number])
            assert stored.dtype == np.uint16
            seen = stored < DEPTH_LIMIT
            assert np.abs(stored[seen] * DEPTH_UNIT - depth[seen]).max() <= 0.5001 * DEPTH_UNIT
            for index, (x0, y0, x1, y1) in json.loads(row["boxes"])[when].items():
                inside = mask == int(index)
                assert inside[y0:y1, x0:x1].sum() == inside.sum() > 0
                assert inside[y0].any()
                assert inside[:, x1 - 1].any()
            counts = json.loads(row["pixels"])[when]
            assert {int(k): n for k, n in counts.items()} == count_pixels(scene, sample.rig, view)


def test_pixels_do_not_depend_on_the_size() -> None:
    plain = make_rows(settings(), range(2))
    reference = make_rows(settings(size=(320, 240), extras=("masks",)), range(2))
    assert [row["pixels"] for row in plain] == [row["pixels"] for row in reference]


def test_splits_of_one_seed_share_no_scene() -> None:
    train, test = (make_rows(settings(split=split), range(3)) for split in ("train", "test"))
    scenes = {row["initial"] for row in train}
    assert scenes.isdisjoint(row["initial"] for row in test)


def test_any_slice_can_be_made_alone() -> None:
    assert make_rows(settings(), range(1, 3)) == make_rows(settings(), range(3))[3:]
