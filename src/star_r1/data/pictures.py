"""The one reader of pictures: PNG and JPEG by their bytes, within limits that hold before decoding.

What a file of others calls a picture may be anything: a path to someone's files, a page of
PostScript, a few bytes that unpack to gigabytes, 16-bit grey that 8 bits would show as white.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, TypeVar

from PIL import Image, ImageOps, UnidentifiedImageError

from star_r1.errors import UserError
from star_r1.progress import progress
from star_r1.texts import harmless

MAX_SIDE: Final = 4096
"""Pixels of a picture's width and height."""
MAX_BYTES: Final = 1 << 26
"""Of a file: somewhat more than the largest picture takes without any compression."""
MAX_RATIO: Final = 200
"""Between the sides; Qwen's image processors refuse more (``smart_resize``)."""
MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")
"""Of Pillow: those with at most 8 bits a channel."""

PAIR: Final = ("initial", "final")

T = TypeVar("T")

_FORMATS: Final = ("PNG", "JPEG")
PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
_TURNS: Final = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""Texts of a PNG file that may say how it is to be turned, as its chunk ``eXIf`` may."""
_ORIENTATION: Final = 0x0112


class Unusable(ValueError):
    """A picture cannot be used; the text says what it is or has: ``is cut off``."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture file says of itself.

    Attributes:
        format: ``png`` or ``jpeg``.
        mode: Pillow's name of its channels.
        plain: whether every program shows it alike: RGB, and not to be turned.
    """

    format: str
    mode: str
    plain: bool


def read_header(content: Any, modes: tuple[str, ...] = MODES) -> Header:
    """Check a picture file without decoding it.

    Raises:
        Unusable: it is no whole PNG or JPEG file, too large, too long for its width, animated, or
            has other channels than ``modes``.

    >>> buffer = BytesIO()
    >>> Image.new("RGB", (4, 3)).save(buffer, "PNG")
    >>> read_header(buffer.getvalue())
    Header(format='png', mode='RGB', plain=True)
    >>> read_header(buffer.getvalue()[:40])
    Traceback (most recent call last):
    ...
    star_r1.data.pictures.Unusable: is cut off
    """
    with _open(content, modes) as image:
        turned = _may_turn(content) if image.format == "PNG" else _orientation(image) != 1
        return Header(str(image.format).lower(), image.mode, image.mode == "RGB" and not turned)


def decode(content: Any) -> Image.Image:
    """A picture as a model is shown it: RGB, upright as its EXIF says, without alpha.

    Raises:
        Unusable: as ``read_header``, or what it holds is damaged.
    """
    with _open(content, MODES) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
            if "transparency" in upright.info:  # of a palette: Pillow warns without this step
                upright = upright.convert("RGBA")
            return upright.convert("RGB")
        except Exception as error:  # whatever Pillow met in there
            raise Unusable(f"is damaged ({_words(error)})") from None


def plain_file(content: bytes) -> tuple[bytes, str]:
    """A picture file that every program shows as ``decode`` does, and its format.

    The file itself where that holds, else what is seen as PNG.

    Raises:
        Unusable: as ``decode``; the pixels of a file that is taken as it is are not looked at.
    """
    header = read_header(content)
    if header.plain:
        return content, header.format
    buffer = BytesIO()
    decode(content).save(buffer, "PNG")
    return buffer.getvalue(), "png"


def open_picture(content: Any, modes: tuple[str, ...]) -> Image.Image:
    """A decoded picture file with its own channels, one of ``modes``: a mask, a depth.

    Raises:
        Unusable: as ``decode``.
    """
    with _open(content, modes) as image:
        try:
            image.load()
            return image.copy()
        except Exception as error:  # whatever Pillow met in there
            raise Unusable(f"is damaged ({_words(error)})") from None


def check_sums(content: bytes) -> None:
    """Compare all checksums of a PNG file; decoding looks at those of the pixels alone.

    Raises:
        Unusable: as ``read_header``, or one of them is another.
    """
    with _open(content, MODES) as image:
        try:
            image.verify()
        except Exception as error:  # whatever Pillow met in there
            raise Unusable(f"is damaged ({_words(error)})") from None


def _open(content: Any, modes: tuple[str, ...]) -> Image.Image:
    """A picture that is not decoded yet, within all limits."""
    if not isinstance(content, bytes):
        raise Unusable("is not in the file")
    if not content:
        raise Unusable("has no bytes")
    if len(content) > MAX_BYTES:
        raise Unusable(f"is a file of more than {MAX_BYTES >> 20} MB")
    if content.startswith(PNG_START) and not content.endswith(_PNG_END):
        raise Unusable("is cut off")
    try:
        with warnings.catch_warnings():
            # Of a large picture, which the next lines refuse.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content), formats=_FORMATS)
        frames = getattr(image, "n_frames", 1)
    except UnidentifiedImageError:
        raise Unusable("is neither PNG nor JPEG, or its start is damaged") from None
    except Image.DecompressionBombError:
        raise Unusable(f"is larger than the limit of {MAX_SIDE}x{MAX_SIDE} pixels") from None
    except Exception as error:  # whatever Pillow met in there
        raise Unusable(f"is damaged ({_words(error)})") from None
    width, height = image.size
    if max(image.size) > MAX_SIDE:
        raise Unusable(f"is {width}x{height}; the limit is {MAX_SIDE}x{MAX_SIDE}")
    if max(image.size) > MAX_RATIO * min(image.size):
        raise Unusable(f"is {width}x{height}; one side is more than {MAX_RATIO} times the other")
    if frames != 1:
        raise Unusable(f"has {frames} frames, not one")
    if image.mode not in modes:
        raise Unusable(f"has mode {image.mode}, not {' or '.join(modes)}")
    return image


def _may_turn(png: bytes) -> bool:
    """Whether a PNG file has a place that says how to turn it, before its pixels or after."""
    at = len(PNG_START)
    while at < len(png):
        kind, start = png[at + 4 : at + 8], png[at + 8 : at + 40]
        if kind == b"eXIf" or (kind in (b"tEXt", b"zTXt", b"iTXt") and start.startswith(_TURNS)):
            return True
        at += 12 + int.from_bytes(png[at : at + 4])
    return False


def _orientation(image: Image.Image) -> int:
    """How the picture is to be turned, as EXIF has it; 1 for not at all."""
    try:
        return int(image.getexif().get(_ORIENTATION) or 1)
    except Exception:  # whatever Pillow met in there: an EXIF part that says nothing
        return 1


def _words(error: Exception) -> str:
    return harmless(" ".join(str(error).split()) or type(error).__name__, 200)


# Of rows.


def check_pictures(row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The two picture files of a row as they lie in the dataset, checked but not decoded.

    Args:
        row: with ``id`` and ``images``, as ``dataset.load`` and ``dataset.read_columns`` give them.

    Raises:
        UserError: one of them cannot be used; row and picture are named.
    """
    _each(row, read_header)
    initial, final = (image["bytes"] for image in row["images"])
    return initial, final


