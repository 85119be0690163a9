"""Crops of objects: where they lie follows from known cameras and floor positions alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fidelity.pictures import SIZE, Picture, Shot
from star_r1.render.cameras import Camera
from star_r1.render.visibility import count_pixels
from star_r1.tvr import STANDARD_RIG, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, CELL, MIN_VISIBLE_PIXELS, VALUES

HALF_WIDTH: Final = 1.5
"""Of a crop where it passes the object, in world units: the same for every size, so that the size
is not told by the box but must be seen. A large object fits in."""
HEIGHT: Final = 0.7
"""Of the middle of a crop above the object's place on the floor, world units."""
PIXELS: Final = 52
"""A side of a crop; about as in the picture, where three world units are 35 to 58 pixels."""
_BORDER: Final = 40


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Crops of a list of pictures, with what they show.

    Attributes:
        pixels: uint8, shape (n, 3, PIXELS, PIXELS).
        labels: int64, shape (n, 4): the value of each of ``ATTRIBUTES``, as its index.
        samples: int64, shape (n,): the sample that each comes from.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    samples: NDArray[np.int64]


def cut(shots: Sequence[Shot], pictures: Sequence[Picture]) -> Crops:
    """A crop of every object that is not occluded, for real and drawn pictures in the same way.

    Camera jitter and rotations of real pictures are unknown, so nobody's are used: boxes and
    occlusion are those of the cameras without jitter and of objects that are not rotated.
    An object is occluded below TRANCE's 150 mask pixels at 320 x 240.
    """
    pixels, labels, samples = [], [], []
    for shot, picture in zip(shots, pictures, strict=True):
        scene = Scene(tuple(replace(thing, rotation=0.0) for thing in shot.scene.objects))
        seen = count_pixels(scene, STANDARD_RIG, shot.view)
        camera = Camera.of(STANDARD_RIG, shot.view, SIZE)
        border = ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0))
        image = Image.fromarray(np.pad(picture, border, mode="edge"))
        for thing in scene.visible:
            if seen[thing.index] < MIN_VISIBLE_PIXELS:
                continue
            x, y = thing.position[0] * CELL, thing.position[1] * CELL
            pixels.append(_crop(image, camera, (x, y, HEIGHT)))
            labels.append([VALUES[a].index(thing.attribute(a)) for a in ATTRIBUTES])
            samples.append(shot.sample)
    return Crops(np.stack(pixels), np.array(labels), np.array(samples))


def _crop(image: Image.Image, camera: Camera, middle: tuple[float, float, float]) -> Picture:
    """The square around a world point, shape (3, PIXELS, PIXELS); ``image`` has a border."""
    column, row = (camera.project([middle])[0] + _BORDER).tolist()
    distance = float((np.array(middle) - camera.origin) @ camera.forward)
    half = HALF_WIDTH * camera.focal / distance
    box = (column - half, row - half, column + half, row + half)
    square = image.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC, box)
    return np.asarray(square).transpose(2, 0, 1)
