"""The same scenes by either renderer, and TRANCE's real pictures of them, side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fidelity.pictures import SIZE, Picture, Shot
from star_r1.tvr import STANDARD_RIG, Rig, Scene
from star_r1.tvr.scene import Vec3


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the published data of a real picture leave out, found by fitting the picture.

    Attributes:
        sample, view: the real picture, the one after the changes.
        camera: where its camera stood, to about 0.1: outlines and floor lines fit.
        lamps: where key, fill and back lamp stood, to about 0.6: the light on the floor fits.
        turned: object -> rotation of a visible cube, degrees, to about 3.
    """

    sample: int
    view: str
    camera: Vec3
    lamps: tuple[Vec3, Vec3, Vec3]
    turned: dict[int, int]


FITTED: Final = (
    Fitted(
        3,
        "left",
        (7.73, -6.24, 6.76),
        ((5.3, -2.1, 5.4), (-4.2, -3.7, 4.5), (-0.6, 1.7, 5.4)),
        {0: 68, 6: 66, 7: 78},
    ),
    Fitted(
        7,
        "center",
        (9.92, 0.25, 6.53),
        ((5.8, -3.7, 4.4), (-4.9, -3.6, 4.8), (-2.1, 3.6, 6.6)),
        {0: 84},
    ),
    Fitted(
        21,
        "left",
        (7.06, -6.21, 6.15),
        ((7.1, -3.4, 4.9), (-3.9, -4.1, 4.4), (-0.3, 2.4, 5.7)),
        {3: 6, 5: 24, 6: 54},
    ),
    Fitted(
        23,
        "center",
        (9.54, 0.37, 6.54),
        ((6.5, -2.6, 5.0), (-4.5, -3.3, 4.3), (-2.1, 2.8, 6.6)),
        {0: 51, 3: 24, 4: 20, 6: 60},
    ),
    Fitted(
        26,
        "right",
        (7.62, 6.43, 6.84),
        ((6.0, -1.9, 4.7), (-3.8, -3.0, 4.8), (-0.6, 3.3, 6.6)),
        {1: 60, 2: 38, 7: 34, 9: 5},
    ),
    Fitted(
        35,
        "right",
        (7.82, 6.53, 6.25),
        ((7.3, -3.7, 3.7), (-4.9, -3.0, 4.6), (-1.2, 3.3, 6.5)),
        {3: 12},
    ),
)
"""Every material, shape and size, every color, every view."""

SCALE: Final = 2
GAP: Final = 6
HEAD: Final = 22
MARGIN: Final = 84
PAPER, INK = (255, 255, 255), (60, 60, 66)


def fitted_shots(real: Sequence[Shot]) -> tuple[list[Shot], list[Shot]]:
    """The real shots of ``FITTED``, and the same scenes to be drawn with what was found."""
    originals, copies = [], []
    for fit in FITTED:
        # The pictures after the changes come later in the list than the initial one.
        shot = [s for s in real if (s.sample, s.view) == (fit.sample, fit.view)][-1]
        turned = tuple(
            replace(thing, rotation=math.radians(fit.turned.get(thing.index, 0)))
            for thing in shot.scene.objects
        )
        lamps = dict(zip(("key", "fill", "back"), fit.lamps, strict=True))
        rig = Rig({**STANDARD_RIG.cameras, fit.view: fit.camera}, lamps)
        originals.append(shot)
        copies.append(replace(shot, scene=Scene(turned), rig=rig, file=None))
    return originals, copies


def strip(rows: Sequence[str], columns: Mapping[str, Sequence[Picture]]) -> Image.Image:
    """A sheet of pictures: a caption above each column and before each row."""
    width, height = SCALE * SIZE[0], SCALE * SIZE[1]
    sheet = Image.new(
        "RGB",
        (MARGIN + len(columns) * (width + GAP) - GAP, HEAD + len(rows) * (height + GAP) - GAP),
        PAPER,
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for j, (name, pictures) in enumerate(columns.items()):
        left = MARGIN + j * (width + GAP)
        draw.text((left + width / 2, HEAD / 2), name, INK, font, anchor="mm")
        for i, picture in enumerate(pictures):
            # Each pixel as it is, only larger.
            large = np.repeat(np.repeat(picture, SCALE, axis=0), SCALE, axis=1)
            sheet.paste(Image.fromarray(large), (left, HEAD + i * (height + GAP)))
    for i, name in enumerate(rows):
        middle = HEAD + i * (height + GAP) + height / 2
        draw.multiline_text((MARGIN / 2, middle), name, INK, font, anchor="mm", align="center")
    return sheet
