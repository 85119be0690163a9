"""One pair as a picture for people: indices on the objects, table and true changes below."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from star_r1.data.dataset import read_row, row_to_sample
from star_r1.data.marks import label_places
from star_r1.errors import UserError
from star_r1.files import write_atomic
from star_r1.render.visibility import count_pixels, instance_mask
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import UNKNOWN_RIG, Object
from star_r1.tvr.vocabulary import MIN_VISIBLE_PIXELS

Color: TypeAlias = tuple[int, int, int]

PICTURE_WIDTH: Final = 720
_MARGIN: Final = 32
_LINE: Final = 34
_PAPER: Final[Color] = (250, 249, 246)
_INK: Final[Color] = (33, 33, 36)
_FAINT: Final[Color] = (134, 134, 140)
_RULE: Final[Color] = (222, 220, 214)
_ACCENT: Final[Color] = (206, 68, 12)
_WASH: Final[Color] = (253, 237, 224)
_ON_PICTURE: Final[Color] = (255, 255, 255)
_CHANGED_ON_PICTURE: Final[Color] = (255, 200, 60)


def show(folder: Path, sample_id: str, out: Path) -> None:
    """Draw the pair ``sample_id`` of a dataset folder and write it to ``out``.

    Both pictures side by side with the index on each object that can be seen, those of changed
    objects in orange. Below, the visible objects with old and new values and their visible
    pixels (of a 320x240 picture), and the true changes.

    Args:
        folder: a dataset that ``star-r1 generate`` wrote.
        sample_id: of a row, such as ``000012-left``.
        out: an image file; its ending names the format (png, jpg, webp, ...).

    Raises:
        UserError: the dataset is missing or damaged, the id is unknown, ``out`` has an ending of
            no image format or cannot be written.
    """
    kind = Image.registered_extensions().get(out.suffix.lower())
    if kind not in Image.SAVE:
        raise UserError(f"{out}: {out.suffix or 'no ending'} is no image format; name a .png file")
    row = read_row(folder, sample_id)
    buffer = BytesIO()
    draw_pair(row_to_sample(row), row["images"]).save(buffer, kind)
    write_atomic(out, buffer.getvalue())


def draw_pair(sample: Sample, pictures: list[Image.Image]) -> Image.Image:
    """The picture that ``show`` writes.

    Args:
        sample: what is in the pictures.
        pictures: initial and final, RGB, of one size.

    Returns:
        RGB; its width does not depend on the size of the pictures.
    """
    width, height = pictures[0].size
    shown = (PICTURE_WIDTH, round(height * PICTURE_WIDTH / width))
    top = _MARGIN + 2 * _LINE + 8
    table = top + shown[1] + _MARGIN
    rows = max(len(_listed(sample)), len(sample.changes))
    paper = _Paper(
        Image.new(
            "RGB",
            (3 * _MARGIN + 2 * shown[0], table + (rows + 1) * _LINE + _MARGIN),
            _PAPER,
        )
    )
    paper.text((_MARGIN, _MARGIN - 8), sample.id, size=28)
    changed = {change.index for change in sample.changes}
    left, right = _MARGIN, 2 * _MARGIN + shown[0]
    for x, picture, scene, view, title in (
        (left, pictures[0], sample.initial, "center", "initial"),
        (right, pictures[1], sample.final, sample.view, "final"),
    ):
        paper.text((x, top - _LINE), f"{title}, seen from {view}", _FAINT)
        paper.image.paste(picture.resize(shown, Image.Resampling.LANCZOS), (x, top))
        if sample.rig == UNKNOWN_RIG:  # nobody knows where in the picture an object is
            continue
        mask = instance_mask(scene, sample.rig, view, shown)
        for index, (column, row) in label_places(mask, scene).items():
            color = _CHANGED_ON_PICTURE if index in changed else _ON_PICTURE
            paper.label((x + column, top + row), str(index), color)
    width = _draw_table(paper, (left, table), sample)
    _draw_changes(paper, (left + width + 50, table), sample)
    return paper.image


@dataclass(frozen=True)
class _Paper:
    image: Image.Image

    def text(self, at: tuple[float, float], text: str, color: Color = _INK, size: int = 20) -> None:
        """Write from the top left corner ``at``."""
        self._draw.text(at, text, color, _font(size))

    def change(self, at: tuple[float, float], old: str, new: str) -> None:
        """Write both values; Pillow's own font has no arrow to put between them."""
        self.text(at, old, _ACCENT)
        x, y = at[0] + _font(20).getlength(old) + 8, at[1] + 13
        self._draw.line(((x, y), (x + 14, y)), _ACCENT, 2)
        self._draw.polygon(((x + 12, y - 5), (x + 20, y), (x + 12, y + 5)), _ACCENT)
        self.text((x + 27, at[1]), new, _ACCENT)

    def label(self, at: tuple[float, float], text: str, color: Color) -> None:
        """Write around ``at`` so that it can be read on anything."""
        self._draw.text(
            at, text, color, _font(22), anchor="mm", stroke_width=3, stroke_fill=(20, 20, 22)
        )

    def rule(self, at: tuple[float, float], width: float) -> None:
        self._draw.line((at, (at[0] + width, at[1])), _RULE, 2)

    def wash(self, at: tuple[float, float], width: float) -> None:
        """Mark one line of the table."""
        corner = (at[0] + width, at[1] + _LINE - 4)
        self._draw.rounded_rectangle((at, corner), 6, _WASH)

    def dot(self, at: tuple[float, float], color: Color) -> None:
        self._draw.ellipse((at, (at[0] + 16, at[1] + 16)), color, _FAINT)

    @property
    def _draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _listed(sample: Sample) -> list[int]:
    """The indices of the objects in sight before or after."""
    both = zip(sample.initial.objects, sample.final.objects, strict=True)
    return [before.index for before, after in both if before.visible or after.visible]


