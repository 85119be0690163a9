"""Where in a picture each object is: the exact outlines of its mask as SVG paths, its label."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from star_r1.render.visibility import Mask, boxes

Corner: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Outline:
    """One object in a picture; pixels from the top left corner.

    Attributes:
        path: of SVG, to be filled by the even-odd rule: the borders of the mask's pixels.
        label: column, row of a place for its index: above the middle of what is seen of it.
    """

    path: str
    label: tuple[float, float]


def outlines(mask: Mask) -> dict[int, Outline]:
    """Index of each object that shows a pixel -> where it is.

    Args:
        mask: as ``render.visibility.instance_mask`` returns it, shape (height, width).

    >>> outlines(np.array([[255, 255, 255, 255], [255, 7, 7, 255]], np.uint8))
    {7: Outline(path='M1 1h2v1h-2z', label=(2.0, 1.0))}
    """
    found = {}
    for index, (left, top, right, bottom) in boxes(mask).items():
        shown = mask[top:bottom, left:right] == index
        middle = left + float(np.nonzero(shown)[1].mean()) + 0.5
        found[index] = Outline(trace(shown, (left, top)), (round(middle, 1), float(top)))
    return found


def trace(shown: NDArray[np.bool_], corner: Corner = (0, 0)) -> str:
    """The borders between pixels that are ``shown`` and those that are not, as an SVG path.

    Each border is closed, goes clockwise about what is shown and counterclockwise about holes, and
    has a corner only where it turns.

    Args:
        shown: a part of a picture, shape (height, width).
        corner: column, row of its top left pixel in the picture.

    >>> trace(np.array([[True, True], [True, False]]))
    'M0 0h2v1h-1v1h-1z'
    """
    # Above what is shown a border goes right, below it left; to its right down, to its left up.
    across: dict[Corner, list[int]] = {}
    for y, left, right, begins in _borders(shown):
        start, end = (left, right) if begins else (right, left)
        across.setdefault((start, y), []).append(end)
    along: dict[Corner, list[int]] = {}
    for x, top, bottom, begins in _borders(shown.T):
        start, end = (bottom, top) if begins else (top, bottom)
        along.setdefault((x, start), []).append(end)
    # Where two pixels meet by their tips, two borders of a kind begin: which of them follows
    # which makes no difference to what is drawn.
    path = []
    while across:
        x, y = first = next(iter(across))
        path.append(f"M{x + corner[0]} {y + corner[1]}")
        while True:
            to_x = _take(across, (x, y))
            to_y = _take(along, (to_x, y))
            path.append(f"h{to_x - x}")
            if (to_x, to_y) == first:
                break
            path.append(f"v{to_y - y}")
            x, y = to_x, to_y
        path.append("z")
    return "".join(path)


def _borders(shown: NDArray[np.bool_]) -> list[tuple[int, int, int, bool]]:
    """The straight borders between rows: row, first and last column, whether it begins there."""
    rows = np.pad(shown.astype(np.int8), ((1, 1), (1, 1)))
    steps = np.diff(rows, axis=0)
    inner = steps[:, 1:-1]
    lines, starts = np.nonzero((inner != 0) & (inner != steps[:, :-2]))
    _, ends = np.nonzero((inner != 0) & (inner != steps[:, 2:]))
    begins = inner[lines, starts] > 0
    columns = (lines.tolist(), starts.tolist(), (ends + 1).tolist(), begins.tolist())
    return list(zip(*columns, strict=True))


def _take(borders: dict[Corner, list[int]], start: Corner) -> int:
    ends = borders[start]
    end = ends.pop()
    if not ends:
        del borders[start]
    return end