def check_all(rows: Any) -> None:
    """``check_pictures`` of every row of a dataset that ``dataset.load`` opened."""
    some = rows.select_columns(["id", "images"]).with_format("arrow")
    with progress("Checking pictures", len(rows), "rows") as advance:
        for table in some.iter(batch_size=64):
            for row in table.to_pylist():
                check_pictures(row)
            advance(len(table))


def read_pair(row: Mapping[str, Any]) -> list[Image.Image]:
    """The initial and the final picture of a row as ``decode`` gives them.

    Args:
        row: as ``check_pictures`` takes it.

    Raises:
        UserError: one of them cannot be used; row and picture are named.
    """
    return _each(row, decode)


def plain_files(row: Mapping[str, Any]) -> list[tuple[bytes, str]]:
    """The two picture files of a row for programs of others, each with its format.

    Args:
        row: as ``check_pictures`` takes it.

    Raises:
        UserError: one of them cannot be used; row and picture are named.
    """
    return _each(row, plain_file)


def _each(row: Mapping[str, Any], read: Callable[[Any], T]) -> list[T]:
    """What ``read`` makes of each of the two files."""
    images = row["images"]
    if not isinstance(images, list | tuple) or len(images) != len(PAIR):
        many = len(images) if isinstance(images, list | tuple) else "no"
        raise _refused(row, f"has {many} pictures, not two")
    found = []
    for which, image in zip(PAIR, images, strict=True):
        try:
            found.append(read(image["bytes"] if isinstance(image, Mapping) else None))
        except Unusable as fault:
            raise _refused(row, f"its {which} picture {fault}") from None
    return found


def _refused(row: Mapping[str, Any], what: str) -> UserError:
    return UserError(
        f"row {row.get('id')!r}: {what}; 'star-r1 verify' names all such rows; make or import the "
        "data again"
    )
