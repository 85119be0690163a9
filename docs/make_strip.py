"""Draws docs/strip.png, the picture of the README: every material, size and shape, in three views.

Run it from anywhere: ``python docs/make_strip.py``. The pictures are as ``star-r1 generate`` draws
them, 320 x 240 pixels, not scaled; the words are written on them afterwards.
"""

import io
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from star_r1.files import write_atomic
from star_r1.render.cameras import Camera
from star_r1.render.mitsuba import MitsubaRenderer
from star_r1.tvr import STANDARD_RIG, Object, Scene
from star_r1.tvr.vocabulary import CELL, REFERENCE_SIZE, VALUES

VIEWS: Final = ("left", "center", "right")
"""As the cameras stand around the table."""
SAMPLES_PER_PIXEL: Final = 64
ROWS: Final = {"large": -17, "medium": 2, "small": 17}
"""Size -> x in cells: the small ones stand in front, so that nothing hides them."""
COLUMNS: Final = {"rubber": -17, "metal": 0, "glass": 17}
"""Material -> y in cells."""
COLORS: Final = ("red", "gray", "cyan", "green", "purple", "yellow", "blue", "brown", "cyan")
EDGE: Final = 24.0
"""Where on the floor the words stand, cells from its middle."""

GAP: Final = 6
HEAD: Final = 24
PAPER, INK, ON_FLOOR = (255, 255, 255), (60, 60, 66), (250, 250, 250)


def scene() -> Scene:
    """Nine objects in rows of one size and columns of one material; each shape once in either."""
    shapes = VALUES["shape"]
    objects = [
        Object(
            3 * row + column,
            COLORS[3 * row + column],
            shapes[(column - row) % 3],
            size,
            material,
            (x, y),
            rotation=0.35,
        )
        for row, (size, x) in enumerate(ROWS.items())
        for column, (material, y) in enumerate(COLUMNS.items())
    ]
    return Scene((*objects, Object(9, "red", "cube", "small", "rubber", (40, 40))))


def label(picture: Image.Image, camera: Camera) -> None:
    """Write each material before its column, each size beside its row, on the near sides."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    nearest = float(camera.origin[1])
    side = -EDGE if nearest < 0 else EDGE
    words = {material: (EDGE, float(y)) for material, y in COLUMNS.items()}
    words |= {size: (float(x), side) for size, x in ROWS.items()}
    places = camera.project([(x * CELL, y * CELL, 0.0) for x, y in words.values()])
    for word, (column, row) in zip(words, places.tolist(), strict=True):
        half = font.getlength(word) / 2
        # From the center, large objects lean over the end of their row.
        middle = column + half if word in ROWS and nearest == 0 else column
        middle = min(middle, picture.width - half - GAP)
        draw.text((middle, row), word, ON_FLOOR, font, anchor="mm")


def main() -> None:
    """Render the views and write docs/strip.png."""
    width, height = REFERENCE_SIZE
    renderer = MitsubaRenderer(REFERENCE_SIZE, SAMPLES_PER_PIXEL)
    strip = Image.new("RGB", (len(VIEWS) * (width + GAP) - GAP, HEAD + height), PAPER)
    heads, font = ImageDraw.Draw(strip), ImageFont.load_default(15)
    for n, view in enumerate(VIEWS):
        picture = Image.fromarray(renderer.render(scene(), STANDARD_RIG, view))
        label(picture, Camera.of(STANDARD_RIG, view, REFERENCE_SIZE))
        left = n * (width + GAP)
        strip.paste(picture, (left, HEAD))
        heads.text((left + width / 2, HEAD / 2 - 1), f"from the {view}", INK, font, anchor="mm")
    buffer = io.BytesIO()
    strip.save(buffer, "PNG", optimize=True)
    path = Path(__file__).with_name("strip.png")
    write_atomic(path, buffer.getvalue())
    print(path)


if __name__ == "__main__":
    main()
