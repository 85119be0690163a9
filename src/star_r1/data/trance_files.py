"""How TRANCE's samples are stored: lines or a list of JSON beside pictures, or an h5 file."""

import functools
import json
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np

from star_r1.data.intake import MAX_TEXT, Flaw, read_picture
from star_r1.data.pictures import MAX_BYTES, MAX_RATIO, MAX_SIDE
from star_r1.data.shards import encode_png
from star_r1.errors import UserError
from star_r1.files import leads_out, read_regular

NAMES: Final = ("data_renderable.jsonl", "data.jsonl", "data.json", "data.h5")
"""Files that hold samples; of those in a folder the first one is read."""
MAX_LIST: Final = 1 << 28
"""Bytes of a JSON list, which is read as a whole."""
MAX_KEYS: Final = 1 << 27
"""Bytes of the list of keys of an h5 file."""
MAX_CHUNK: Final = 4 * MAX_SIDE**2
"""Bytes of a piece in which an h5 file stores a dataset: one is unpacked as a whole."""


class Files(Protocol):
    """How the samples are stored. It goes to other processes, so it must pickle."""

    @property
    def label(self) -> str:
        """What faults call it."""

    @property
    def one_split(self) -> bool:
        """Whether it holds nothing but the split that was asked for."""

    def count(self) -> int:
        """Samples in it, about."""

    def texts(self) -> Iterator[tuple[int, str, bytes]]:
        """Of each sample: its place, what faults call that, its JSON."""

    def text(self, place: int) -> bytes:
        """The JSON of one sample."""

    def has(self, name: str) -> bool:
        """Whether it has a picture of this name."""

    def picture(self, name: str) -> tuple[bytes, tuple[int, int]]:
        """A picture as PNG without alpha, and its width and height; raises Flaw."""


def find_files(source: Path, split: str) -> Files:
    """Open what TRANCE was downloaded to, or what its preprocessing wrote.

    Args:
        source: a folder that holds one of ``NAMES``, or such a file of any name, known by its
            ending. Pictures are in ``image/`` beside it, those of an h5 file in it.
        split: which of the splits of an h5 file.

    Raises:
        UserError: it is none of these.
    """
    path = source
    if source.is_dir():
        found = [source / name for name in NAMES if (source / name).is_file()]
        if not found:
            raise UserError(f"{source}: has none of {', '.join(NAMES)}; name the folder of TRANCE")
        path = found[0]
    elif not source.is_file():
        raise UserError(f"{source}: no such file or folder; name the folder of TRANCE")
    if path.suffix in (".h5", ".hdf5"):
        return _H5File(path, split)
    return find_json(path, path.parent / "image")


