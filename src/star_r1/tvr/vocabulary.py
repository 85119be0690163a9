"""The vocabulary of TVR and TRANCE's constants: attributes, values, grid, cameras, lamps.

All numbers are those of the TRANCE dataset (Hong et al., CVPR 2021), read from its public
generator and scene files. Lengths are in world units, positions on the table in integer cells
of ``CELL`` world units.
"""

from typing import Final

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "color": ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"),
    "shape": ("cube", "sphere", "cylinder"),
    "size": ("small", "medium", "large"),
    "material": ("rubber", "metal", "glass"),
}
"""Attribute -> its values. STAR-R1 uses these four attributes; TRANCE adds position."""

ATTRIBUTES: Final[tuple[str, ...]] = tuple(VALUES)

VIEWS: Final[tuple[str, ...]] = ("center", "left", "right")
"""The cameras. The initial picture is always ``center``; the final one may be any of them."""

N_OBJECTS: Final = 10
"""Objects in a scene, visible or not. Their index 0-9 is the order of creation, not of place."""

COLOR_RGB: Final[dict[str, tuple[int, int, int]]] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
"""0-255. TRANCE feeds value / 255 to the renderer as *linear* reflectance."""

SIZE_RADIUS: Final[dict[str, float]] = {"small": 0.3, "medium": 0.6, "large": 0.9}
"""Radius on the ground, world units. A cube's half edge is radius / sqrt(2)."""

CELL: Final = 0.15
RADIUS_CELLS: Final[dict[str, int]] = {"small": 2, "medium": 4, "large": 6}
GAP_CELLS: Final = 1
"""Free cells between the outlines of two objects."""
TABLE_CELLS: Final = 40
"""Positions lie in [-40, 40] on both axes ..."""
VISIBLE_CELLS: Final = 20
"""... and an object is visible where both coordinates lie in [-20, 20]; else it is hidden."""

MIN_VISIBLE_PIXELS: Final = 150
"""An object with fewer mask pixels in a 320 x 240 picture counts as occluded."""
REFERENCE_SIZE: Final[tuple[int, int]] = (320, 240)
"""Width, height of the picture in which ``MIN_VISIBLE_PIXELS`` is measured."""

CAMERA_POSITION: Final[dict[str, tuple[float, float, float]]] = {
    "center": (9.48113, 0.0, 6.34367),
    "left": (7.48113, -6.50764, 6.34367),
    "right": (7.48113, 6.50764, 6.34367),
}
"""All look at the origin with z up."""
CAMERA_JITTER: Final = 0.5
"""Each axis of each camera moves by U(-0.5, 0.5) a sample, the same before and after."""
CAMERA_FOV_X: Final = 49.1343
"""Horizontal field of view in degrees: lens 35 mm on a 32 mm sensor."""

LAMP_POSITION: Final[dict[str, tuple[float, float, float]]] = {
    "key": (6.44671, -2.90517, 4.2584),
    "fill": (-4.67112, -4.0136, 5.01122),
    "back": (-1.1685, 2.64602, 5.81574),
}
"""Square area lamps that look at the origin."""
LAMP_JITTER: Final = 1.0
"""Each axis of each lamp moves by U(-1, 1) a sample."""
