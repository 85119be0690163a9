"""Where a world point lands in the picture, and which ray leaves through a pixel. Numpy only."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star_r1.tvr.scene import Rig
from star_r1.tvr.vocabulary import CAMERA_FOV_X

Floats = NDArray[np.float64]

_ABOVE = 0.1
"""A camera whose axis is nearer to the vertical than this (sine) looks down on the table."""


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A pinhole camera that looks at the origin with z up, as TRANCE's three cameras do.

    Pixel coordinates are (column, row) from the top left corner; the centre of the first pixel is
    (0.5, 0.5). Seen from ``center``, +y points right in the picture and +x down; and so from
    ``top``, where z has no direction in the picture.

    Attributes:
        origin: where it stands, world units, shape (3,).
        right, down, forward: unit vectors, shape (3,); right and down as in the picture.
        focal: focal length in pixels.
        size: width, height of the picture in pixels.
    """

    origin: Floats
    right: Floats
    down: Floats
    forward: Floats
    focal: float
    size: tuple[int, int]

    @classmethod
    def of(cls, rig: Rig, view: str, size: tuple[int, int]) -> "Camera":
        """The camera ``view`` of ``rig`` for a picture of ``size`` (width, height).

        Raises:
            KeyError: the rig has no such view.

        >>> from star_r1.tvr import STANDARD_RIG
        >>> camera = Camera.of(STANDARD_RIG, "center", (320, 240))
        >>> camera.project([[0.0, 0.0, 0.0]])[0].round(3).tolist()
        [160.0, 120.0]
        """
        origin = np.array(rig.cameras[view], dtype=np.float64)
        forward = -origin / np.linalg.norm(origin)
        # Jitter would turn the picture of a camera above the table any way round if z were up.
        above = math.hypot(forward[0], forward[1]) < _ABOVE
        right = np.cross(forward, (-1.0, 0.0, 0.0) if above else (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        focal = size[0] / 2 / math.tan(math.radians(CAMERA_FOV_X) / 2)
        return cls(origin, right, np.cross(forward, right), forward, focal, size)

    def project(self, points: ArrayLike) -> Floats:
        """Pixel coordinates (column, row), shape (n, 2), of world points, shape (n, 3).

        The points must lie before the camera.
        """
        offset = np.asarray(points, dtype=np.float64) - self.origin
        plane = np.stack([offset @ self.right, offset @ self.down], axis=-1)
        centre = np.array(self.size, dtype=np.float64) / 2
        projected: Floats = centre + self.focal * plane / (offset @ self.forward)[:, None]
        return projected

    def rays(self, columns: NDArray[Any], rows: NDArray[Any]) -> Floats:
        """Directions, shape (rows, columns, 3), through the centres of the pixels of a window.

        They are not normalised: their component along ``forward`` is 1.
        """
        x = (columns + 0.5 - self.size[0] / 2) / self.focal
        y = (rows + 0.5 - self.size[1] / 2) / self.focal
        return self.forward + x[None, :, None] * self.right + y[:, None, None] * self.down

    def slopes(self) -> Floats:
        """How far the ray of each pixel of the picture rises, the z of ``rays``.

        Returns:
            shape (height, width).
        """
        x = (np.arange(self.size[0]) + 0.5 - self.size[0] / 2) / self.focal
        y = (np.arange(self.size[1]) + 0.5 - self.size[1] / 2) / self.focal
        slopes: Floats = self.forward[2] + x * self.right[2] + y[:, None] * self.down[2]
        return slopes
