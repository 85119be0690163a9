"""Settings and an index -> the rows of one sample: drawn, rendered, encoded."""

import functools
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from star_r1.data.settings import Settings
from star_r1.data.shards import Row, encode_depth, encode_png, images, make_row, to_json
from star_r1.render.visibility import boxes, count_mask, count_pixels, look
from star_r1.tvr.sampler import draw_sample, split_seed
from star_r1.tvr.scene import Rig, Scene
from star_r1.tvr.vocabulary import REFERENCE_SIZE


class Renderer(Protocol):
    """What draws pictures."""

    def render(self, scene: Scene, rig: Rig, view: str) -> NDArray[np.uint8]:
        """The picture of ``scene`` from camera ``view``, shape (height, width, 3)."""


class _Picture(NamedTuple):
    png: bytes
    pixels: dict[int, int]
    extras: dict[str, Any]


def make_rows(settings: Settings, indices: range) -> list[Row]:
    """Draw and render samples: a row a view of each, in order.

    Raises:
        UserError: no sample was found that keeps the rules, or the renderer is not installed.
    """
    return [row for index in indices for row in _sample_rows(settings, index)]


def _sample_rows(settings: Settings, index: int) -> list[Row]:
    seed = split_seed(settings.seed, settings.split)
    sample = draw_sample(seed, index, count_pixels, settings.scene_rules)
    final_scene = sample.final
    initial = _picture(settings, sample.initial, sample.rig, "center")
    rows = []
    for view in settings.views:
        final = _picture(settings, final_scene, sample.rig, view)
        pixels = {"initial": initial.pixels, "final": final.pixels}
        row = make_row(sample.seen_from(view), (initial.png, final.png), pixels)
        for name in settings.extras:
            pair = initial.extras[name], final.extras[name]
            if name == "boxes":
                row[name] = to_json(dict(zip(("initial", "final"), pair, strict=True)))
            else:
                row[name] = images(pair)
        rows.append(row)
    return rows


def _picture(settings: Settings, scene: Scene, rig: Rig, view: str) -> _Picture:
    """One picture, and what goes with it."""
    renderer = open_renderer(settings.renderer, settings.size, settings.samples_per_pixel)
    png = encode_png(renderer.render(scene, rig, view))
    if not settings.extras:
        return _Picture(png, count_pixels(scene, rig, view), {})
    mask, depth = look(scene, rig, view, settings.size)
    same = settings.size == REFERENCE_SIZE
    extras: dict[str, Any] = {}
    if "masks" in settings.extras:
        extras["masks"] = encode_png(mask)
    if "boxes" in settings.extras:
        extras["boxes"] = boxes(mask)
    if "depth" in settings.extras:
        extras["depth"] = encode_depth(depth)
    pixels = count_mask(mask, scene) if same else count_pixels(scene, rig, view)
    return _Picture(png, pixels, extras)


@functools.lru_cache(maxsize=1)
def open_renderer(name: str, size: tuple[int, int], samples_per_pixel: int) -> Renderer:
    """The renderer of this process, made once: that takes seconds.

    ``open_renderer.cache_clear()`` closes it.

    Args:
        name: a key of ``settings.RENDERERS``.
        size: width, height of the pictures.
        samples_per_pixel: light paths a pixel.

    Raises:
        UserError: it is not installed.
    """
    if name == "cycles":
        from star_r1.render.cycles import CyclesRenderer

        return CyclesRenderer(size, samples_per_pixel)
    from star_r1.render.mitsuba import MitsubaRenderer

    return MitsubaRenderer(size, samples_per_pixel)
