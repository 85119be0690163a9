"""Pictures of every kind: which are taken, and as what; what is said of the others."""

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from star_r1.data.pictures import (
    MAX_RATIO,
    MAX_SIDE,
    Unusable,
    check_pictures,
    decode,
    plain_file,
    plain_files,
    read_header,
    read_pair,
)
from star_r1.errors import UserError


def save(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
RGB = Image.fromarray(NOISE)
SOUND = save(RGB)


def png(width: int, height: int, *chunks: tuple[bytes, bytes], data: bytes = b"") -> bytes:
    """A PNG file that only says what it is."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    more = b"".join(chunk(*one) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def turned(form: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(RGB, form, exif=exif)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "is not in the file"),
        ("a.png", "is not in the file"),
        (b"", "has no bytes"),
        (b"text", "is neither PNG nor JPEG"),
        (SOUND[:60], "is cut off"),
        (SOUND[:-1], "is cut off"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is neither PNG nor JPEG"),
        (save(RGB, "BMP"), "is neither PNG nor JPEG"),
        (save(RGB, "TIFF"), "is neither PNG nor JPEG"),
        (save(RGB, "WEBP"), "is neither PNG nor JPEG"),
        (save(RGB, "GIF"), "is neither PNG nor JPEG"),
        (png(13_000, 13_000), f"is 13000x13000; the limit is {MAX_SIDE}x{MAX_SIDE}"),
        (png(60_000, 60_000), "is larger than the limit"),
        (png(1 << 31, 1), "is "),
        (png(0, 5), "is "),
        (png(4 * MAX_RATIO + 1, 4), f"one side is more than {MAX_RATIO} times the other"),
        (save(Image.fromarray(np.zeros((4, 4), np.uint16))), "has mode I;16, not 1 or L or"),
        (save(RGB, save_all=True, append_images=[RGB.rotate(180)]), "has 2 frames, not one"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_refused_before_anything_is_decoded(content: Any, what: str) -> None:
    for read in (read_header, decode, plain_file):
        with pytest.raises(Unusable) as refused:
            read(content)
        assert what in str(refused.value)
        assert "\n" not in str(refused.value)


def test_text_that_unpacks_to_much_is_refused() -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(1 << 26))
    for content in (png(4, 4, (b"zTXt", bomb)), png(4, 4, (b"iCCP", bomb))):
        with pytest.raises(Unusable):
            decode(content)


def test_damage_inside_is_found_when_it_is_decoded() -> None:
    spoilt = SOUND[:50] + bytes(40) + SOUND[90:]
    assert read_header(spoilt).format == "png"
    with pytest.raises(Unusable, match="is damaged"):
        decode(spoilt)
    jpeg = save(RGB, "JPEG")
    with pytest.raises(Unusable, match="is damaged"):
        decode(jpeg[: len(jpeg) // 2])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.filterwarnings("error")
def test_channels_become_rgb_without_alpha(mode: str) -> None:
    content = save(RGB.convert(mode))
    with Image.open(BytesIO(content)) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(np.asarray(decode(content)), expected)
    plain, form = plain_file(content)
    assert form == "png"
    assert (plain == content) == (mode == "RGB")
    assert np.array_equal(np.asarray(Image.open(BytesIO(plain))), expected)


@pytest.mark.filterwarnings("error")
def test_a_palette_with_alpha_and_four_inks() -> None:
    palette = RGB.quantize(4)
    content = save(palette, transparency=bytes([0, 90, 200, 255]))
    assert np.array_equal(np.asarray(decode(content)), np.asarray(palette.convert("RGB")))
    assert decode(save(RGB.convert("CMYK"), "JPEG")).mode == "RGB"


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_exif_says(form: str, orientation: int) -> None:
    from datasets import Image as Feature

    content = turned(form, orientation)
    seen = decode(content)
    # As those see them who load the data by the datasets library.
    theirs = Feature().decode_example({"bytes": content, "path": None})
    assert np.array_equal(np.asarray(seen), np.asarray(theirs))
    assert seen.size == ((6, 9) if orientation > 4 else (9, 6))
    plain, _ = plain_file(content)
    with Image.open(BytesIO(plain)) as picture:
        assert picture.size == seen.size


@given(
    st.binary(max_size=60), st.integers(0, len(SOUND)), st.sampled_from([SOUND, save(RGB, "JPEG")])
)
def test_whatever_the_bytes_nothing_else_is_raised(junk: bytes, at: int, sound: bytes) -> None:
    for content in (junk, sound[:at] + junk + sound[at + len(junk) :], sound + junk):
        for read in (read_header, decode, plain_file):
            with suppress(Unusable):
                read(content)


@pytest.mark.parametrize(
    ("images", "what"),
    [
        (None, "has no pictures, not two"),
        ([], "has 0 pictures, not two"),
        ([{"bytes": SOUND}] * 3, "has 3 pictures, not two"),
        ([{"bytes": SOUND}, None], "its final picture is not in the file"),
        (
            [{"bytes": None, "path": __file__}, {"bytes": SOUND}],
            "its initial picture is not in",
        ),
        ([{"bytes": SOUND}, {"bytes": SOUND[:60]}], "its final picture is cut off"),
    ],
)
@pytest.mark.parametrize("read", [check_pictures, read_pair, plain_files])
def test_a_row_and_its_picture_are_named(read: Callable[..., Any], images: Any, what: str) -> None:
    with pytest.raises(UserError, match=f"^row '7-left': {what}"):
        read({"id": "7-left", "images": images})
