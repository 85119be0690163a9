"""Renders scenes with Mitsuba 3: TRANCE's studio, a path tracer made for it, and a denoiser.

TRANCE's pictures have ways of their own: lamps are not seen but mirrored, glass casts opaque
shadows, paths end after four turns, which leaves parts of glass black. So the light paths are
written here, in Mitsuba's own vectorised Python, on its microfacet and Fresnel functions. A scene
is data, not code: one compiled kernel serves every scene, lamp and camera.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star_r1.render import studio
from star_r1.render.cameras import Camera
from star_r1.render.engine import branching, dr, mi, oidn
from star_r1.render.shapes import Objects
from star_r1.tvr.scene import Rig, Scene
from star_r1.tvr.vocabulary import VALUES

_RUBBER, _METAL, _GLASS = map(VALUES["material"].index, ("rubber", "metal", "glass"))
_FLOOR = len(VALUES["material"])

_EPSILON = 0.001
_DIMENSIONS = 8  # random numbers that a path needs until it has left its first surface
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
        studio.check_picture(size, samples_per_pixel)
        self.size = size
        self.samples_per_pixel = samples_per_pixel
        self._placed: Scene | None = None
        pixel = dr.arange(mi.UInt32, size[0] * size[1])
        self._shifts = [mi.sample_tea_float32(pixel, i, 4) for i in range(1, _DIMENSIONS + 1)]
        dr.eval(self._shifts)

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
            self._objects, self._placed = Objects(scene), scene
        try:
            *images, glints = self._trace(camera, rig)
        except RuntimeError as error:
            # Dr.Jit wraps what is raised while it records a loop, Ctrl-C too.
            cause: BaseException | None = error
            while cause is not None:
                if isinstance(cause, KeyboardInterrupt):
                    raise cause from None
                cause = cause.__cause__ or cause.__context__
            raise
        image = np.clip(self._denoise(images) + glints, 0.0, 1.0)
        srgb = np.where(image <= 0.0031308, image * 12.92, 1.055 * image ** (1 / 2.4) - 0.055)
        picture: NDArray[np.uint8] = (srgb * 255 + 0.5).astype(np.uint8)
        return picture

    def _trace(self, camera: Camera, rig: Rig) -> list[NDArray[np.float32]]:
        """Radiance, albedo and normal of each pixel, before the denoiser; images of lamps."""
        width, height = self.size
        samples = self.samples_per_pixel
        index = dr.arange(mi.UInt32, width * height * samples)
        pixel = index // samples
        shifts = [dr.gather(mi.Float, shift, pixel) for shift in self._shifts]
        lattice = _lattice(shifts, mi.Float(index % samples))
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
            [*(_Lamp.square(name, rig.lamps[name]) for name in studio.LAMPS), _Lamp.sun()],
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
        # Padded before the call: CPython 3.11 leaks the keywords of f(*generator, key=value) where
        # the generator raises, as it does on Ctrl-C, and the denoiser with them; 3.12 does not
        # (python/cpython#101627).
        color, albedo, normal = (np.pad(image, margin, mode="reflect") for image in images)
        wide = oidn.denoise(
            color,
            albedo,
            normal,
            hdr=True,
            quality=oidn.Quality.Fast,  # half the time of High; 5 % more error
            device=self._denoiser,
        )
        clean: NDArray[np.float32] = np.asarray(wide)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        return clean

    @branching
    def _paths(self, origin: Any, direction: Any, lattice: Any, random: Any, lamps: Any) -> Any:
        """Follow every ray; radiance, albedo and normal of what it meets first, images of lamps."""
        radiance, glints, weight = mi.Vector3f(0), mi.Vector3f(0), mi.Vector3f(1)
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
                    glints += dr.minimum(glint, _FIREFLY)
            radiance += dr.select(hit.met, 0, weight * _backdrop(o, d))

            u = [dr.select(depth == 0, fixed, random.next_float32()) for fixed in lattice]
            first = depth == 0
            albedo = dr.select(first, hit.color, albedo)
            normal = dr.select(first, hit.normal, normal)

            diffuse = hit.met & ((hit.kind == _FLOOR) | (hit.kind == _RUBBER))
            metal = hit.met & (hit.kind == _METAL)
            glass = hit.met & (hit.kind == _GLASS)
            # What a matte surface gets by way of a mirror would be noise, so that it sees none.
            clear = diffused == 0
            mirror = clear & (glass | (metal & (u[0] < studio.METAL_POLISHED_SHARE)))
            if hit.met & (dr.dot(d, hit.normal) < 0):
                light = weight * self._direct(hit, d, mirror, u, lamps)
                light = dr.select(first, light, dr.minimum(light, _FIREFLY))
                glints += dr.select(mirror, light, 0)
                radiance += dr.select(mirror, 0, light)

            frame = _frame(hit)
            back = frame.to_local(-d)
            point2 = mi.Point2f(u[4], u[5])
            # Matte
            scattered = mi.warp.square_to_cosine_hemisphere(point2)
            # Metal
            lobe = _brushed()
            facet = lobe.sample(back, point2)[0]
            shine = dr.select(mirror, mi.reflect(back), mi.reflect(back, facet))
            shine_weight = dr.select(mirror, 1, lobe.smith_g1(shine, facet))
            shine_weight = dr.select(shine.z > 0, shine_weight, 0)
            # Glass
            reflectance, cos_t, _, eta_ti = mi.fresnel(back.z, studio.GLASS_IOR)
            bounced = u[0] < reflectance
            bent = dr.select(bounced, mi.reflect(back), mi.refract(back, cos_t, eta_ti))

            weight *= dr.select(metal, hit.color * shine_weight, hit.color)
            turned = dr.select(diffuse, scattered, dr.select(metal, shine, bent))
            d = dr.normalize(frame.to_world(turned))
            o = hit.point + _EPSILON * d
            depth += 1
            diffused += dr.select(diffuse, 1, 0)
            refracted = glass & clear & ~(bounced & (back.z > 0))
            active = hit.met & (depth < studio.MAX_BOUNCES) & (dr.max(weight) > 0.01)
        return radiance, albedo, normal, glints

    def _meet(self, o: Any, d: Any, active: Any) -> "_Hit":
        """What a ray meets: an object, or the floor at z = 0."""
        to_object, slot = self._objects.nearest(o, d, active)
        to_floor = dr.select(d.z < 0, -o.z / d.z, dr.inf)
        # The bottom of an object lies in the floor, which wins.
        on_floor = active & (d.z < 0) & (to_floor <= to_object + _EPSILON)
        on_object = active & ~on_floor & (to_object < dr.inf)
        distance = dr.select(on_floor, to_floor, to_object)
        point = o + d * distance
        normal, axis = self._objects.surface(slot, point, on_object)
        color, material = self._objects.look(slot, active & (to_object < dr.inf))
        # A round edge may bend the normal of a visible point away from the eye.
        away = dr.select(material == _GLASS, 0, dr.maximum(0, dr.dot(normal, d)))
        normal -= 2 * away * d
        from_line = dr.abs(dr.maximum(dr.abs(point.x), dr.abs(point.y)) - studio.LINE_AT)
        floor_albedo = dr.select(
            from_line < studio.LINE_HALF_WIDTH, studio.LINE_ALBEDO, studio.FLOOR_ALBEDO
        )
        # Floor that is seen from inside glass gets a little light through it.
        under = on_floor & (to_object <= to_floor + _EPSILON) & (material == _GLASS)
        return _Hit(
            on_object | on_floor,
            distance,
            point,
            dr.select(on_floor, mi.Vector3f(0, 0, 1), normal),
            dr.select(on_floor, floor_albedo, color),
            dr.select(on_floor, _FLOOR, material),
            axis,
            dr.select(under, studio.GLASS_UNDER * color, 0),
        )

    def _direct(self, hit: "_Hit", d: Any, mirror: Any, u: Any, lamps: Any) -> Any:
        """Light that one lamp, drawn at random, sends by way of a surface against ``d``.

        A mirror shows the lamp that its one ray meets.
        """
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

        frame = _frame(hit)
        back, out = frame.to_local(-d), frame.to_local(dr.normalize(target - hit.point))
        half = dr.normalize(back + out)
        matte = hit.color * dr.inv_pi
        scale = 1 / (4 * dr.maximum(back.z, 0.01) * dr.maximum(out.z, 0.01))
        lobe = _brushed()
        metal = hit.color * (lobe.eval(half) * lobe.G(back, out, half) * scale)
        lobe = mi.MicrofacetDistribution(mi.MicrofacetType.GGX, studio.RUBBER_ROUGHNESS)
        gloss = 0.8 * lobe.eval(half) * lobe.G(back, out, half) * scale
        grazing = mi.fresnel(back.z, studio.VELVET_IOR)[0]
        over = mi.fresnel(back.z, studio.RUBBER_IOR)[0]
        velvet = hit.color * (_velvet(back, out, half) * scale)
        rubber = dr.lerp(dr.lerp(matte, velvet, grazing), gloss, over)
        value = dr.select(hit.kind == _FLOOR, matte, dr.select(hit.kind == _METAL, metal, rubber))
        value = dr.select((hit.kind == _GLASS) | (out.z <= 0), 0, value * light)

        reflected = mi.reflect(back)
        toward = frame.to_world(reflected)
        image = sum(lamp.seen(hit.point, toward, dr.inf) for lamp in lamps)
        shown = dr.select(hit.kind == _GLASS, mi.fresnel(back.z, studio.GLASS_IOR)[0], 1)
        value = dr.select(mirror, hit.color * image * shown, value)
        target = dr.select(mirror, hit.point + 100 * toward, target)

        lit = dr.max(value) > 0
        start = hit.point + _EPSILON * hit.normal
        way = target - start
        reach = dr.norm(way)
        # Glass stops light as all else does: so TRANCE's shadows are.
        shaded = self._objects.between(start, way / reach, reach, lit)
        return dr.select(lit, value * dr.select(shaded, hit.through, 1), 0)


class _Hit(NamedTuple):
    """Where rays meet a surface."""

    met: Any
    distance: Any
    point: Any
    normal: Any
    color: Any
    kind: Any
    axis: Any  # of the object: x, y
    through: Any  # what part of the light from lamps comes where an object stands between


class _Lamp(NamedTuple):
    """A square lamp that shines to one side; the sun is one that is far away."""

    position: Any
    normal: Any
    across: Any
    up: Any
    power: Any

    @classmethod
    def square(cls, name: str, position: ArrayLike) -> "_Lamp":
        """One of TRANCE's lamps, which look at the origin."""
        watt, color, edge = studio.LAMPS[name]
        place = np.asarray(position, dtype=np.float64)
        normal = -place / np.linalg.norm(place)
        across = np.cross(normal, (0.0, 0.0, 1.0))
        across *= edge / 2 / np.linalg.norm(across)
        up = np.cross(normal, across)
        return cls(*map(_vector, (place, normal, across, up, np.array(color) * watt / 4)))

    @classmethod
    def sun(cls) -> "_Lamp":
        """TRANCE's weak sun."""
        toward = np.array(studio.TOWARD_SUN) / np.linalg.norm(studio.TOWARD_SUN)
        far, power = 1e3, np.full(3, studio.SUN_IRRADIANCE * 1e6)
        across = np.cross(toward, (0.0, 0.0, 1.0))
        across *= studio.SUN_ANGLE / 2 * far / np.linalg.norm(across)
        up = np.cross(across, toward)
        return cls(*map(_vector, (toward * far, -toward, across, up, power)))

    def irradiance(self, point: Any, target: Any, normal: Any) -> Any:
        """What a surface would get if the whole lamp shone from ``target``, nothing between."""
        to = target - point
        square = dr.squared_norm(to)
        cosines = dr.maximum(0, dr.dot(to, normal)) * dr.maximum(0, -dr.dot(to, self.normal))
        return self.power * (cosines / (square * square))

    def seen(self, o: Any, d: Any, limit: Any) -> Any:
        """The radiance of the lamp where the ray meets it nearer than ``limit``, else 0."""
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


