"""The pictures that pretraining looks at: those of a generated data set, with what is in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from star_r1.data.dataset import load, row_to_sample
from star_r1.data.pictures import read_pair
from star_r1.model.align import MIN_PIXELS, cell_targets
from star_r1.render.visibility import instance_mask
from star_r1.tvr.scene import Object, Rig, Scene


@dataclass(frozen=True)
class Pictures:
    """Single pictures, and which of them are center pairs.

    Attributes:
        images: (N, H, W, 3) uint8.
        targets: (N, tokens, 17) uint8, the words each visual token is to hold.
        objects: per picture, the objects that can be told in it.
        views: per picture, its camera.
        pairs: (initial picture, final picture, scene before, scene after), center view only:
            pairs of other views are never formed.
        held_out: pictures from this index on are for validation.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    objects: Sequence[tuple[Object, ...]]
    views: Sequence[str]
    pairs: Sequence[tuple[int, int, Scene, Scene]]
    held_out: int


def read_pictures(folder: Path, grid: tuple[int, int], held_out: float = 0.04) -> Pictures:
    """Take a data set apart into single pictures.

    Args:
        folder: of ``star-r1 generate``.
        grid: rows and columns of visual tokens.
        held_out: share of the pictures, the last ones, kept for validation.
    """
    images, targets, objects, views, pairs = [], [], [], [], []

    def add(image: object, scene: Scene, rig: Rig, view: str) -> int:
        pixels = np.asarray(image, dtype=np.uint8)
        mask = instance_mask(scene, rig, view, (pixels.shape[1], pixels.shape[0]))
        images.append(pixels)
        targets.append(cell_targets(mask, scene.visible, grid).astype(np.uint8))
        counts = np.bincount(mask.ravel(), minlength=256)
        objects.append(tuple(o for o in scene.visible if counts[o.index] >= MIN_PIXELS))
        views.append(view)
        return len(images) - 1

    initial: dict[str, int] = {}
    for row in load(folder):
        sample = row_to_sample(row)
        name = sample.id.rsplit("-", 1)[0]
        before, after = read_pair(row)
        if name not in initial:
            initial[name] = add(before, sample.initial, sample.rig, "center")
        final = add(after, sample.final, sample.rig, sample.view)
        if sample.view == "center":
            pairs.append((initial[name], final, sample.initial, sample.final))
    return Pictures(
        np.stack(images),
        np.stack(targets),
        objects,
        views,
        pairs,
        held_out=round(len(images) * (1 - held_out)),
    )
