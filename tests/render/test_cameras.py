"""The cameras look where TRANCE's do, and rays and projection agree."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.render.cameras import Camera
from star_r1.tvr import STANDARD_RIG, Rig
from star_r1.tvr.vocabulary import CAMERA_FOV_X, CAMERA_JITTER, VIEWS, camera_position

SIZE = (320, 240)
ALL_VIEWS = (*VIEWS, "top", "az0", "az90", "az137", "az180", "az359")
RIG = Rig({view: camera_position(view) for view in ALL_VIEWS}, STANDARD_RIG.lamps)


@pytest.mark.parametrize("view", ALL_VIEWS)
@pytest.mark.parametrize("size", [(320, 240), (160, 120), (101, 57)])
def test_every_camera_looks_at_the_origin(view: str, size: tuple[int, int]) -> None:
    camera = Camera.of(RIG, view, size)
    assert np.allclose(camera.project([[0, 0, 0]]), [[size[0] / 2, size[1] / 2]])


@pytest.mark.parametrize(
    ("point", "toward"),
    [
        ((0, 1, 0), {"center": (1, 0), "top": (1, 0), "az180": (-1, 0), "az90": (0, 1)}),
        ((0, -1, 0), {"center": (-1, 0), "top": (-1, 0), "az180": (1, 0), "az90": (0, -1)}),
        ((1, 0, 0), {"center": (0, 1), "top": (0, 1), "az180": (0, -1), "az90": (-1, 0)}),
        ((-1, 0, 0), {"center": (0, -1), "top": (0, -1), "az180": (0, 1), "az90": (1, 0)}),
        ((0, 0, 1), {"center": (0, -1), "top": (0, 0), "az180": (0, -1), "az90": (0, -1)}),
    ],
    ids=["right", "left", "behind", "front", "up"],
)
def test_directions_in_the_picture(
    point: tuple[int, int, int], toward: dict[str, tuple[int, int]]
) -> None:
    for view, signs in toward.items():
        moved = Camera.of(RIG, view, SIZE).project([point])[0] - (160, 120)
        assert np.allclose(np.sign(np.round(moved, 6)), signs), view


jitters = st.floats(-CAMERA_JITTER, CAMERA_JITTER)


@given(jitters, jitters, jitters)
def test_jitter_does_not_turn_the_picture_from_above(x: float, y: float, z: float) -> None:
    height = camera_position("top")[2]
    camera = Camera.of(Rig({"top": (x, y, height + z)}, {}), "top", SIZE)
    assert camera.right @ (0, 1, 0) > 0.99
    assert camera.down @ (1, 0, 0) > 0.99


def test_left_camera_stands_to_the_left() -> None:
    near_left = Camera.of(STANDARD_RIG, "left", SIZE).project([[0, -2, 0], [0, 2, 0]])
    near_right = Camera.of(STANDARD_RIG, "right", SIZE).project([[0, -2, 0], [0, 2, 0]])
    assert near_left[0, 1] > 120 > near_left[1, 1]
    assert near_right[0, 1] < 120 < near_right[1, 1]


@given(
    position=st.tuples(st.floats(-12, 12), st.floats(-12, 12), st.floats(3, 12)),
    column=st.integers(0, 319),
    row=st.integers(0, 239),
    distance=st.floats(1, 20),
)
def test_a_point_on_a_ray_projects_to_its_pixel_centre(
    position: tuple[float, float, float], column: int, row: int, distance: float
) -> None:
    camera = Camera.of(Rig({"center": position}, {}), "center", SIZE)
    ray = camera.rays(np.array([column]), np.array([row]))[0, 0]
    assert math.isclose(ray @ camera.forward, 1)
    there = camera.project([camera.origin + distance * ray])[0]
    assert np.allclose(there, (column + 0.5, row + 0.5), atol=1e-6)


def test_slopes_are_the_z_of_the_rays() -> None:
    for position in ((9.0, 1.0, 6.0), (0.4, -0.3, 11.0)):
        camera = Camera.of(Rig({"center": position}, {}), "center", (40, 30))
        rays = camera.rays(np.arange(40), np.arange(30))
        assert np.allclose(camera.slopes(), rays[..., 2])


@pytest.mark.parametrize("view", ALL_VIEWS)
def test_axes_are_a_frame_and_the_field_of_view_is_trances(view: str) -> None:
    camera = Camera.of(RIG, view, SIZE)
    axes = np.stack([camera.right, camera.down, camera.forward])
    assert np.allclose(axes @ axes.T, np.eye(3))
    assert math.isclose(np.linalg.det(axes), 1)
    assert math.isclose(2 * math.degrees(math.atan(160 / camera.focal)), CAMERA_FOV_X)


def test_an_unknown_view_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Camera.of(STANDARD_RIG, "above", SIZE)