def _lattice(shifts: list[Any], sample: Any) -> list[Any]:
    """Evenly spread random numbers: Roberts' sequence over the samples, shifted in each pixel."""
    ratio = 1.0
    for _ in range(32):  # converges to the root of x^(dimensions + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (len(shifts) + 1))
    points = [sample * ratio**-i + shift for i, shift in enumerate(shifts, 1)]
    return [point - dr.floor(point) for point in points]


def _brushed() -> Any:
    """The rougher lobe of metal, brushed around the axis of the object."""
    smoother = 1 - studio.METAL_ANISOTROPY
    return mi.MicrofacetDistribution(
        mi.MicrofacetType.GGX,
        studio.METAL_ROUGHNESS * smoother,
        studio.METAL_ROUGHNESS / smoother,
    )


def _frame(hit: _Hit) -> Any:
    """Axes at a surface: around the upright axis of the object, up the surface, outward."""
    around = mi.Vector3f(hit.axis.y - hit.point.y, hit.point.x - hit.axis.x, 0)
    frame = mi.Frame3f(hit.normal)
    up = dr.cross(hit.normal, around)
    straight = dr.squared_norm(up) > 1e-9
    up = dr.select(straight, dr.normalize(up), frame.t)
    return mi.Frame3f(dr.cross(up, hit.normal), up, hit.normal)


def _velvet(back: Any, out: Any, half: Any) -> Any:
    """Microfacet density and shadowing of Ashikhmin's velvet (as in Cycles)."""
    square = dr.square(dr.clip(half.z, 1e-3, 0.999))
    spread = 1 - square
    wide = 1 / studio.VELVET_SIGMA**2
    density = dr.exp(-square / spread * wide) * (wide * dr.inv_pi) / dr.square(spread)
    slope = 2 * half.z / dr.maximum(dr.dot(half, back), 1e-3)
    return density * dr.minimum(1, slope * dr.minimum(back.z, out.z))


def _backdrop(o: Any, d: Any) -> Any:
    """The radiance that comes from above the horizon: that of the wall behind the table."""
    x, y = studio.WALL_TOWARD
    distance = (studio.WALL_DISTANCE - o.x * x - o.y * y) / (d.x * x + d.y * y)
    height = (o.z + distance * d.z) / studio.WALL_HEIGHT
    return dr.select(distance > 0, studio.WALL_RADIANCE * dr.maximum(1 - height, 0), 0)
