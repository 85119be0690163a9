import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from star_r1.errors import UserError
from star_r1.files import write_atomic
from star_r1.render.visibility import instance_mask
from star_r1.tvr import STANDARD_RIG, Object, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, VALUES

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from fidelity import classifier, pictures, scores  # noqa: E402
from fidelity.crops import PIXELS, Crops, cut  # noqa: E402
from fidelity.pictures import SIZE, Shot, ShotList  # noqa: E402

NOISE = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


def scene(*things: Object) -> Scene:
    hidden = (Object(i, "red", "cube", "small", "rubber", (40, 40)) for i in range(10))
    return Scene((*things, *list(hidden)[len(things) :]))


def shot_of(*things: Object, view: str = "center") -> Shot:
    return Shot(0, scene(*things), STANDARD_RIG, view)


@pytest.mark.parametrize("view", ["center", "left", "right"])
def test_a_crop_tells_nothing_but_where_the_object_stands(view: str) -> None:
    first = Object(0, "red", "cube", "small", "rubber", (5, -8))
    last = Object(0, "blue", "sphere", "large", "glass", (5, -8), rotation=1.0)
    jittered = replace(
        STANDARD_RIG, cameras={v: (x + 0.4, y, z) for v, (x, y, z) in STANDARD_RIG.cameras.items()}
    )
    shots = [shot_of(first, view=view), replace(shot_of(last, view=view), rig=jittered)]
    crops = cut(shots, [NOISE, NOISE])
    assert np.array_equal(crops.pixels[0], crops.pixels[1])
    assert crops.labels.tolist() == [[1, 0, 0, 0], [2, 1, 2, 2]]
    elsewhere = cut([shot_of(replace(first, position=(6, -8)), view=view)], [NOISE])
    assert not np.array_equal(crops.pixels[0], elsewhere.pixels[0])


def test_the_object_is_in_the_middle_of_its_crop() -> None:
    for position in ((-20, -20), (-20, 20), (20, -20), (20, 20), (0, 0)):
        for size in VALUES["size"]:
            shot = shot_of(Object(0, "red", "cylinder", size, "rubber", position))
            mask = instance_mask(shot.scene, STANDARD_RIG, "center", SIZE) == 0
            crop = cut([shot], [np.repeat(mask[..., None] * np.uint8(255), 3, 2)]).pixels[0, 0]
            rows, columns = np.nonzero(crop > 127)
            # Nothing is cut off, but at the border of the picture, where the edge is repeated.
            assert abs(columns.mean() - PIXELS / 2) < 6, (position, size)
            if position != (20, 20):
                assert 0 < rows.min() < PIXELS / 2 < rows.max() + 5 < PIXELS + 4, (position, size)


def test_hidden_and_occluded_objects_give_no_crop() -> None:
    behind = Object(0, "red", "sphere", "small", "rubber", (0, 0))
    before = Object(1, "blue", "cylinder", "large", "glass", (10, 0))
    assert cut([shot_of(behind, before)], [NOISE]).labels[:, 0].tolist() == [2]
    assert len(cut([shot_of(behind, before, view="right")], [NOISE]).labels) == 2


def test_shots_are_the_same_again_and_cycle_the_views() -> None:
    shots = pictures.drawn_shots(ShotList(seed=3, pictures=5, visible=(2, 3)))
    assert [shot.view for shot in shots] == ["center", "center", "left", "right", "center"]
    assert shots == pictures.drawn_shots(ShotList(seed=3, pictures=5, visible=(2, 3)))
    assert len({shot.digest() for shot in shots}) == 5
    assert all(2 <= len(shot.scene.visible) <= 3 for shot in shots)


class Painter:
    """Stands for a renderer: pictures of one grey, and a count of them."""

    def __init__(self, grey: int) -> None:
        self.grey, self.drawn = grey, 0

    def render(self, *_: object) -> np.ndarray:
        self.drawn += 1
        return np.full((SIZE[1], SIZE[0], 3), self.grey, np.uint8)


def test_pictures_are_drawn_once_for_each_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = pictures.drawn_shots(ShotList(seed=3, pictures=3, visible=(2, 3)))
    painter = Painter(7)
    monkeypatch.setattr(pictures, "_renderer", lambda name: painter)
    pictures.draw("mitsuba", shots[:1], tmp_path)
    again = pictures.draw("mitsuba", shots, tmp_path)
    assert painter.drawn == 3
    assert [int(picture.mean()) for picture in again] == [7, 7, 7]
    pictures.draw("cycles", shots[:1], tmp_path)
    monkeypatch.setattr(pictures, "_code_digest", lambda name: "changed")
    pictures.draw("mitsuba", shots[:1], tmp_path)
    assert painter.drawn == 5


