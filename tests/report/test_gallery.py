from collections.abc import Callable
from pathlib import Path

from star_r1.data.dataset import load, row_to_sample
from star_r1.evaluate.finished import Answers
from star_r1.render.cameras import Camera
from star_r1.render.visibility import centre
from star_r1.report import gallery
from star_r1.report.runs import read_runs

Runs = tuple[Path, Path, Path]


def test_labels_stand_above_their_objects_within_the_picture(runs: Runs, data_folder: Path) -> None:
    samples = {row["id"]: row_to_sample(row) for row in load(data_folder).remove_columns("images")}
    pairs = choose(runs[0])
    assert len(pairs) == gallery.SHOWN
    for pair in pairs:
        sample = samples[pair.sample.id]
        scenes = ((sample.initial, "center"), (sample.final, sample.view))
        for picture, (scene, view) in zip(pair.pictures, scenes, strict=True):
            size = (picture.width, picture.height)
            assert size == (40, 40)
            middles = [centre(o, scene.vocabulary) for o in scene.visible]
            spots = Camera.of(sample.rig, view, size).project(middles)
            assert [label.index for label in picture.labels] == [o.index for o in scene.visible]
            for label, (x, y) in zip(picture.labels, spots.tolist(), strict=True):
                assert abs(label.x - x) < picture.radius
                assert picture.radius <= label.y + 0.1
                assert label.y < y
                assert label.changed == (label.index in {c.index for c in sample.changes})


def choose(run: Path) -> list[gallery.Pair]:
    (evaluation,) = read_runs([run])[0]
    data = Path(evaluation.about["data"])
    return gallery.choose(Answers([evaluation], data), data, {0: evaluation.name})


def test_a_part_of_the_data_gives_a_part_of_the_gallery(
    data_folder: Path, tmp_path: Path, write_evaluation: Callable[..., None]
) -> None:
    ids = ["000000-center", "000000-left", "000001-center"]
    write_evaluation(tmp_path / "part", data_folder, dict.fromkeys(ids, "none"))
    assert [pair.sample.id for pair in choose(tmp_path / "part")] == ids
