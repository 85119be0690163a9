"""Renders scenes with Mitsuba 3: TRANCE's studio, a path tracer made for it, and a denoiser.

A stock integrator gives glass black shadows and shows the lamps to the camera; TRANCE does
neither. So the light paths are written here, in Mitsuba's own vectorised Python, on its ray
tracing, microfacet and Fresnel functions. The ten objects are ten slots of one mesh: a new scene
swaps vertices and a small table, and the compiled kernel serves every scene, lamp and camera.
"""

import importlib
import importlib.metadata
import math
import os
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star_r1.errors import UserError
from star_r1.render.cameras import Camera, Floats
from star_r1.render.visibility import centre, half_height
from star_r1.tvr.scene import Rig, Scene
from star_r1.tvr.vocabulary import CELL, COLOR_RGB, N_OBJECTS, VALUES, VISIBLE_CELLS


def _load() -> tuple[Any, Any, Any]:
    """Dr.Jit, Mitsuba and its denoiser, on one thread, with the LLVM that the extra installs.

    A system's LLVM is not looked for: with some versions the process aborts.
    """
    try:
        if "DRJIT_LIBLLVM_PATH" not in os.environ:
            files = importlib.metadata.files("karellen-llvm-core") or []
            library = next((file for file in files if file.name.startswith("libLLVM.")), None)
            if library is None:
                raise ImportError("karellen-llvm-core holds no libLLVM")
            os.environ["DRJIT_LIBLLVM_PATH"] = str(library.locate())
        # Their type stubs stop mypy, hence not the import statement.
        drjit, mitsuba, denoiser = map(
            importlib.import_module, ("drjit", "mitsuba", "mitsuba_oidn")
        )
    except ImportError as error:
        raise UserError(
            f"pictures need Mitsuba, not found here ({error}); "
            "install it with: pip install 'star-r1[render]'"
        ) from None
    mitsuba.set_variant("llvm_ad_rgb")
    drjit.set_thread_count(0)
    return drjit, mitsuba, denoiser


dr, mi, oidn = _load()

_Function = TypeVar("_Function", bound=Callable[..., Any])
_branching: Callable[[_Function], _Function] = dr.syntax  # `if` and `while` on arrays

_RUBBER, _METAL, _GLASS = map(VALUES["material"].index, ("rubber", "metal", "glass"))
_FLOOR = len(VALUES["material"])

# TRANCE's square lamps: power, color, edge. Blender's radiance is power / (4 edge^2).
_LAMPS: Final = {
    "key": (125.0, (1.0, 0.932, 0.817), 0.5),
    "fill": (50.0, (0.762, 0.818, 1.0), 0.5),
    "back": (150.0, (1.0, 1.0, 1.0), 1.0),
}
_TOWARD_SUN = (0.414, -0.195, 0.889)
_SUN_IRRADIANCE = 0.45
_FLOOR_ALBEDO, _LINE_ALBEDO = 0.8, 0.88
_LINE_HALF_WIDTH = 0.025

# Of the half edge, as on TRANCE's smooth cube and cylinder. Only the shading is round: the outline
# stays sharp, so that picture and instance mask agree.
_BEVEL = 0.1
_BEVEL_STEPS, _FLAT_STEPS = 2, 8  # of the mesh, along a bevel and between two bevels
_RUBBER_ROUGHNESS = 0.35
_METAL_ROUGHNESS, _POLISH = 0.2, 0.04  # of metal's two lobes; the second also of glints on glass
_POLISHED_SHARE = 0.5  # of metal
_GLASS_IOR = 1.45

_LIFT = 0.002  # objects stand this far above the floor, so that a ray can leave a glass bottom
_EPSILON = 0.001
_MAX_DEPTH, _MAX_DIFFUSE = 8, 3
_MAX_CROSSINGS = 8  # glass surfaces that a shadow ray may pass
_MARGIN = 4  # pixels around the picture, mirrored, for the denoiser
_FIREFLY = 3.0  # most light that a path may bring from one lamp after its first surface