def test_comments_and_docstrings_do_not_change_the_code(tmp_path: Path) -> None:
    texts = (
        '"""One."""\nx = 1\ndef f():\n    """Two."""\n    return x\n',
        "x = 1  # three\n\n\ndef f():\n    return x\n",
        "x = 2\ndef f():\n    return x\n",
    )
    dumps = []
    for text in texts:
        (tmp_path / "module.py").write_text(text)
        dumps.append(pictures.ast.dump(pictures._without_docstrings(tmp_path / "module.py")))
    assert dumps[0] == dumps[1] != dumps[2]


def real_folder(folder: Path) -> dict:
    rows = [raw(thing) for thing in scene().objects]
    state = {"objects": rows, "images": {"Camera_Left": "a.png"}}
    buffer = io.BytesIO()
    Image.fromarray(NOISE).convert("RGBA").save(buffer, "PNG")
    write_atomic(folder / "image" / "a.png", buffer.getvalue())
    return {"idx": 4, "states": [state]}


def raw(thing: Object) -> dict:
    return {**{a: thing.attribute(a) for a in ATTRIBUTES}, "position": list(thing.position)}


def test_real_pictures_are_read(tmp_path: Path) -> None:
    write_atomic(tmp_path / "data.json", json.dumps([real_folder(tmp_path)]))
    (shot,) = pictures.real_shots(tmp_path)
    assert (shot.sample, shot.view, shot.rig) == (4, "left", STANDARD_RIG)
    assert np.array_equal(pictures.read_real(shot), NOISE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "--real"),
        ("[", "not JSON"),
        ('[{"idx": 0}]', "layout"),
        ('{"idx": 0}', "layout"),
    ],
)
def test_a_wrong_folder_of_real_pictures_is_one_line(
    tmp_path: Path, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / "data.json").write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        pictures.real_shots(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_wrong_picture_is_one_line(tmp_path: Path) -> None:
    shot = replace(shot_of(), file=tmp_path / "a.png")
    with pytest.raises(UserError, match="cannot read"):
        pictures.read_real(shot)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="160 x 120"):
        pictures.read_real(shot)


def random_crops(n: int, seed: int) -> Crops:
    """Crops whose color tells the label of each attribute."""
    random = np.random.default_rng(seed)
    labels = np.stack([random.integers(0, len(VALUES[a]), n) for a in ATTRIBUTES], 1)
    pixels = random.integers(0, 30, (n, 3, PIXELS, PIXELS), np.uint8)
    half = PIXELS // 2
    for j, (rows, columns) in enumerate(((0, 0), (0, half), (half, 0), (half, half))):
        shade = (labels[:, j] * 28).astype(np.uint8)[:, None, None, None]
        pixels[:, :, rows : rows + half, columns : columns + half] += shade
    return Crops(pixels, labels, np.arange(n) // 4)


@pytest.mark.slow
def test_the_classifier_learns_and_its_seed_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = random_crops(256, 0)
    monkeypatch.setattr(classifier, "EPOCHS", 8)
    model, twin = classifier.train(crops, 0), classifier.train(crops, 0)
    test = random_crops(64, 1)
    found = classifier.predict(model, test)
    assert ((found == test.labels).mean(0) > 0.8).all()
    assert np.array_equal(found, classifier.predict(twin, test))


def test_scores() -> None:
    crops = Crops(
        np.zeros((4, 3, PIXELS, PIXELS), np.uint8),
        np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 0, 0, 0]]),
        np.array([5, 5, 6, 6]),
    )
    wrong = crops.labels.copy()
    wrong[3] = [4, 0, 0, 2]
    table = scores.accuracy([crops.labels, wrong], crops)
    assert {name: cell["mean"] for name, cell in table.items()} == {
        "color": 0.875, "shape": 1.0, "size": 1.0, "material": 0.875, "all four": 0.875
    }  # fmt: skip
    assert table["color"]["seeds"] == [1.0, 0.75]
    assert (table["color"]["low"], table["color"]["high"]) == (0.75, 1.0)
    assert (table["shape"]["low"], table["shape"]["high"]) == (1.0, 1.0)
    mistakes = scores.confusions([crops.labels, wrong], crops)
    assert mistakes["color"] == [{"is": "green", "named": "brown", "crops": 0.5}]
    assert mistakes["shape"] == []
    assert scores.slices([crops.labels, wrong], crops)["rubber"] == {
        "crops": 2, "color": 0.75, "shape": 1.0, "size": 1.0, "material": 0.75, "all four": 0.75
    }  # fmt: skip


def test_real_pictures_do_not_get_into_the_repository() -> None:
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / "fidelity.py"), "--with-real", str(BENCHMARKS / "x")],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "real pictures do not belong" in run.stderr
