"""A scene's objects for light paths: where a ray meets one, and which way its surface faces.

Exact, as in ``visibility``. The edges of cubes and cylinders are round in the shading only, so
that picture and mask agree.
"""

import math
from typing import Any, Final

import numpy as np

from star_r1.render.engine import branching, dr, mi
from star_r1.render.studio import BEVEL
from star_r1.render.visibility import centre
from star_r1.tvr.scene import Scene
from star_r1.tvr.vocabulary import N_OBJECTS, VALUES

_CUBE, _BALL = map(VALUES["shape"].index, ("cube", "sphere"))
_INNER: Final = 1 - BEVEL


class Objects:
    """The visible objects of a scene.

    All is data, none of it code: the compiled kernel serves every scene.
    """

    def __init__(self, scene: Scene) -> None:
        """Lay out the objects of ``scene``."""
        places = np.zeros((N_OBJECTS, 8), np.float32)
        looks = np.zeros((N_OBJECTS, 4), np.float32)
        for slot, thing in enumerate(scene.visible):
            x, y, half = centre(thing, scene.vocabulary)
            cos, sin = math.cos(thing.rotation) / half, math.sin(thing.rotation) / half
            shape = VALUES["shape"].index(thing.shape)
            places[slot] = x, y, half, shape, cos, sin, 1 / half, 0
            # TRANCE uses the 0-255 numbers as linear reflectance.
            looks[slot, :3] = np.array(scene.vocabulary.colors[thing.color]) / 255
            looks[slot, 3] = VALUES["material"].index(thing.material)
        self._places = mi.Float(places.ravel())
        self._looks = mi.Float(looks.ravel())
        self._count = dr.opaque(mi.UInt32, len(scene.visible))

    @branching
    def nearest(self, o: Any, d: Any, active: Any) -> tuple[Any, Any]:
        """How far along each ray the first surface is (inf: none), and which object's it is."""
        nearest, slot, i = mi.Float(dr.inf), mi.UInt32(0), mi.UInt32(0)
        while active & (i < self._count):
            distance = self._crossing(i, o, d)
            closer = distance < nearest
            nearest = dr.select(closer, distance, nearest)
            slot = dr.select(closer, i, slot)
            i += 1
        return nearest, slot

    @branching
    def between(self, o: Any, d: Any, limit: Any, active: Any) -> Any:
        """Whether a ray meets anything nearer than ``limit``."""
        i = mi.UInt32(0)
        open_ = mi.Bool(active)
        while open_ & (i < self._count):
            open_ &= ~(self._crossing(i, o, d) < limit)
            i += 1
        return ~open_

    def look(self, slot: Any, active: Any) -> tuple[Any, Any]:
        """Color and number of the material of objects."""
        row = dr.gather(mi.Vector4f, self._looks, slot, active)
        return mi.Vector3f(row.x, row.y, row.z), mi.UInt32(row.w)

    def surface(self, slot: Any, point: Any, active: Any) -> tuple[Any, Any]:
        """Outward normal at points on objects, and the axis (x, y) of the object."""
        place, turn = self._place(slot, active)
        x, y, z = self._local(place, turn, point - mi.Vector3f(place.x, place.y, place.z))
        cube, ball = place.w == _CUBE, place.w == _BALL
        radius = dr.maximum(dr.sqrt(x * x + y * y), 1e-6)
        outward = dr.maximum(radius - _INNER, 0) / radius
        x, y = (dr.select(ball, a, dr.select(cube, _over(a), a * outward)) for a in (x, y))
        z = dr.select(ball, z, _over(z))
        normal = mi.Vector3f(x * turn.x - y * turn.y, x * turn.y + y * turn.x, z * turn.z)
        return dr.normalize(normal), mi.Point2f(place.x, place.y)

    def _place(self, slot: Any, active: Any = True) -> tuple[Any, Any]:
        place = dr.gather(mi.Vector4f, self._places, 2 * slot, active)
        turn = dr.gather(mi.Vector4f, self._places, 2 * slot + 1, active)
        return place, turn

    def _local(self, place: Any, turn: Any, v: Any) -> tuple[Any, Any, Any]:
        """A vector in the object's frame, where it spans [-1, 1]^3."""
        return v.x * turn.x + v.y * turn.y, v.y * turn.x - v.x * turn.y, v.z * turn.z

    def _crossing(self, slot: Any, o: Any, d: Any) -> Any:
        """How far along each ray it enters an object, or leaves it where it starts within."""
        place, turn = self._place(slot)
        ox, oy, oz = self._local(place, turn, o - mi.Vector3f(place.x, place.y, place.z))
        dx, dy, dz = self._local(place, turn, d)
        cube, ball = place.w == _CUBE, place.w == _BALL
        # Round shapes, from the point nearest to the centre or axis, for the sake of precision.
        upright = dr.select(ball, dz, 0)
        square = dr.maximum(dx * dx + dy * dy + upright * upright, 1e-8)
        middle = -(ox * dx + oy * dy + upright * oz) / square
        px, py, pz = (
            a + middle * b for a, b in ((ox, dx), (oy, dy), (dr.select(ball, oz, 0), upright))
        )
        within = 1 - px * px - py * py - pz * pz
        half = dr.sqrt(dr.maximum(within, 0) / square)
        round_in = dr.select(within > 0, middle - half, dr.inf)
        round_out = middle + half
        x_in, x_out = _slab(ox, dx)
        y_in, y_out = _slab(oy, dy)
        z_in, z_out = _slab(oz, dz)
        enter = dr.select(cube, dr.maximum(x_in, y_in), round_in)
        leave = dr.select(cube, dr.minimum(x_out, y_out), round_out)
        enter = dr.select(ball, enter, dr.maximum(enter, z_in))
        leave = dr.select(ball, leave, dr.minimum(leave, z_out))
        distance = dr.select(enter > 0, enter, leave)
        return dr.select((enter <= leave) & (leave > 0), distance, dr.inf)


def _over(a: Any) -> Any:
    """How far a coordinate is beyond the flat part of a face."""
    return a - dr.clip(a, -_INNER, _INNER)


def _slab(o: Any, d: Any) -> tuple[Any, Any]:
    slope = dr.rcp(dr.select(dr.abs(d) < 1e-8, 1e-8, d))
    one, other = (-1 - o) * slope, (1 - o) * slope
    return dr.minimum(one, other), dr.maximum(one, other)