def _draw_table(paper: _Paper, at: tuple[int, int], sample: Sample) -> int:
    """The objects in sight, one a line; old and new of a changed value. Returns its width."""
    x, y = at
    columns = {"index": 10, "size": 80, "color": 276, "material": 464, "shape": 628}
    width = 820
    if "position" in sample.vocabulary.attributes:
        columns["place"] = width
        width += 190
    pixels: dict[str, tuple[int, dict[int, int]]] = {}
    if sample.rig != UNKNOWN_RIG:
        for name, scene, view in (
            ("initial", sample.initial, "center"),
            ("final", sample.final, sample.view),
        ):
            pixels[name] = width, count_pixels(scene, sample.rig, view)
            width += 100
    for name, offset in columns.items():
        paper.text((x + offset, y), name, _FAINT)
    for name, (offset, _) in pixels.items():
        paper.text((x + offset, y), f"{name} px", _FAINT)
    for index in _listed(sample):
        y += _LINE
        paper.rule((x, y - 5), width)
        before, after = sample.initial.objects[index], sample.final.objects[index]
        if after != before:
            paper.wash((x, y - 2), width)
        paper.text((x + columns["index"], y), str(index))
        for column in list(columns)[1:]:
            place = (x + columns[column], y)
            old, new = _cell(before, column), _cell(after, column)
            if column == "color":
                paper.dot((place[0], y + 4), sample.vocabulary.colors[new])
                place = (place[0] + 24, y)
            if old == new:
                paper.text(place, old)
            else:
                paper.change(place, old, new)
        for offset, counts in pixels.values():
            seen = counts.get(index, 0)
            color = _INK if seen >= MIN_VISIBLE_PIXELS else _FAINT
            paper.text((x + offset, y), str(seen) if seen else "hidden", color)
    return width


def _cell(thing: Object, column: str) -> str:
    if column == "place":
        return "{}, {}".format(*thing.position)
    return thing.attribute(column)


def _draw_changes(paper: _Paper, at: tuple[int, int], sample: Sample) -> None:
    x, y = at
    paper.text(at, "true changes", _FAINT)
    for change in sample.changes:
        y += _LINE
        paper.text((x, y), str(change), _ACCENT)
