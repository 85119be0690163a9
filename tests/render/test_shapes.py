"""Light paths meet exactly what the mask shows, and surfaces face outward."""

import numpy as np
import pytest

from star_r1.render.cameras import Camera
from star_r1.render.engine import dr, mi
from star_r1.render.shapes import Objects
from star_r1.render.visibility import BACKGROUND, look
from star_r1.tvr import STANDARD_RIG, Object, Rig, Scene
from star_r1.tvr.vocabulary import N_OBJECTS, VALUES, camera_position

SIZE = (320, 240)
VIEWS = ("center", "left", "right", "top", "az90")
RIG = Rig({view: camera_position(view) for view in VIEWS}, STANDARD_RIG.lamps)


def crowd(seed: int) -> Scene:
    """Ten visible objects, which may overlap."""
    rng = np.random.default_rng(seed)

    def draw(values: tuple[str, ...]) -> str:
        return values[rng.integers(len(values))]

    return Scene(
        tuple(
            Object(
                index,
                *(draw(VALUES[name]) for name in ("color", "shape", "size", "material")),
                (int(rng.integers(-20, 21)), int(rng.integers(-20, 21))),
                float(rng.uniform(0, 6.28)),
            )
            for index in range(N_OBJECTS)
        )
    )


def rays(camera: Camera) -> tuple[mi.Point3f, mi.Vector3f]:
    way = camera.rays(np.arange(SIZE[0]), np.arange(SIZE[1])).reshape(-1, 3)
    axes = (mi.Float(np.ascontiguousarray(axis, np.float32)) for axis in way.T)
    return mi.Point3f(*camera.origin.tolist()), mi.Vector3f(*axes)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("seed", range(3))
def test_rays_through_pixel_centres_meet_what_mask_and_depth_say(view: str, seed: int) -> None:
    scene = crowd(seed)
    mask, depth = look(scene, RIG, view, SIZE)
    distance, slot = Objects(scene).nearest(*rays(Camera.of(RIG, view, SIZE)), mi.Bool(True))
    distance, slot = (np.array(part).reshape(mask.shape) for part in (distance, slot))
    # All ten are visible, so that slots are indices.
    met = np.where(np.isfinite(distance), slot, BACKGROUND)
    assert np.mean(met == mask) > 0.9995
    same = (met == mask) & (mask != BACKGROUND)
    assert np.abs(distance - depth)[same].max() < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_surfaces_face_the_eye(seed: int) -> None:
    objects = Objects(crowd(seed))
    o, d = rays(Camera.of(RIG, "left", SIZE))
    distance, slot = objects.nearest(o, d, mi.Bool(True))
    met = dr.isfinite(distance)
    normal, _ = objects.surface(slot, o + d * distance, met)
    lengths = np.array(dr.norm(normal))[np.array(met)]
    assert np.allclose(lengths, 1, atol=1e-4)
    # A round edge may face away a little.
    facing = np.array(dr.dot(normal, dr.normalize(d)))[np.array(met)]
    assert np.mean(facing < 0) > 0.98
    assert facing.max() < 0.75


def test_a_ray_from_within_meets_the_far_side() -> None:
    hidden = [Object(i, "red", "cube", "large", "rubber", (40, 40)) for i in range(N_OBJECTS)]
    for shape, reach in (("sphere", 0.9), ("cylinder", 0.9), ("cube", 0.9 / 2**0.5)):
        hidden[4] = Object(4, "red", shape, "large", "glass", (0, 0))
        objects = Objects(Scene(tuple(hidden)))
        o, d = mi.Point3f(0, 0, reach), mi.Vector3f(1, 0, 0)
        distance, _ = objects.nearest(o, d, mi.Bool(True))
        assert np.allclose(distance, reach, atol=1e-5)
        assert np.array(objects.between(o, d, mi.Float(2.0), mi.Bool(True))).all()
        assert not np.array(objects.between(o, d, mi.Float(0.5), mi.Bool(True))).any()