def find_json(path: Path, images: Path) -> Files:
    """Open a file of JSON.

    Args:
        path: one sample a line (``.jsonl``), or a list of samples (``.json``).
        images: folder of the pictures.

    Raises:
        UserError: there is no such file, or it has another ending.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix not in (".json", ".jsonl"):
        raise UserError(f"{path}: neither .jsonl (one sample a line) nor .json (a list)")
    return (_JsonLines if path.suffix == ".jsonl" else _JsonList)(path, images)


@dataclass(frozen=True, slots=True)
class _JsonFile:
    """A file of JSON, and the folder of its pictures."""

    path: Path
    images: Path

    @property
    def label(self) -> str:
        return self.path.name

    @property
    def one_split(self) -> bool:
        return False

    def has(self, name: str) -> bool:
        try:
            return (self.images / name).is_file()
        except OSError:  # too long a name
            return False

    def picture(self, name: str) -> tuple[bytes, tuple[int, int]]:
        shown = f"{self.images.name}/{name}"
        try:
            if leads_out(self.images / name, self.images):
                raise Flaw(shown, "is a link that leads out of the folder of the pictures")
            data = read_regular(self.images / name, MAX_BYTES)
        except FileNotFoundError:
            raise Flaw(shown, "is missing") from None
        except (OSError, RuntimeError) as error:  # a loop of links
            what = error.strerror if isinstance(error, OSError) else "a loop of links"
            raise Flaw(shown, f"cannot be read: {what}") from None
        return read_picture(data, shown)


class _JsonLines(_JsonFile):
    """``data.jsonl`` or ``data_renderable.jsonl``: read line by line; a place is a byte."""

    __slots__ = ()

    def count(self) -> int:
        with self.path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def texts(self) -> Iterator[tuple[int, str, bytes]]:
        with self.path.open("rb") as file:
            number = 0
            while True:
                place = file.tell()
                line = _line(file)
                if not line:
                    return
                number += 1
                if not line.isspace():
                    yield place, f"{self.label}:{number}", line

    def text(self, place: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(place)
            return _line(file)


def _line(file: BinaryIO) -> bytes:
    """The next line, cut at ``MAX_TEXT`` bytes."""
    line = file.readline(MAX_TEXT)
    rest = line
    while len(rest) == MAX_TEXT and not rest.endswith(b"\n"):
        rest = file.readline(MAX_TEXT)
    return line


class _JsonList(_JsonFile):
    """A JSON list, as the project site of TRANCE has it; a place is an index."""

    __slots__ = ()

    def count(self) -> int:
        return len(_read_list(self.path))

    def texts(self) -> Iterator[tuple[int, str, bytes]]:
        for place in range(self.count()):
            yield place, f"{self.label}[{place}]", self.text(place)

    def text(self, place: int) -> bytes:
        return json.dumps(_read_list(self.path)[place]).encode()


@functools.lru_cache(maxsize=1)
def _read_list(path: Path) -> list[Any]:
    if path.stat().st_size > MAX_LIST:
        raise UserError(
            f"{path}: a JSON list of more than {MAX_LIST >> 20} MB; write one sample a line "
            "(.jsonl), which is read line by line"
        )
    try:
        items = json.loads(read_regular(path, MAX_LIST))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(items, list):
        raise UserError(f"{path}: not a JSON list of samples")
    return items


@dataclass(frozen=True, slots=True)
class _H5File:
    """One split of ``data.h5``, which TRANCE's preprocessing writes; a place is an idx."""

    path: Path
    split: str

    @property
    def label(self) -> str:
        return self.path.name

    @property
    def one_split(self) -> bool:
        return True

    def count(self) -> int:
        return len(_read_keys(self.path, self.split))

    def texts(self) -> Iterator[tuple[int, str, bytes]]:
        for place in _read_keys(self.path, self.split):
            yield place, f"{self.label}:/{self.split}/data/{place}", self.text(place)

    def text(self, place: int) -> bytes:
        try:
            return _read_text(self.path, f"{self.split}/data/{place}", MAX_TEXT)
        except (KeyError, *_H5_ERRORS):
            return b""  # which is no JSON: a fault of this sample

    def has(self, name: str) -> bool:
        try:
            _find(self.path, f"{self.split}/image/{name}")
        except KeyError:
            return False
        except _H5_ERRORS:  # ``picture`` says what
            return True
        return True

    def picture(self, name: str) -> tuple[bytes, tuple[int, int]]:
        where = f"/{self.split}/image/{name}"
        try:
            data = _find(self.path, where.strip("/"))
            height, width, channels = data.shape
            long, short = max(height, width), min(height, width)
            if (
                data.dtype != np.uint8
                or channels not in (3, 4)
                or not 0 < long <= min(MAX_SIDE, MAX_RATIO * short)
            ):
                raise ValueError(f"holds {data.dtype} of shape {data.shape}")
            picture = np.ascontiguousarray(data[()][..., :3])
        except KeyError:
            raise Flaw(where, "is missing") from None
        except _H5_ERRORS as error:
            cause = " ".join(str(error).split())
            raise Flaw(where, f"is no picture or damaged ({cause})") from None
        return encode_png(picture), (width, height)


@functools.lru_cache(maxsize=1)
def _open_h5(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        cause = " ".join(str(error).split())
        raise UserError(f"{path}: no h5 file, or damaged ({cause})") from None


_H5_ERRORS: Final = (OSError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError)
"""What h5py raises where a file is damaged, or was made to do harm."""


def _find(path: Path, place: str) -> Any:
    """A dataset of an h5 file: one that lies in the file itself, within limits.

    An h5 file can name others, whose bytes would be taken for its own: by links, as raw storage
    or as parts of a virtual dataset.

    Raises:
        KeyError: there is none.
        ValueError: it lies elsewhere, or is stored in pieces that are too large.
    """
    import h5py

    node = _open_h5(path)
    for part in place.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) and part else None
        if link is None:
            raise KeyError(place)
        if not isinstance(link, h5py.HardLink):
            raise ValueError("is a link, not in the file itself")
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise ValueError("is no dataset")
    if node.external or node.is_virtual:
        raise ValueError("its bytes are those of another file")
    if math.prod(node.chunks or ()) * node.dtype.itemsize > MAX_CHUNK:
        raise ValueError(f"is stored in pieces of more than {MAX_CHUNK >> 20} MB")
    return node


@functools.lru_cache(maxsize=1)
def _read_keys(path: Path, split: str) -> "array[int]":
    """The ``idx`` of the samples of a split, which the file has as the text of a Python list."""
    if split not in (splits := list(_open_h5(path))):
        raise UserError(f"{path}: has no split {split!r}; it has {', '.join(splits) or 'nothing'}")
    try:
        text = _read_text(path, f"{split}/keys", MAX_KEYS).decode(errors="replace")
    except (KeyError, *_H5_ERRORS) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"{path}: /{split}/keys: not a list of numbers ({cause})") from None
    numbers = text.strip().removeprefix("[").removesuffix("]").replace("'", " ").split(",")
    try:
        return array("q", map(int, numbers if text.strip() != "[]" else ()))
    except (ValueError, OverflowError):
        raise UserError(f"{path}: /{split}/keys: not a list of numbers") from None


def _read_text(path: Path, place: str, limit: int) -> bytes:
    data = _find(path, place)
    value = data[()] if data.shape == () and data.dtype.itemsize <= limit else None
    return value[:limit] if isinstance(value, bytes) else b""