class MitsubaRenderer:
    """Draws scenes as TRANCE does: same camera, lamps, shapes, colors and materials.

    One thread; the same input gives the same bytes in any process on the same kind of CPU, in
    whatever order scenes are drawn.

    Importing this module raises ``UserError`` where the extra ``render`` is not installed.
    Processes that draw side by side must be spawned: a forked copy of the compiler hangs.

    >>> from star_r1.tvr import STANDARD_RIG, Object, Scene
    >>> ball = Object(0, "red", "sphere", "large", "metal", (0, 0))
    >>> rest = (Object(i, "red", "cube", "small", "rubber", (40, 40)) for i in range(1, 10))
    >>> MitsubaRenderer((64, 48), 4).render(Scene((ball, *rest)), STANDARD_RIG, "center").shape
    (48, 64, 3)
    """

    def __init__(self, size: tuple[int, int] = (320, 240), samples_per_pixel: int = 16) -> None:
        """Build the studio; the first picture also compiles, for a second or two.

        Args:
            size: width, height of the pictures in pixels, each at least 16.
            samples_per_pixel: light paths in each pixel, at least 1. 16 looks good.

        Raises:
            UserError: a number is out of range.
        """
        if min(size) < 16 or samples_per_pixel < 1:
            raise UserError(
                f"cannot draw {size[0]} x {size[1]} pixels with {samples_per_pixel} samples each: "
                "give at least 16 pixels a side and 1 sample"
            )
        self.size = size
        self.samples_per_pixel = samples_per_pixel
        self._shapes, triangles = _shapes()
        self._vertices_each = self._shapes["cube"][0].shape[0]
        self._faces_each = len(triangles)
        first_vertex = np.arange(N_OBJECTS)[:, None, None] * self._vertices_each
        self._faces = mi.UInt32((triangles + first_vertex).astype(np.uint32).ravel())

        mesh = mi.Mesh("objects", N_OBJECTS * self._vertices_each, N_OBJECTS * self._faces_each)
        mesh_parameters = mi.traverse(mesh)
        mesh_parameters["faces"] = self._faces
        mesh_parameters.update()
        # In parallel, or optimised, the order of things would differ between processes.
        self._world = mi.load_dict(
            {"type": "scene", "objects": mesh}, parallel=False, optimize=False
        )
        self._parameters = mi.traverse(self._world)
        self._placed: Scene | None = None

        self._denoiser = oidn.Device(oidn.DeviceType.CPU)
        self._denoiser.num_threads = 1
        self._denoiser.set_bool("setAffinity", False)

    def render(self, scene: Scene, rig: Rig, view: str) -> NDArray[np.uint8]:
        """The picture of ``scene`` from camera ``view`` of ``rig``.

        Returns:
            sRGB, uint8, shape (height, width, 3).

        Raises:
            KeyError: the rig lacks the view, or one of TRANCE's lamps.
        """
        camera = Camera.of(rig, view, self.size)
        if scene != self._placed:
            self._place(scene)
        image = np.clip(self._denoise(self._trace(camera, rig)), 0.0, 1.0)
        srgb = np.where(image <= 0.0031308, image * 12.92, 1.055 * image ** (1 / 2.4) - 0.055)
        return (srgb * 255 + 0.5).astype(np.uint8)

    def _place(self, scene: Scene) -> None:
        """Move the mesh and fill the table of colors and materials for ``scene``."""
        points = np.zeros((N_OBJECTS, self._vertices_each, 3), np.float32)
        points[..., 2] = -1.0  # a hidden object is a point under the floor
        normals = np.zeros_like(points)
        table = np.zeros((N_OBJECTS, 4), np.float32)
        for thing in scene.visible:
            cos, sin = math.cos(thing.rotation), math.sin(thing.rotation)
            turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
            shape_points, shape_normals = self._shapes[thing.shape]
            place = np.add(centre(thing), (0.0, 0.0, _LIFT))
            points[thing.index] = shape_points @ turn * half_height(thing) + place
            normals[thing.index] = shape_normals @ turn
            # TRANCE uses the 0-255 numbers as linear reflectance.
            table[thing.index, :3] = np.array(COLOR_RGB[thing.color]) / 255
            table[thing.index, 3] = VALUES["material"].index(thing.material)
        self._parameters["objects.vertex_positions"] = mi.Float(points.ravel())
        self._parameters.update()
        self._normals = mi.Float(normals.ravel())
        self._table = mi.Float(table.ravel())
        self._placed = scene

    def _trace(self, camera: Camera, rig: Rig) -> list[NDArray[np.float32]]:
        """Radiance, albedo and normal of each pixel, before the denoiser."""
        width, height = self.size
        samples = self.samples_per_pixel
        index = dr.arange(mi.UInt32, width * height * samples)
        pixel = index // samples
        lattice = _lattice(pixel, mi.Float(index % samples), 8)
        x = mi.Float(pixel % width) + lattice[0] - width / 2
        y = mi.Float(pixel // width) + lattice[1] - height / 2
        direction = (
            _vector(camera.forward)
            + x * _vector(camera.right / camera.focal)
            + y * _vector(camera.down / camera.focal)
        )
        paths = self._paths(
            _vector(camera.origin),
            dr.normalize(direction),
            lattice[2:],
            mi.PCG32(width * height * samples),
            [*(_Lamp.square(name, rig.lamps[name]) for name in _LAMPS), _Lamp.sun()],
        )
        dr.eval(paths)
        return [
            np.stack(
                [dr.block_sum(plane, samples).numpy() / samples for plane in image], -1
            ).reshape(height, width, 3)
            for image in paths
        ]

    def _denoise(self, images: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The radiance without noise, given radiance, albedo and normal."""
        # Without a margin the pixels along the border come out wrong by up to 20 grey levels.
        margin = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
        wide = oidn.denoise(
            *(np.pad(image, margin, mode="reflect") for image in images),
            hdr=True,
            quality=oidn.Quality.Fast,  # half the time of High; 5 % more error
            device=self._denoiser,
        )
        clean: NDArray[np.float32] = np.asarray(wide)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        return clean

    @_branching
    def _paths(self, origin: Any, direction: Any, lattice: Any, random: Any, lamps: Any) -> Any:
        """Follow every ray; radiance, and albedo and normal of what it meets first."""
        radiance, weight = mi.Vector3f(0), mi.Vector3f(1)
        albedo, normal = mi.Vector3f(0), mi.Vector3f(0)
        o, d = mi.Vector3f(origin), mi.Vector3f(direction)
        depth, diffused = mi.UInt32(0), mi.UInt32(0)
        refracted, active = mi.Bool(False), mi.Bool(True)
        while active:
            hit = self._meet(o, d, active)
            # The camera does not see the lamps, and reflections sample them.
            if refracted:
                for lamp in lamps:
                    glint = weight * lamp.seen(o, d, hit.distance)
                    radiance += dr.minimum(glint, _FIREFLY)
            radiance += dr.select(hit.met | (diffused > 0), 0, weight * _backdrop(d))

            first = depth == 0
            albedo = dr.select(first, hit.color, albedo)
            normal = dr.select(first, hit.normal, normal)

            u = [dr.select(first, fixed, random.next_float32()) for fixed in lattice]
            diffuse = hit.met & ((hit.kind == _FLOOR) | (hit.kind == _RUBBER))
            metal = hit.met & (hit.kind == _METAL)
            glass = hit.met & (hit.kind == _GLASS)
            polished = metal & (u[0] < _POLISHED_SHARE)
            if hit.met & (dr.dot(d, hit.normal) < 0):
                light = weight * self._direct(hit, d, polished, u, lamps)
                radiance += dr.select(first, light, dr.minimum(light, _FIREFLY))

            frame = mi.Frame3f(hit.normal)
            back = frame.to_local(-d)
            point2 = mi.Point2f(u[4], u[5])
            # Matte
            scattered = frame.to_world(mi.warp.square_to_cosine_hemisphere(point2))
            # Metal
            lobe = _lobe(dr.select(polished, _POLISH, _METAL_ROUGHNESS))
            facet = lobe.sample(back, point2)[0]
            shine = mi.reflect(back, facet)
            shine_weight = dr.select(shine.z > 0, lobe.smith_g1(shine, facet), 0)
            # Glass; after a matte surface the ray goes straight through, as the lamps' light does.
            reflectance, cos_t, _, eta_ti = mi.fresnel(back.z, _GLASS_IOR)
            straight = glass & (diffused > 0)
            bounced = u[0] < reflectance
            bent = dr.select(bounced, mi.reflect(back), mi.refract(back, cos_t, eta_ti))

            weight *= dr.select(
                straight,
                _shadow_tint(hit.color),
                dr.select(metal, hit.color * shine_weight, hit.color),
            )
            turned = frame.to_world(dr.select(metal, shine, bent))
            d = dr.select(straight, d, dr.select(diffuse, scattered, turned))
            d = dr.normalize(d)
            o = hit.point + _EPSILON * d
            depth += 1
            diffused += dr.select(diffuse, 1, 0)
            refracted = glass & ~straight & ~(bounced & (back.z > 0))
            active = (
                hit.met & (depth < _MAX_DEPTH) & (diffused < _MAX_DIFFUSE) & (dr.max(weight) > 0.01)
            )
        return radiance, albedo, normal

    def _meet(self, o: Any, d: Any, active: Any) -> "_Hit":
        """What a ray meets: an object of the mesh, or the floor at z = 0."""
        found = self._world.ray_intersect_preliminary(mi.Ray3f(o, d), False, active=active)
        on_mesh = active & found.is_valid()
        to_floor = dr.select(d.z < 0, -o.z / d.z, dr.inf)
        distance = dr.minimum(dr.select(on_mesh, found.t, dr.inf), to_floor)
        on_floor = to_floor <= distance
        on_mesh &= ~on_floor

        corners = [
            dr.gather(mi.UInt32, self._faces, found.prim_index * 3 + i, on_mesh) for i in range(3)
        ]
        normals = [dr.gather(mi.Vector3f, self._normals, corner, on_mesh) for corner in corners]
        b1, b2 = found.prim_uv
        normal = dr.normalize(normals[0] * (1 - b1 - b2) + normals[1] * b1 + normals[2] * b2)
        row = dr.gather(mi.Vector4f, self._table, found.prim_index // self._faces_each, on_mesh)

        kind = dr.select(on_mesh, mi.UInt32(row.w), _FLOOR)
        # A round edge may bend the normal of a visible point away from the eye.
        away = dr.select(kind == _GLASS, 0, dr.maximum(0, dr.dot(normal, d)))
        normal -= 2 * away * d

        point = o + d * distance
        from_line = dr.abs(dr.maximum(dr.abs(point.x), dr.abs(point.y)) - VISIBLE_CELLS * CELL)
        floor_albedo = dr.select(from_line < _LINE_HALF_WIDTH, _LINE_ALBEDO, _FLOOR_ALBEDO)
        return _Hit(
            on_mesh | on_floor,
            distance,
            point,
            dr.select(on_mesh, normal, mi.Vector3f(0, 0, 1)),
            dr.select(on_mesh, mi.Vector3f(row.x, row.y, row.z), floor_albedo),
            kind,
        )

    def _direct(self, hit: "_Hit", d: Any, polished: Any, u: Any, lamps: Any) -> Any:
        """Light that one lamp, drawn at random, sends by way of a surface against ``d``."""
        # Draw the lamp by what each would give to a matte surface if nothing stood between.
        shares = [
            dr.max(lamp.irradiance(hit.point, lamp.position, hit.normal)) + 0.02 for lamp in lamps
        ]
        total = sum(shares)
        left = u[1] * total
        chosen, share = lamps[0], shares[0]
        for i in range(1, len(lamps)):
            left -= shares[i - 1]
            later = left > 0
            chosen = _Lamp(
                *(dr.select(later, *pair) for pair in zip(lamps[i], chosen, strict=True))
            )
            share = dr.select(later, shares[i], share)
        target = chosen.position + chosen.across * (2 * u[2] - 1) + chosen.up * (2 * u[3] - 1)
        light = chosen.irradiance(hit.point, target, hit.normal) * (total / share)

        to_light = dr.normalize(target - hit.point)
        frame = mi.Frame3f(hit.normal)
        back, out = frame.to_local(-d), frame.to_local(to_light)
        half = dr.normalize(back + out)
        metal = hit.kind == _METAL
        smooth = polished | (hit.kind == _GLASS)
        lobe = _lobe(
            dr.select(smooth, _POLISH, dr.select(metal, _METAL_ROUGHNESS, _RUBBER_ROUGHNESS))
        )
        gloss = lobe.eval(half) * lobe.G(back, out, half) / (4 * dr.maximum(back.z, 0.01) * out.z)
        matte = (hit.kind == _RUBBER) | (hit.kind == _FLOOR)
        dielectric = mi.fresnel(dr.dot(half, out), _GLASS_IOR)[0]
        gloss *= dr.select(metal, hit.color, dr.select(hit.kind == _FLOOR, 0, dielectric))
        value = gloss + dr.select(matte, hit.color * dr.inv_pi, 0)
        lit = (out.z > 0) & (dr.max(light) > 0)
        value *= light * self._transmittance(hit.point + _EPSILON * hit.normal, target, lit)
        return dr.select(lit, value, 0)

    @_branching
    def _transmittance(self, start: Any, end: Any, active: Any) -> Any:
        """What part of the light gets from one point to another: glass tints, all else stops it."""
        passed = mi.Vector3f(1)
        crossings = mi.UInt32(0)
        o, d = mi.Vector3f(start), dr.normalize(end - start)
        left = dr.norm(end - start)
        active = mi.Bool(active)
        while active:
            found = self._world.ray_intersect_preliminary(
                mi.Ray3f(o, d, left, 0.0, []), False, active=active
            )
            hit = active & found.is_valid()
            row = dr.gather(mi.Vector4f, self._table, found.prim_index // self._faces_each, hit)
            glass = hit & (row.w == _GLASS)
            tint = dr.select(glass, _shadow_tint(mi.Vector3f(row.x, row.y, row.z)), 0)
            passed = dr.select(hit, passed * tint, passed)
            step = found.t + _EPSILON
            o += dr.select(glass, step, 0) * d
            left -= dr.select(glass, step, 0)
            crossings += 1
            active = glass & (crossings < _MAX_CROSSINGS)
        return passed


class _Hit(NamedTuple):
    """Where rays meet a surface."""

    met: Any
    distance: Any
    point: Any
    normal: Any
    color: Any
    kind: Any


class _Lamp(NamedTuple):
    """A square lamp that shines to one side; the sun is a very small one, far away."""

    position: Any
    normal: Any
    across: Any
    up: Any
    power: Any

    @classmethod
    def square(cls, name: str, position: ArrayLike) -> "_Lamp":
        """One of TRANCE's lamps, which look at the origin."""
        watt, color, edge = _LAMPS[name]
        place = np.asarray(position, dtype=np.float64)
        normal = -place / np.linalg.norm(place)
        across = np.cross(normal, (0.0, 0.0, 1.0))
        across *= edge / 2 / np.linalg.norm(across)
        up = np.cross(normal, across)
        return cls(*map(_vector, (place, normal, across, up, np.array(color) * watt / 4)))

    @classmethod
    def sun(cls) -> "_Lamp":
        """TRANCE's weak sun."""
        toward = np.array(_TOWARD_SUN) / np.linalg.norm(_TOWARD_SUN)
        far, zero, power = 1e3, np.zeros(3), np.full(3, _SUN_IRRADIANCE * 1e6)
        return cls(*map(_vector, (toward * far, -toward, zero, zero, power)))

    def irradiance(self, point: Any, target: Any, normal: Any) -> Any:
        """What a surface would get if the whole lamp shone from ``target``, nothing between."""
        to = target - point
        square = dr.squared_norm(to)
        cosines = dr.maximum(0, dr.dot(to, normal)) * dr.maximum(0, -dr.dot(to, self.normal))
        return self.power * (cosines / (square * square))

    def seen(self, o: Any, d: Any, limit: Any) -> Any:
        """The radiance of the lamp where the ray meets it nearer than ``limit``, else 0.

        The sun has no extent, so no ray meets it.
        """
        slope = dr.dot(d, self.normal)
        distance = dr.dot(self.position - o, self.normal) / slope
        offset = o + d * distance - self.position
        square = dr.squared_norm(self.up)
        met = (slope < 0) & (distance > 0) & (distance < limit)
        met &= (
            dr.maximum(dr.abs(dr.dot(offset, self.across)), dr.abs(dr.dot(offset, self.up)))
            < square
        )
        return dr.select(met, self.power / (4 * square), 0)


def _vector(values: ArrayLike) -> Any:
    """Three kernel inputs; a constant would be compiled into the kernel."""
    return mi.Vector3f(*(dr.opaque(mi.Float, float(v)) for v in np.asarray(values)))


def _lattice(pixel: Any, sample: Any, dimensions: int) -> list[Any]:
    """Evenly spread random numbers: Roberts' sequence over the samples, shifted in each pixel."""
    ratio = 1.0
    for _ in range(32):  # converges to the root of x^(dimensions + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    points = [
        sample * ratio**-i + mi.sample_tea_float32(pixel, i, 4) for i in range(1, dimensions + 1)
    ]
    return [point - dr.floor(point) for point in points]


def _lobe(roughness: Any) -> Any:
    return mi.MicrofacetDistribution(mi.MicrofacetType.GGX, roughness)


def _shadow_tint(color: Any) -> Any:
    """What one surface of glass leaves of light that goes straight through it."""
    return 0.7 * dr.sqrt(color)


def _backdrop(d: Any) -> Any:
    """What metal and glass mirror above the floor: a grey wall that darkens upward."""
    return 0.2 * dr.clip(1.6 - 1.8 * d.z, 0, 1)


def _shapes() -> tuple[dict[str, tuple[Floats, Floats]], NDArray[np.int64]]:
    """Points and normals of each shape, spanning [-1, 1]^3, and the triangles they all share.

    Every shape is the surface of a cube, six square grids, bent: so that any shape can take any
    slot of the mesh.
    """
    inner = 1 - _BEVEL
    bevel = np.linspace(inner, 1, _BEVEL_STEPS + 1)
    flat = np.linspace(-inner, inner, _FLAT_STEPS + 1)
    cube, triangles = _cube_surface(np.concatenate([-bevel[::-1], flat[1:-1], bevel]))
    shapes = {"cube": (cube, _unit(cube - np.clip(cube, -inner, inner)))}

    steps = _FLAT_STEPS + 2 * _BEVEL_STEPS
    ball = _unit(_cube_surface(np.tan(np.linspace(-np.pi / 4, np.pi / 4, steps + 1)))[0])
    shapes["sphere"] = (ball, ball)

    # Squares about the axis become circles; then the bevel is made in the (radius, z) plane.
    radius = np.abs(cube[:, :2]).max(1)
    along_x = np.abs(cube[:, 0]) >= np.abs(cube[:, 1])
    major = np.where(along_x, cube[:, 0], cube[:, 1])
    minor = np.where(along_x, cube[:, 1], cube[:, 0])
    slant = np.pi / 4 * np.divide(minor, major, out=np.zeros_like(minor), where=major != 0)
    circle = np.sign(major)[:, None] * np.stack([np.cos(slant), np.sin(slant)], -1)
    circle = np.where(along_x[:, None], circle, circle[:, ::-1])
    profile = np.stack([radius, cube[:, 2]], -1)
    points, normals = (
        np.concatenate([circle * half[:, :1], half[:, 1:]], -1)
        for half in (profile, _unit(profile - np.clip(profile, -inner, inner)))
    )
    shapes["cylinder"] = (points, normals)
    return shapes, triangles


def _cube_surface(lines: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Points on the six faces of a cube with grid lines at ``lines``, and triangles, outward."""
    count = len(lines)
    u, v = (axis.ravel() for axis in np.meshgrid(lines, lines, indexing="ij"))
    corner = np.arange(count * count).reshape(count, count)
    a, b, c, d = (
        part.ravel()
        for part in (corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:])
    )
    face = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])
    points: list[Floats] = []
    triangles: list[NDArray[np.int64]] = []
    for axis in range(3):
        for plane in (
            np.stack([np.ones_like(u), u, v], -1),
            np.stack([-np.ones_like(u), v, u], -1),
        ):
            triangles.append(face + count * count * len(points))
            points.append(np.roll(plane, axis, axis=1))
    return np.concatenate(points), np.concatenate(triangles)


def _unit(vectors: Floats) -> Floats:
    length: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / length
