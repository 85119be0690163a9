"""Samples: the final scene, and the same change seen from elsewhere."""

import pytest

from star_r1.tvr.change import parse_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene

SCENE = Scene(tuple(Object(i, "red", "cube", "small", "metal", (0, 4 * i)) for i in range(10)))
SAMPLE = Sample("000012-center", SCENE, parse_changes("2.color.cyan, 2.shape.sphere"))


def test_the_final_scene_has_the_changes() -> None:
    assert SAMPLE.final.objects[2].describe() == "small cyan metal sphere"
    assert SAMPLE.final.objects[:2] == SCENE.objects[:2]
    assert SAMPLE.final.objects[3:] == SCENE.objects[3:]


def test_seen_from_changes_id_and_view_alone() -> None:
    left = SAMPLE.seen_from("left")
    assert (left.id, left.view) == ("000012-left", "left")
    assert left.seen_from("center") == SAMPLE


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(ValueError, match="view 'top' is not one of center, left, right"):
        SAMPLE.seen_from("top")
