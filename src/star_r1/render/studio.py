"""TRANCE's studio in numbers, which every renderer shares: lamps, sun, floor, lines, materials.

Read from TRANCE's public scene files (Hong et al., CVPR 2021), but for what is marked *ours*. Where
lamps and cameras stand, jitter included, is the ``Rig`` of a sample. Lengths are in world units,
colors and albedos linear.
"""

from typing import Final, NamedTuple

from star_r1.errors import UserError
from star_r1.tvr.vocabulary import CELL, VISIBLE_CELLS


class AreaLamp(NamedTuple):
    """A square lamp that looks at the origin and shines to that side only.

    Attributes:
        power: in watts, as Blender counts: its radiance is power / (4 edge^2).
        color: factor of the power, linear.
        edge: of the square.
    """

    power: float
    color: tuple[float, float, float]
    edge: float


LAMPS: Final[dict[str, AreaLamp]] = {
    "key": AreaLamp(125.0, (1.0, 0.932, 0.817), 0.5),
    "fill": AreaLamp(50.0, (0.762, 0.818, 1.0), 0.5),
    "back": AreaLamp(150.0, (1.0, 1.0, 1.0), 1.0),
}
"""The keys are those of ``Rig.lamps``."""

TOWARD_SUN: Final = (0.414, -0.195, 0.889)
"""Where the sun's light comes from; it does not jitter."""
SUN_IRRADIANCE: Final = 0.45
"""On a surface that faces the sun."""
SUN_ANGLE: Final = 0.2
"""Radians across, *ours*, fitted to its glints in TRANCE's pictures."""

FLOOR_ALBEDO: Final = 0.8
"""Blender's default grey: the floor has no material."""
LINE_ALBEDO: Final = 0.88
"""*Ours*, to look as faint as TRANCE's lines."""
LINE_AT: Final = VISIBLE_CELLS * CELL
"""Four lines, |x| or |y| = this, mark the visible square."""
LINE_HALF_WIDTH: Final = 0.025
"""*Ours*: TRANCE's are thin raised planes, 0.012 wide."""

WALL_TOWARD: Final = (-0.8965, 0.4431)
"""Behind the table the floor curves up to a wall. *Ours*: an upright plane in this direction (x,
y); distance, height and radiance are fitted to the light it adds to the floor of TRANCE's
pictures."""
WALL_DISTANCE: Final = 20.5
WALL_HEIGHT: Final = 27.0
WALL_RADIANCE: Final = 0.16
"""Elsewhere above the horizon all is black."""

# Roughness is a microfacet alpha: that of Blender 2.79, which later versions square.
VELVET_SIGMA: Final = 0.6
"""Rubber is diffuse seen from above, velvet seen at grazing angles ..."""
VELVET_IOR: Final = 1.45
"""... mixed by Fresnel's reflectance at this index;"""
RUBBER_IOR: Final = 1.2
"""over both lies a gloss, mixed likewise,"""
RUBBER_ROUGHNESS: Final = 0.35
"""of this roughness."""
METAL_ROUGHNESS: Final = 0.2
"""Of the rougher of metal's two lobes. The other (0.01) is as good as a mirror."""
METAL_ANISOTROPY: Final = 0.25
"""Of that lobe: smoother along the circle about the object's upright axis by a factor of 1 - this,
rougher across it by 1 / (1 - this)."""
METAL_POLISHED_SHARE: Final = 0.4
"""How much of metal is mirror."""
GLASS_IOR: Final = 1.45
GLASS_UNDER: Final = 0.09
"""*Ours*: what part of the lamps' light reaches floor that is seen through the bottom of glass."""
MAX_BOUNCES: Final = 4
"""Where a path has been turned as often, it ends in the dark: so parts of glass are black."""

BEVEL: Final = 0.1
"""Of the half edge of cubes and cylinders, *ours*."""


def check_picture(size: tuple[int, int], samples_per_pixel: int) -> None:
    """Refuse what no renderer can draw.

    Raises:
        UserError: fewer than 16 pixels a side, or no light path.
    """
    if min(size) < 16 or samples_per_pixel < 1:
        raise UserError(
            f"cannot draw {size[0]} x {size[1]} pixels with {samples_per_pixel} samples each: "
            "give at least 16 pixels a side and 1 sample"
        )
